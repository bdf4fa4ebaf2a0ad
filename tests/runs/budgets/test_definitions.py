"""Budgets are set, changed and deleted; what was spent before counts, and is counted once."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from runs.budgets import definitions, reserving
from runs.budgets.counting import begins_again, days_of
from runs.budgets.reserving import Breach
from runs.execution import step_journal
from runs.execution.step_journal import BeginModelStep
from runs.lifecycle import leases
from runs.models import BudgetCount, BudgetHold, Run, Step, StepKind
from teammates.access import Access
from teammates.errors import Conflict, Forbidden, Invalid, NotFound
from teammates.llm import catalog
from teammates.providers.base import ModelRequest, UserMessage
from teammates.roster import editing
from tests.factories import claim, default_teammate, make_run, make_thread
from tests.fake_models import FakeModels
from tests.runs.execution.working import finish, run_on, work_until

pytestmark = pytest.mark.django_db(transaction=True)
MONTH: dict[str, Any] = {"period": "month", "amount": "5", "action": "pause"}


@pytest.mark.parametrize("period", ["day", "week", "month", "total"])
def test_what_was_spent_in_the_period_counts(
    alice: Access, models: FakeModels, period: str
) -> None:
    run = finish(run_on(alice, models, "openai_compatible", "ok"))
    budget = definitions.set_budget(alice, period=period, amount="5", action="pause")
    assert budget.counts.get().spent == run.cost


def test_what_was_spent_before_the_period_does_not(alice: Access, models: FakeModels) -> None:
    finish(run_on(alice, models, "openai_compatible", "ok"))
    Step.objects.update(started_at=timezone.now() - timedelta(days=40))
    budget = definitions.set_budget(alice, **MONTH)
    assert not budget.counts.exists()


def test_what_others_spent_does_not_count(
    alice: Access, bob: Access, eve: Access, models: FakeModels
) -> None:
    finish(run_on(alice, models, "openai_compatible", "ok"))
    assert not definitions.set_budget(eve, **MONTH).counts.exists()
    assert not definitions.set_budget(alice, **MONTH, member=bob.user).counts.exists()
    assert definitions.set_budget(alice, **MONTH, member=alice.user).counts.exists()


def test_a_call_under_way_counts_when_it_is_over(alice: Access, models: FakeModels) -> None:
    run = run_on(alice, models, "openai_compatible", "slow")
    made: list[Any] = []
    held: list[Any] = []

    def set_one() -> None:
        if not made and Step.objects.filter(run=run, kind=StepKind.MODEL).exists():
            made.append(definitions.set_budget(alice, **MONTH))
            held.extend(BudgetHold.objects.filter(amount__gt="0.5"))

    work_until(lambda: Run.objects.get(pk=run.pk).is_finished, meanwhile=set_one)
    count = BudgetCount.objects.get()
    assert count.spent == Run.objects.get(pk=run.pk).cost
    assert (count.reserved, BudgetHold.objects.exists()) == (0, False)
    assert held  # what the call could cost at most was reserved at once


def test_no_call_begins_or_ends_unseen_while_a_budget_is_made(
    alice: Access, models: FakeModels
) -> None:
    """A call that begins at the same time waits, and then finds the budget."""
    run = run_on(alice, models, "openai_compatible", "ok")
    began = threading.Event()

    def make() -> None:
        try:
            with transaction.atomic():
                definitions.set_budget(alice, **MONTH)
                began.set()
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_sleep(1)")
        finally:
            connection.close()

    thread = threading.Thread(target=make)
    thread.start()
    began.wait(5)
    finish(run)
    thread.join()
    assert BudgetCount.objects.get().spent == Run.objects.get(pk=run.pk).cost


def test_no_call_begins_unseen_between_its_reservation_and_its_step(
    alice: Access, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget that is made then waits, and finds the call."""
    definitions.set_budget(alice, period="total", amount="100", action="pause")
    makers: list[threading.Thread] = []

    def make() -> None:
        try:
            definitions.set_budget(alice, **MONTH)
        finally:
            connection.close()

    def reserve_slowly(*args: Any, **options: Any) -> Any:
        holds = reserve(*args, **options)
        if not makers:
            makers.append(threading.Thread(target=make))
            makers[0].start()
            makers[0].join(0.3)
        return holds

    reserve = reserving.reserve
    monkeypatch.setattr(reserving, "reserve", reserve_slowly)
    run = finish(run_on(alice, models, "openai_compatible", "ok"))
    makers[0].join()
    cost = Run.objects.get(pk=run.pk).cost
    assert [count.used for count in BudgetCount.objects.all()] == [cost, cost]


