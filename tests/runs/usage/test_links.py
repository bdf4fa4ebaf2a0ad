"""The numbers of *Usage & cost* can be added up by hand from the runs that they lead to."""

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs.budgets import definitions
from runs.lifecycle import endings
from runs.lifecycle.endings import Outcome
from runs.models import Run, RunStatus, StepStatus
from runs.queries.cost import cost_of
from runs.usage.days import remake_days
from teammates.access import Access
from teammates.llm import catalog
from teammates.models import Model
from teammates.roster import editing
from tests.factories import browser_of, claim, default_teammate, make_run
from tests.runs.usage.spending import add_call, ended

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def model(alice: Access) -> Model:
    provider = catalog.create_provider(alice, name="P", kind="openai", api_key="k")
    prices = {"uncached_input": "10", "cache_read": "1", "cache_write": "12", "output": "50"}
    return catalog.add_model(alice, provider, alias="m", name="m", prices=prices)


def spent(
    access: Access,
    cost: str,
    *,
    cached: int = 0,
    status: RunStatus = RunStatus.COMPLETED,
    days_ago: int = 0,
    is_tried_again: bool = False,
) -> Run:
    """A run whose calls cost that in all."""
    run = make_run(access)
    lease = claim(run)
    calls = [StepStatus.STOPPED, StepStatus.DONE] if is_tried_again else [StepStatus.DONE]
    for number, call in enumerate(calls, start=1):
        add_call(
            run,
            number,
            status=call,
            finished_at=timezone.now(),
            model_alias="m",
            input_tokens=cached + 10,
            cache_read_tokens=cached,
            cost=Decimal(cost) / len(calls),
        )
    failed = (
        {"error_class": "x", "error_message": "It broke."} if status == RunStatus.FAILED else {}
    )
    endings.finish_run(lease, [], Outcome(status, **failed))
    ended = timezone.now() - timedelta(days=days_ago)
    Run.objects.filter(pk=run.pk).update(finished_at=ended)
    return run


def listed(browser: Client, url: str) -> list[Run]:
    runs: list[Run] = list(browser.get(url).context["runs"])
    return runs


def cost(runs: Iterable[Run]) -> Decimal:
    return sum((run.cost or Decimal(0) for run in runs), Decimal(0))


def test_every_tile_adds_up(alice: Access, model: Model) -> None:
    done = spent(alice, "0.5", cached=1_000)
    again = spent(alice, "0.2", cached=500, is_tried_again=True)
    failed = spent(alice, "0.1", status=RunStatus.FAILED)
    cancelled = spent(alice, "0.05", status=RunStatus.CANCELLED)
    before = spent(alice, "0.3", days_ago=8, cached=900)
    remake_days(alice.organization)
    browser = browser_of(alice)
    page: Any = browser.get("/usage/?period=7d").context
    report = page["report"]
    assert {run.pk for run in listed(browser, page["all_runs"])} == {
        one.pk for one in (done, again, failed, cancelled)
    }
    assert cost(listed(browser, page["all_runs"])) == report.sums.cost == Decimal("0.85")
    assert [run.pk for run in listed(browser, page["runs_before"])] == [before.pk]
    assert cost(listed(browser, page["runs_before"])) == report.before.cost == Decimal("0.3")
    for (how, sums, url), run in zip(page["lost"], (failed, cancelled), strict=True):
        assert [one.pk for one in listed(browser, url)] == [run.pk], how
        assert cost(listed(browser, url)) == sums["cost"]
    cached = listed(browser, page["cached_runs"])
    assert {run.pk for run in cached} == {done.pk, again.pk}
    saved = sum(of_model.saved for run in cached for of_model in cost_of(run))
    assert saved == report.saved_by_cache == Decimal("0.018")


def test_calls_that_broke_off_are_counted_and_marked(alice: Access, model: Model) -> None:
    run = spent(alice, "0.2", is_tried_again=True)
    spent(alice, "0.2")
    browser = browser_of(alice)
    assert [one.pk for one in listed(browser, "/runs/?q=has:retry")] == [run.pk]
    [of_model] = cost_of(run)
    assert (of_model.stopped, of_model.stopped_cost, of_model.cost) == (
        1,
        Decimal("0.1"),
        Decimal("0.2"),
    )
    page = browser.get(f"/runs/{run.pk}/cost/").content.decode()
    assert "Of it in 1 call that broke off" in page


def ended_with(access: Access, *calls: tuple[str, str | None]) -> Run:
    """A run that called these models, each for that many dollars or for nobody knows how many."""
    run = make_run(access)
    lease = claim(run)
    for number, (model, cost) in enumerate(calls, start=1):
        add_call(run, number, model_name=model, cost=cost)
    failed = Outcome(RunStatus.FAILED, error_class="x", error_message="It broke.")
    return endings.finish_run(lease, [], failed)


