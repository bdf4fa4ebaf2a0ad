"""The page of budgets, and the same over v2."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from runs.budgets import definitions, report
from runs.models import Budget, BudgetCount, Run, Usage
from teammates.access import Access
from teammates.people import api_keys
from tests.api import call
from tests.factories import browser_of, default_teammate, make_key, make_run
from tests.runs.usage.spending import ended

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/settings/budgets/"
_last_month = timezone.now().replace(day=1) - timedelta(days=2)
MONTH: dict[str, Any] = {"period": "month", "amount": "10", "action": "pause"}


def page(access: Access) -> str:
    return " ".join(browser_of(access).get(URL).content.decode().split())


def test_a_budget_is_set_changed_and_deleted(alice: Access) -> None:
    browser = browser_of(alice)
    assert "No budgets yet" in page(alice)
    teammate = default_teammate(alice.organization)
    form = {"whose": f"teammate:{teammate.pk}", "amount": "10", "period": "month"}
    assert browser.post(URL, form | {"action": "pause"}).status_code == 302
    budget = Budget.objects.get()
    assert (budget.teammate, budget.amount) == (teammate, 10)
    assert f"for the teammate {teammate}" in page(alice)
    browser.post(f"{URL}{budget.pk}/", {"amount": "25.5", "action": "stop"})
    budget.refresh_from_db()
    assert (budget.amount, budget.action) == (Decimal("25.5"), "stop")
    browser.post(f"{URL}{budget.pk}/delete/")
    assert not Budget.objects.exists()


def test_a_thread_and_a_run_are_capped_from_their_pages(
    alice: Access, bob: Access, eve: Access
) -> None:
    run = make_run(alice)
    browser = browser_of(alice)
    panel = browser.get(f"/threads/{run.thread_id}/panel/").content.decode()
    facts = browser.get(f"/runs/{run.pk}/").content.decode()
    form = {"amount": "5", "period": "total", "action": "stop"}
    for kind, row, html in (("thread", run.thread, panel), ("run", run, facts)):
        address = f"{URL}?for={kind}:{row.pk}"
        assert f'href="{address}"' in html
        assert "Cap what" in browser.get(address).content.decode()
        assert browser.post(address, form | {"whose": f"{kind}:{row.pk}"}).status_code == 302
        assert getattr(Budget.objects.get(**{kind: row}), kind) == row
        assert browser_of(eve).get(address).status_code == 404
    for wrong in ("thread:0", "run:x", "task:1", "thread"):
        assert browser.get(f"{URL}?for={wrong}").status_code == 404
    assert "Cap" not in browser_of(bob).get(f"/threads/{run.thread_id}/panel/").content.decode()


def test_a_budget_leads_to_the_runs_that_count(alice: Access, bob: Access) -> None:
    mine, others = ended(alice, "0.1"), ended(bob, "0.1")
    make_run(alice)  # has spent nothing
    teammate = default_teammate(alice.organization)
    for whose, runs in (
        ({}, {mine.pk, others.pk}),
        ({"member": bob.user}, {others.pk}),
        ({"teammate": teammate, "member": alice.user}, {mine.pk}),
        ({"thread": mine.thread}, {mine.pk}),
    ):
        definitions.set_budget(alice, **MONTH, **whose)
        [(_, url)] = browser_of(alice).get(URL).context["uses"]
        assert {run.pk for run in browser_of(alice).get(url).context["runs"]} == runs
        Budget.objects.all().delete()
    definitions.set_budget(alice, **MONTH | {"period": "run"}, run=mine)
    assert mine.get_absolute_url() in page(alice)


def test_bad_input_says_what_is_wrong_and_sets_nothing(alice: Access) -> None:
    form = {"whose": "teammate:999", "amount": "-3", "period": "year", "action": "pause"}
    sent = browser_of(alice).post(URL, form)
    assert sent.status_code == 422
    assert "greater than or equal to 0" in sent.content.decode()
    assert not Budget.objects.exists()


def test_it_shows_what_is_spent_and_what_is_reserved(alice: Access) -> None:
    budget = definitions.set_budget(alice, **MONTH)
    BudgetCount.objects.create(
        budget=budget,
        starts_on=timezone.now().date().replace(day=1),
        spent=Decimal("4"),
        reserved=Decimal("0.5"),
        kept=Decimal("1"),
    )
    shown = page(alice)
    assert "<b>$5.00</b> of $10.00 spent (50 %), $0.50 reserved" in shown
    assert "$1.00 of it is of calls whose cost nobody told" in shown


@pytest.mark.parametrize(
    ("period", "amount", "says"),
    [
        ("month", "5", f"reached on 20 {_last_month:%B}"),
        ("month", "50", "not reached: $8.00 were spent"),
        ("day", "2.5", "reached on 2 days"),
        ("day", "3.5", "reached on 1 day"),
        ("week", "5", "reached on 1 week"),
        ("run", "3", "1 run above it"),
        ("run", "9", "no run above it"),
    ],
)
def test_it_says_what_it_would_have_stopped_last_month(
    alice: Access, period: str, amount: str, says: str
) -> None:
    first = (timezone.now().replace(day=1) - timedelta(days=2)).replace(day=1, hour=12)
    # The days of one week, whatever the month: the 20th is shown for the month.
    for day, cost in ((18, "3"), (20, "5")):
        at = first.replace(day=day)
        run = make_run(alice, status="completed")
        ended_at(run, at, cost)
    definitions.set_budget(alice, period=period, amount=amount, action="pause")
    [use] = report.uses(alice)
    if (
        period == "week"
        and first.replace(day=18).isocalendar()[1] != first.replace(day=20).isocalendar()[1]
    ):
        says = "not reached: $8.00 were spent"
    assert use.before == says


def test_it_counts_runs_with_those_that_they_started_whenever_they_began(alice: Access) -> None:
    at = (timezone.now().replace(day=1) - timedelta(days=2)).replace(day=18, hour=12)
    first, *others = [make_run(alice, status="completed") for _ in range(3)]
    for run in (first, *others):
        ended_at(run, at, "2")
    Run.objects.update(created_at=at - timedelta(days=25))
    Run.objects.filter(pk__in=[run.pk for run in others]).update(
        started_by=first, root=first, depth=1
    )
    definitions.set_budget(alice, period="run", amount="3", action="pause")
    definitions.set_budget(alice, period="month", amount="7", action="pause")
    assert [use.before for use in report.uses(alice)] == [
        "1 run above it",
        "not reached: $6.00 were spent",
    ]


def ended_at(run: Run, at: datetime, cost: str) -> None:
    Run.objects.filter(pk=run.pk).update(created_at=at, finished_at=at)
    sums = dict.fromkeys(("input_tokens", "output_tokens", *CACHE), 0)
    Usage.objects.create(
        run=run, organization_id=run.organization_id, cost=Decimal(cost), model_name="m", **sums
    )


CACHE = ("cache_read_tokens", "cache_write_tokens")


def test_the_page_takes_the_same_number_of_queries_whatever_there_is(
    alice: Access, django_assert_max_num_queries: Any
) -> None:
    for period in ("day", "week", "month", "total", "run"):
        definitions.set_budget(alice, **MONTH | {"period": period})
    with django_assert_max_num_queries(3):
        assert len(report.uses(alice)) == 5


def test_members_have_no_such_page(bob: Access) -> None:
    assert browser_of(bob).get(URL).status_code == 403
    assert browser_of(bob).post(URL, MONTH).status_code == 403


def test_a_program_sets_reads_changes_and_deletes_budgets(alice: Access, eve: Access) -> None:
    key = make_key(alice)
    teammate = default_teammate(alice.organization)
    asked = {"amount_usd": "12.5", "period": "day", "teammate_id": teammate.pk}
    made = call(key, "POST", "/api/v2/budgets", asked)
    assert made.status_code == 201, made.content
    budget = made.json()
    assert (Decimal(budget["amount_usd"]), budget["action"]) == (Decimal("12.5"), "pause")
    assert budget["teammate_id"] == teammate.pk
    [listed] = call(key, "GET", "/api/v2/budgets").json()["data"]
    assert listed == budget
    changed = call(key, "PATCH", f"/api/v2/budgets/{budget['id']}", {"amount_usd": "20"})
    assert Decimal(changed.json()["amount_usd"]) == 20
    other = make_key(eve)
    for method in ("GET", "PATCH", "DELETE"):
        assert call(other, method, f"/api/v2/budgets/{budget['id']}").status_code == 404
    assert call(other, "POST", "/api/v2/budgets", asked).status_code == 404
    assert call(key, "DELETE", f"/api/v2/budgets/{budget['id']}").status_code == 204


@pytest.mark.parametrize(
    "asked",
    [
        {"amount_usd": "x", "period": "day"},
        {"amount_usd": "-1", "period": "day"},
        {"amount_usd": "1", "period": "year"},
        {"amount_usd": "1", "period": "day", "action": "explode"},
        {"amount_usd": "0.0000001", "period": "day"},
        {"amount_usd": "1", "period": "day", "user_id": "nobody"},
        {"period": "day"},
    ],
)
def test_what_a_program_gets_wrong_is_named(alice: Access, asked: dict[str, Any]) -> None:
    refused = call(make_key(alice), "POST", "/api/v2/budgets", asked)
    assert refused.status_code == 422, refused.content
    assert not Budget.objects.exists()


def test_a_key_that_manages_budgets_and_nothing_else_does_so(alice: Access) -> None:
    _, key = api_keys.create_key(alice, name="spender", scopes=["data.budgets.manage"])
    made = call(key, "POST", "/api/v2/budgets", {"amount_usd": "1", "period": "day"})
    assert made.status_code == 201
    place = f"/api/v2/budgets/{made.json()['id']}"
    assert call(key, "PATCH", place, {"amount_usd": "2"}).status_code == 200
    assert call(key, "DELETE", place).status_code == 204


def test_what_there_is_not_and_what_is_anothers_are_told_alike(alice: Access, eve: Access) -> None:
    mine = default_teammate(alice.organization).pk
    asked = {"amount_usd": "1", "period": "day"}
    answers = [
        call(make_key(eve), "POST", "/api/v2/budgets", asked | {"teammate_id": one})
        for one in (mine, 10**9)
    ]
    assert [one.status_code for one in answers] == [404, 404]
    assert {one.json()["error"]["message"] for one in answers} == {"There is no such teammate."}