def test_a_run_draws_from_the_budgets_of_each_run_above_it(alice: Access) -> None:
    """Also from those of one between it and the first."""
    middle = editing.create_teammate(alice, name="Middle", instructions="x")
    first, second, third = (make_run(alice) for _ in range(3))
    Run.objects.filter(pk=second.pk).update(teammate=middle, started_by=first, root=first, depth=1)
    Run.objects.filter(pk=third.pk).update(started_by=second, root=first, depth=2)
    definitions.set_budget(alice, period="total", amount="0.01", action="stop", teammate=middle)
    for run, is_capped in ((first, False), (second, True), (third, True)):
        run.refresh_from_db()
        with transaction.atomic():
            found = reserving.reserve(run, Decimal(5), now=timezone.now())
        assert isinstance(found, Breach) == is_capped


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", "lots"),
        ("amount", "-1"),
        ("amount", "NaN"),
        ("amount", "1e30"),
        ("period", "year"),
        ("action", "explode"),
    ],
)
def test_what_is_no_budget_is_refused_by_its_name(alice: Access, field: str, value: str) -> None:
    with pytest.raises(Invalid, match=field):
        definitions.set_budget(alice, **MONTH | {field: value})


def test_there_is_one_budget_for_a_thing_and_a_period(alice: Access) -> None:
    definitions.set_budget(alice, **MONTH)
    definitions.set_budget(alice, **MONTH, teammate=default_teammate(alice.organization))
    with pytest.raises(Conflict):
        definitions.set_budget(alice, **MONTH)


def test_members_neither_set_nor_see_budgets(alice: Access, bob: Access) -> None:
    budget = definitions.set_budget(alice, **MONTH)
    for attempt in (
        lambda: definitions.set_budget(bob, **MONTH),
        lambda: definitions.change_budget(bob, budget, amount="100"),
        lambda: definitions.delete_budget(bob, budget),
        lambda: definitions.list_budgets(bob),
    ):
        with pytest.raises(Forbidden):
            attempt()


def test_another_organizations_things_have_no_budget_here(alice: Access, eve: Access) -> None:
    budget = definitions.set_budget(alice, **MONTH)
    with pytest.raises(NotFound):
        definitions.change_budget(eve, budget, amount="1")
    with pytest.raises(NotFound):
        definitions.get_budget(eve, budget.pk)
    for whose in (
        {"teammate": default_teammate(alice.organization)},
        {"member": alice.user},
        {"thread": make_thread(alice)},
        {"run": make_run(alice)},
    ):
        with pytest.raises(NotFound):
            definitions.set_budget(eve, **MONTH, **whose)


def test_the_budget_of_a_run_is_that_of_the_first_of_its_chain(alice: Access) -> None:
    first, second = make_run(alice), make_run(alice)
    Run.objects.filter(pk=second.pk).update(root=first, started_by=first)
    second.refresh_from_db()
    with pytest.raises(Invalid, match="run"):
        definitions.set_budget(alice, **MONTH, run=second)


def test_a_lost_attempt_frees_what_it_reserved(alice: Access, models: FakeModels) -> None:
    """A worker that was killed in the middle of a call: the sweep of its lease settles."""
    budget = definitions.set_budget(alice, **MONTH)
    run = run_on(alice, models, "openai_compatible", "slow")
    lease = claim(run)
    request = ModelRequest(model="slow", instructions="", conversation=[UserMessage("hi")])
    route = catalog.resolve_model(alice.organization, "openai_compatible-slow")
    step_journal.begin_reserved(
        lease, [], BeginModelStep(run, 1, request, route, most_input=request.most_input_tokens)
    )
    assert BudgetHold.objects.exists()  # and the worker is gone
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(hours=1))
    assert leases.sweep_expired() == 1
    count = budget.counts.get()
    assert (count.reserved, BudgetHold.objects.exists()) == (0, False)
    assert count.used >= Decimal("0.5")  # what it may have cost is kept


def test_periods_begin_again() -> None:
    at = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    days = days_of(at.date())
    assert [str(day) for day in days.values()] == ["2026-12-31", "2026-12-28", "2026-12-01"]
    again = [begins_again(period, day) for period, day in days.items()]
    assert [f"{one:%Y-%m-%d}" for one in again if one] == ["2027-01-01", "2027-01-04", "2027-01-01"]
    assert begins_again("total", None) is None