def shown(browser: Client, url: str) -> Decimal:
    """What the costs of a list add up to, as far as they are known."""
    return sum(
        (run.known_cost["cost"] if run.known_cost else run.cost for run in listed(browser, url)),
        Decimal(0),
    )


def test_runs_of_several_models_add_up_too(alice: Access) -> None:
    ended_with(alice, ("priced", "0.25"), ("other", "0.5"))
    ended_with(alice, ("priced", "0.125"), ("unpriced", None))
    ended_with(alice, ("other", "1"))
    ended_with(alice, ("priced", "0.0625"), ("priced", None))  # its price was set between them
    browser = browser_of(alice)
    page: Any = browser.get("/usage/?period=7d").context
    report = page["report"]
    assert shown(browser, page["all_runs"]) == report.sums.cost == Decimal("1.9375")
    (_, failed, url), _ = page["lost"]
    assert shown(browser, url) == failed["cost"] == Decimal("1.9375")
    assert len(page["rows"]) == 3
    for group, url, _, _ in page["rows"]:
        assert shown(browser, url) == group.sums.cost
        assert browser.get(url).context["whole"].cost == group.sums.cost
    assert browser.get(page["all_runs"]).context["whole"].cost == report.sums.cost
    assert "over $0.1" in browser.get(page["all_runs"]).content.decode()
    assert [one["runs"] for one in page["unpriced"]] == [1, 1]
    for one in page["unpriced"]:
        assert len(listed(browser, one["url"])) == 1


def test_the_row_of_a_tag_has_the_runs_that_are_counted_with_it(alice: Access) -> None:
    many = {f"k{n:02}": "x" for n in range(30)}
    for metadata in (many, {"k25": "x"}):
        Run.objects.filter(pk=ended(alice, "0.5").pk).update(metadata=metadata)
    remake_days(alice.organization)
    browser = browser_of(alice)
    rows = browser.get("/usage/?period=7d&by=tag").context["rows"]
    behind = {group.name: len(listed(browser, url)) for group, url, _, _ in rows if url}
    assert (behind["k25=x"], behind["k01=x"]) == (1, 1)
    for group, url, _, _ in rows:
        assert not url or cost(listed(browser, url)) == group.sums.cost
    assert len(listed(browser, "/runs/?q=tag:k25=x")) == 2


def test_the_row_of_a_model_has_no_run_that_never_called_it(alice: Access, model: Model) -> None:
    called = spent(alice, "0.5")
    cancelled = make_run(alice)
    Run.objects.filter(pk=cancelled.pk).update(route=model)
    endings.finish_run(claim(cancelled), [], Outcome(RunStatus.CANCELLED))
    browser = browser_of(alice)
    rows = browser.get("/usage/?period=7d").context["rows"]
    behind = {group.name: listed(browser, url) for group, url, _, _ in rows}
    assert behind["m"] == [called]
    assert behind["No model was called"] == [cancelled]


def test_the_runs_of_a_budget_add_up_to_it(alice: Access) -> None:
    """With the calls that count, also of a run under way."""
    run = make_run(alice)
    lease = claim(run)
    add_call(run, 1, cost=Decimal("1"), started_at=timezone.now() - timedelta(days=2))
    add_call(run, 2, cost=Decimal("0.5"))
    endings.finish_run(lease, [], Outcome(RunStatus.COMPLETED))
    going_on = make_run(alice)
    claim(going_on)
    add_call(going_on, 1, cost=Decimal("0.25"))
    definitions.set_budget(alice, period="day", amount="5", action="pause")
    browser = browser_of(alice)
    [(use, url)] = browser.get("/settings/budgets/").context["uses"]
    page = browser.get(url).context
    assert sum(one.known_cost["cost"] for one in page["runs"]) == use.used == Decimal("0.75")
    assert page["whole"].cost == use.used


def test_a_budget_leads_to_the_runs_that_spent_it(alice: Access) -> None:
    """Also to one that began before its day, and to those that its runs started."""
    budget = definitions.set_budget(
        alice,
        period="day",
        amount="5",
        action="pause",
        teammate=default_teammate(alice.organization),
    )
    other = editing.create_teammate(alice, name="Other", instructions="x")
    early, started, elsewhere = (spent(alice, "0.5") for _ in range(3))
    long_ago = timezone.now() - timedelta(days=3)
    Run.objects.filter(pk=early.pk).update(created_at=long_ago)
    Run.objects.filter(pk=started.pk).update(teammate=other, started_by=early, root=early, depth=1)
    Run.objects.filter(pk=elsewhere.pk).update(teammate=other)
    over = spent(alice, "0.5")
    over.steps.update(started_at=long_ago)
    page = browser_of(alice).get("/settings/budgets/")
    [(use, url)] = page.context["uses"]
    assert use.budget == budget
    assert {run.pk for run in listed(browser_of(alice), url)} == {early.pk, started.pk}
    refused = browser_of(alice).get("/runs/?q=budget:x").context["problems"]
    assert refused
