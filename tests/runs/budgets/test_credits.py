"""Credits: given and taken, used by runs, never below nothing (contract v1 2.10)."""

import threading
from decimal import Decimal

import pytest
from django.db import close_old_connections
from django.utils import timezone

from runs.budgets import credits, definitions
from runs.lifecycle import endings
from runs.lifecycle.endings import Outcome
from runs.lifecycle.transitions import Lease
from runs.models import BudgetCount, CreditEntry, CreditKind, RunStatus
from teammates.access import Access
from teammates.errors import Conflict, Forbidden, Invalid
from tests.api import call
from tests.factories import browser_of, claim, make_key, make_run
from tests.fake_models import FakeModels
from tests.runs.budgets.spending import begin, end
from tests.runs.execution.working import finish, run_on
from threads.models import Thread

pytestmark = pytest.mark.django_db(transaction=True)
DONE = Outcome(RunStatus.COMPLETED)


def ledger(access: Access) -> list[tuple[str, int, int]]:
    rows = credits.ledger_of(access.organization)
    return [(row.kind, row.amount, row.balance) for row in rows]


def count_of(access: Access) -> BudgetCount:
    of_credits = BudgetCount.objects.filter(budget__period="credits")
    return of_credits.get(budget__organization=access.organization)


def test_a_run_takes_what_it_used_out_of_the_balance(home: Access, models: FakeModels) -> None:
    assert credits.balance_of(home.organization) is None
    assert credits.adjust(home, home.organization, 5000, "Welcome") == 5000
    run = finish(run_on(home, models, "openai_compatible", "ok"))
    assert run.status == RunStatus.COMPLETED, run.error_message
    assert run.credits_used == 2
    assert credits.balance_of(home.organization) == 4998
    assert ledger(home) == [("run", -2, 4998), ("adjustment", 5000, 5000)]
    count = count_of(home)  # whole credits, as the ledger has it
    assert (count.spent, count.reserved) == (Decimal("0.002"), 0)


def test_a_call_that_may_take_more_than_is_left_is_not_made(
    home: Access, models: FakeModels
) -> None:
    credits.adjust(home, home.organization, 10)
    run = finish(run_on(home, models, "openai_compatible", "ok"))
    assert run.status == RunStatus.FAILED
    assert run.error_class == "entitlement.credits_exhausted"
    assert "There are 10 credits left" in run.error_message
    assert models.requests == []
    assert credits.balance_of(home.organization) == 10


def test_who_was_given_none_spends_without(home: Access, eve: Access, models: FakeModels) -> None:
    credits.adjust(home, eve.organization, 1)
    run = finish(run_on(home, models, "openai_compatible", "ok"))
    assert run.status == RunStatus.COMPLETED
    assert credits.balance_of(home.organization) is None


def test_what_runs_under_way_have_cost_counts_from_the_first_credits_on(home: Access) -> None:
    run = make_run(home, status=RunStatus.RUNNING)
    step = begin(run.pk, 1, Decimal("0.5"))
    assert step is not None
    end(step, Decimal("0.2"))
    credits.adjust(home, home.organization, 1000)
    assert count_of(home).spent == Decimal("0.2")
    assert begin(run.pk, 2, Decimal("0.81")) is None
    assert begin(run.pk, 2, Decimal("0.8")) is not None


def test_the_last_run_takes_no_more_than_there_is(home: Access) -> None:
    """Credits are whole, and what is left may not be."""
    credits.adjust(home, home.organization, 2)
    for _ in range(2):
        run = make_run(home)
        lease = claim(run)
        step = begin(run.pk, 1, Decimal("0.0009"))
        assert step is not None
        end(step, Decimal("0.0009"))
        endings.finish_run(lease, [], DONE)
    assert credits.balance_of(home.organization) == 0
    assert [amount for _, amount, _ in ledger(home)] == [-1, -1, 2]
    run = make_run(home, status=RunStatus.RUNNING)
    assert begin(run.pk, 1, Decimal("0.0001")) is None


