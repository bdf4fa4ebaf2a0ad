"""A price that was wrong: what changes is shown, and then changed wherever it is booked."""

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Sum

from runs.budgets import credits, definitions, repricing
from runs.lifecycle import endings
from runs.models import BudgetCount, Run, RunStatus, Step, Usage, UsageDay
from runs.usage import report as usage_report
from runs.usage.days import rebuild_days
from runs.usage.periods import Span, today
from teammates.access import Access
from teammates.errors import Forbidden, Invalid, NotFound
from teammates.llm import catalog
from teammates.models import Model, ModelPrice
from tests.factories import bring_to, browser_of, claim, make_run
from tests.runs.budgets.spending import begin, end
from tests.runs.usage.spending import spend

pytestmark = pytest.mark.django_db
LANES = {"uncached_input": "3", "cache_read": "0.3", "cache_write": "3.75", "output": "15"}


@pytest.fixture
def small(alice: Access) -> Model:
    provider = catalog.create_provider(
        alice, name="Ours", kind="openai_compatible", base_url="http://127.0.0.1:9/v1"
    )
    return catalog.add_model(alice, provider, alias="ours", name="small")


def spent(access: Access, chance: random.Random) -> Run:
    run = make_run(access)
    spend(run, chance)
    Step.objects.filter(run=run, model_name="small").update(model_alias="ours")
    return run


def test_every_sum_is_what_the_new_price_makes_of_it(
    alice: Access, bob: Access, eve: Access, small: Model
) -> None:
    chance = random.Random(5)
    month = definitions.set_budget(alice, period="month", amount="1000", action="tell")
    mine = definitions.set_budget(
        alice, period="day", amount="1000", action="tell", member=bob.user
    )
    for number in range(30):
        run = spent(chance.choice([alice, bob, eve]), chance)
        if number % 5:
            bring_to(run, chance.choice([RunStatus.COMPLETED, RunStatus.FAILED]))
    # What the calls cost was counted as they were made.
    for budget, runs in ((month, {}), (mine, {"run__created_by": bob.user})):
        steps = Step.objects.filter(run__organization=alice.organization, **runs)
        cost = steps.exclude(kind="tools").aggregate(n=Sum("cost"))["n"]
        counted = budget.counts.get_or_create(starts_on=_began(budget.period))[0]
        BudgetCount.objects.filter(pk=counted.pk).update(spent=cost)
    of_eve = set(Usage.objects.filter(organization=eve.organization).values_list("pk", "cost"))
    wanted = repricing.preview(alice, small, today(), **LANES)
    assert wanted.calls > 10
    assert wanted.unpriced > 0
    assert repricing.correct_price(alice, small, today(), **LANES) == wanted

    price = ModelPrice.objects.get(model=small)
    for step in Step.objects.filter(model_alias="ours", run__organization=alice.organization):
        if step.kind != "tools" and step.input_tokens + step.output_tokens:
            uncached = step.input_tokens - step.cache_read_tokens
            tokens = (max(uncached, 0), step.cache_read_tokens, 0, step.output_tokens)
            lanes = zip(tokens, catalog.LANES, strict=True)
            cost = sum(n * getattr(price, lane) for n, lane in lanes) / 1_000_000
            assert step.cost is not None
            assert abs(step.cost - cost) <= Decimal("0.000001")
    assert rebuild_days().changed == 0
    for run in Run.objects.exclude(finished_at=None):
        sums = run.usage.aggregate(known=Sum("cost"), lacking=Sum("unpriced_calls"))
        assert run.cost == (None if sums["lacking"] else sums["known"] or Decimal(0))
    assert of_eve == set(
        Usage.objects.filter(organization=eve.organization).values_list("pk", "cost")
    )
    for budget, runs in ((month, {}), (mine, {"run__created_by": bob.user})):
        steps = Step.objects.filter(run__organization=alice.organization, **runs)
        cost = steps.exclude(kind="tools").aggregate(n=Sum("cost"))["n"]
        assert budget.counts.get().spent == cost
    assert repricing.preview(alice, small, today(), **LANES).calls == 0  # it is done


def _began(period: str) -> Any:
    return today().replace(day=1) if period == "month" else today()


def test_what_changed_since_the_runs_ended_is_counted_once(
    alice: Access, bob: Access, small: Model
) -> None:
    for access in (alice, bob):
        bring_to(spent(access, random.Random(1)), RunStatus.COMPLETED)
    alice.organization.timezone = "Pacific/Kiritimati"
    alice.organization.save()
    Run.objects.filter(created_by=bob.user).update(created_by=None)
    since = today(alice.organization.zone) - timedelta(days=1)
    repricing.correct_price(alice, small, since, **LANES)
    assert rebuild_days().changed == 0
    assert sum(UsageDay.objects.values_list("runs", flat=True)) == 2