def test_runs_that_end_at_once_are_each_taken_once(home: Access) -> None:
    credits.adjust(home, home.organization, 10_000)
    runs = [make_run(home) for _ in range(6)]
    leases = [claim(run) for run in runs]
    for run in runs:
        step = begin(run.pk, 1, Decimal("0.01"))
        assert step is not None
        end(step, Decimal("0.0042"))
    barrier, failures = threading.Barrier(len(runs)), []

    def ends(lease: Lease) -> None:
        barrier.wait()
        try:
            endings.finish_run(lease, [], DONE)
        except Exception as error:
            failures.append(error)
        close_old_connections()

    threads = [threading.Thread(target=ends, args=[lease]) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert credits.balance_of(home.organization) == 10_000 - 6 * 5
    assert count_of(home).spent == Decimal("0.030")
    entries = CreditEntry.objects.filter(kind=CreditKind.RUN)
    assert entries.values("run").distinct().count() == 6


def test_nobody_takes_more_than_there_is(home: Access) -> None:
    credits.adjust(home, home.organization, 100)
    with pytest.raises(Conflict, match="There are 100 credits, not 101") as refused:
        credits.adjust(home, home.organization, -101)
    assert refused.value.code == "credits.insufficient"
    assert credits.adjust(home, home.organization, -100) == 0


@pytest.mark.parametrize(("amount", "note"), [(0, ""), (10**13, ""), (1, "x" * 501)])
def test_odd_adjustments_are_refused(home: Access, amount: int, note: str) -> None:
    with pytest.raises(Invalid):
        credits.adjust(home, home.organization, amount, note)
    assert ledger(home) == []


def test_only_who_runs_the_installation_gives_credits(
    home: Access, bob: Access, eve: Access
) -> None:
    for access in (bob, eve):
        for give in (
            lambda: credits.adjust(access, access.organization, 1000),  # noqa: B023
            lambda: credits.adjust_all(access, 1000),  # noqa: B023
            lambda: credits.reset_all(access),  # noqa: B023
        ):
            with pytest.raises(Forbidden):
                give()


def test_all_are_given_and_reset(home: Access, eve: Access) -> None:
    assert credits.adjust_all(home, 50, "For everybody") == 2
    credits.adjust(home, eve.organization, -50)
    assert credits.adjust_all(home, -20) == 1  # Eve has none to take
    assert credits.reset_all(home, "A new year") == 1
    assert [credits.balance_of(one.organization) for one in (home, eve)] == [0, 0]
    assert ledger(home)[0] == ("reset", -30, 0)


def test_what_a_lost_call_held_is_free_once_its_run_is_over(home: Access) -> None:
    credits.adjust(home, home.organization, 1000)
    run = make_run(home)
    lease = claim(run)
    step = begin(run.pk, 1, Decimal("0.9"))
    assert step is not None
    end(step, None)
    assert count_of(home).kept == Decimal("0.9")
    endings.finish_run(lease, [], DONE)
    assert count_of(home).kept == 0
    other = make_run(home, status=RunStatus.RUNNING)
    assert begin(other.pk, 1, Decimal("0.99")) is not None


def test_what_a_lost_call_may_have_cost_is_held_while_its_run_goes_on(home: Access) -> None:
    credits.adjust(home, home.organization, 1000)
    going_on, other = make_run(home), make_run(home)
    claim(going_on)
    lease = claim(other)
    step = begin(going_on.pk, 1, Decimal("0.9"))
    assert step is not None
    end(step, None)
    endings.finish_run(lease, [], DONE)
    assert count_of(home).kept == Decimal("0.9")
    assert begin(going_on.pk, 2, Decimal("0.9")) is None


def test_more_than_a_budget_holds_is_refused(home: Access) -> None:
    for _ in range(9):
        credits.adjust(home, home.organization, 10**10)
    with pytest.raises(Invalid, match="all that was ever given"):
        credits.adjust(home, home.organization, 10**10)


def test_credits_are_no_budget_that_people_set(home: Access) -> None:
    credits.adjust(home, home.organization, 50)
    assert not definitions.list_budgets(home).exists()
    with pytest.raises(Invalid, match="period must be one of run, day"):
        definitions.set_budget(home, period="credits", amount="1", action="stop")
    budget = definitions.set_budget(home, period="total", amount="1", action="stop")
    assert budget.period == "total"
    assert "50 credits" in browser_of(home).get("/settings/budgets/").content.decode()


def test_the_contracts_routes(home: Access, bob: Access, models: FakeModels) -> None:
    key, org_id = make_key(home), str(home.organization.uid)
    assert call(key, "GET", "/v1/me/credits").json() == {"balance": 0, "transactions": []}
    given = {"org_id": org_id, "amount": 4000, "note": "Welcome"}
    assert call(key, "POST", "/v1/admin/credits/adjust", given).json()["balance"] == 4000
    run = finish(run_on(home, models, "openai_compatible", "ok"))
    shown = call(key, "GET", "/v1/me/credits").json()
    assert shown["balance"] == 3998
    used, welcome = shown["transactions"]
    assert (used["amount"], used["type"], used["reference_type"]) == (-2, "run", "run")
    assert used["reference_id"] == str(run.uid)
    assert used["thread_title"]
    assert (welcome["note"], welcome["reference_id"]) == ("Welcome", None)
    theirs = call(make_key(bob), "GET", "/v1/me/credits").json()
    assert theirs["balance"] == 3998
    assert [one["type"] for one in theirs["transactions"]] == ["adjustment"]  # not a colleague's
    Thread.objects.update(deleted_at=timezone.now())
    gone = call(key, "GET", "/v1/me/credits").json()["transactions"][0]
    assert gone["thread_title"] is None
    assert call(key, "GET", "/v1/me/credits?to=9999-12-31").status_code == 422
    assert call(make_key(bob), "GET", "/v1/admin/credits").status_code == 403
    one = call(key, "GET", f"/v1/admin/credits?org_id={org_id}&limit=1&offset=1").json()
    assert (one["org_id"], one["balance"]) == (org_id, 3998)
    assert [entry["note"] for entry in one["transactions"]] == ["Welcome"]
    long_ago = call(key, "GET", "/v1/me/credits?from=2020-01-01&to=2020-01-02").json()
    assert long_ago == {"balance": 3998, "transactions": []}
    refused = call(key, "POST", "/v1/admin/credits/adjust", given | {"amount": -5000})
    assert (refused.status_code, refused.json()["code"]) == (409, "credits.insufficient")
    more = {"amount": 1, "note": ""}
    assert call(key, "POST", "/v1/admin/credits/bulk-adjust", more).json() == {"affected": 1}
    assert call(key, "POST", "/v1/admin/credits/reset-all", {"note": ""}).json() == {"affected": 1}
    assert call(key, "GET", "/v1/me/credits").json()["balance"] == 0