def test_a_dearer_price_uses_up_what_a_run_was_allowed(alice: Access, small: Model) -> None:
    run = make_run(alice)
    claim(run)
    definitions.set_budget(alice, period="run", amount="0", action="pause")
    definitions.grant(run, Decimal("5"))
    step = begin(run.pk, 1, Decimal("3"))
    assert step is not None
    called = {"model_alias": "ours", "model_name": "small", "input_tokens": 1_000_000}
    Step.objects.filter(pk=step.pk).update(**called)
    end(step, Decimal("1.50"))
    repricing.correct_price(alice, small, today(), **LANES)  # twice as dear
    assert BudgetCount.objects.get(budget=None).spent == Decimal("3")
    assert begin(run.pk, 2, Decimal("2.10")) is None
    assert begin(run.pk, 2, Decimal("2")) is not None


def test_credits_that_were_taken_stay_as_they_are(home: Access, small: Model) -> None:
    bring_to(spent(home, random.Random(1)), RunStatus.COMPLETED)
    credits.adjust(home, home.organization, 1000)
    repricing.correct_price(home, small, today(), **LANES)
    assert BudgetCount.objects.get(budget__period="credits").spent == 0


def test_what_ends_later_is_booked_by_the_corrected_steps(alice: Access, small: Model) -> None:
    run = spent(alice, random.Random(1))
    repricing.correct_price(alice, small, today(), **LANES)
    endings.cancel_run(run)
    assert rebuild_days().changed == 0
    steps = Step.objects.filter(run=run, model_name="small").exclude(kind="tools")
    known = [step.cost for step in steps if step.cost is not None]
    [usage] = Usage.objects.filter(run=run, model_name="small")
    assert usage.cost == sum(known)


def test_prices_set_after_the_day_are_replaced_and_those_before_stay(
    alice: Access, small: Model
) -> None:
    before = ModelPrice.objects.create(
        model=small,
        valid_from=endings.timezone.now() - timedelta(days=40),
        **catalog.read_price("1", "1", "1", "1"),
    )
    catalog.set_price(alice, small, **LANES)
    corrected = LANES | {"output": "20"}
    repricing.correct_price(alice, small, today() - timedelta(days=3), **corrected)
    prices = list(ModelPrice.objects.filter(model=small).order_by("valid_from"))
    assert prices[0] == before
    assert [price.output for price in prices] == [1, 20]
    assert small.price_now() == prices[1]


@pytest.mark.parametrize(
    ("since", "lanes"),
    [
        (today() + timedelta(days=2), LANES),
        (today().replace(year=1999), LANES),
        (today(), LANES | {"output": "much"}),
        (today(), LANES | {"output": "-1"}),
    ],
)
def test_what_cannot_be_is_refused(
    alice: Access, small: Model, since: Any, lanes: dict[str, str]
) -> None:
    with pytest.raises(Invalid):
        repricing.correct_price(alice, small, since, **lanes)
    assert not ModelPrice.objects.filter(model=small).exists()


def test_only_who_manages_models_of_the_organization_corrects_a_price(
    bob: Access, eve: Access, small: Model
) -> None:
    for other, refusal in ((bob, Forbidden), (eve, NotFound)):
        with pytest.raises(refusal):
            repricing.correct_price(other, small, today(), **LANES)
    path = f"/settings/models/{small.pk}/price/"
    form = LANES | {"since": f"{today()}", "confirmed": "1"}
    assert browser_of(bob).post(path, form).status_code == 403
    assert browser_of(eve).post(path, form).status_code == 404


def test_the_page_shows_what_changes_before_it_does(alice: Access, small: Model) -> None:
    bring_to(spent(alice, random.Random(1)), RunStatus.COMPLETED)
    browser, path = browser_of(alice), f"/settings/models/{small.pk}/price/"
    before = set(Usage.objects.values_list("pk", "cost"))
    page = browser.post(path, LANES | {"since": f"{today()}"}).content.decode()
    assert "Correct the price" in page
    assert before == set(Usage.objects.values_list("pk", "cost"))
    browser.post(path, LANES | {"since": f"{today()}", "confirmed": "1"})
    assert before != set(Usage.objects.values_list("pk", "cost"))
    assert (
        usage_report.report(alice, Span.last(1), by=["model"]).sums.cost
        == (UsageDay.objects.aggregate(n=Sum("cost"))["n"])
    )
    said = browser.post(path, LANES | {"since": "then"}, headers={"referer": "/settings/models/"})
    assert said.status_code == 302
    assert "since must be a day" in browser.get("/settings/models/").content.decode()
