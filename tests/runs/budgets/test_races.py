"""Many workers in several processes against nested budgets: never a cent over a cap."""

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runs.budgets import definitions, reserving
from runs.models import Budget, BudgetCount, BudgetHold, Run, Step, StepStatus
from teammates.access import Access
from tests.database import url_of
from tests.factories import default_teammate, make_run, make_thread
from tests.runs.budgets.spending import begin, end

pytestmark = pytest.mark.django_db(transaction=True)
SPENDER = Path(__file__).with_name("spender.py")
CHECKOUT = Path(__file__).parents[3]


def check_caps() -> None:
    for count in BudgetCount.objects.exclude(budget=None).select_related("budget"):
        assert count.used + count.reserved <= count.budget.amount, count


def spend(runs: list[Run], *, calls: int, seed: int, dies_after: int = 0) -> Any:
    ids = ",".join(str(run.pk) for run in runs)
    env = os.environ | {
        "DATABASE_URL": url_of(connection.settings_dict["NAME"]),
        "PYTHONPATH": str(CHECKOUT),
    }
    arguments = [ids, str(calls), str(seed), str(dies_after)]
    return subprocess.Popen([sys.executable, "-W", "ignore", str(SPENDER), *arguments], env=env)


CAPS = (20, 12, 7, 9, 3, 3)  # dollars


def nested(access: Access, runs: list[Run], caps: Sequence[int] = CAPS) -> None:
    """Budgets of every kind that the runs have something to do with."""
    pause: dict[str, Any] = {"action": "pause"}
    month, day, total, week, run, thread = map(str, caps)
    definitions.set_budget(access, period="month", amount=month, **pause)
    definitions.set_budget(access, period="day", amount=day, **pause)
    definitions.set_budget(access, period="run", amount=run, **pause)
    definitions.set_budget(access, period="total", amount=total, member=access.user, **pause)
    teammate = default_teammate(access.organization)
    definitions.set_budget(access, period="week", amount=week, teammate=teammate, **pause)
    definitions.set_budget(access, period="month", amount=thread, thread=runs[0].thread, **pause)


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**6), caps=st.permutations(CAPS))
def test_fifty_workers_in_five_processes_never_spend_a_cent_over_a_cap(
    alice: Access, seed: int, caps: list[int]
) -> None:
    for model in (Step, Budget, BudgetCount):
        model._default_manager.all().delete()
    thread = make_thread(alice)
    runs = [make_run(alice, thread=thread if number % 5 == 1 else None) for number in range(50)]
    nested(alice, runs[1:], caps)
    workers = [
        spend(runs[start::5], calls=8, seed=seed + start, dies_after=1 if start == 0 else 0)
        for start in range(5)
    ]
    codes = sorted(worker.wait(timeout=80) for worker in workers)
    assert codes == [-9, 0, 0, 0, 0]
    check_caps()
    for step in Step.objects.filter(status=StepStatus.RUNNING):  # what the killed one left
        Step.objects.filter(pk=step.pk).update(status=StepStatus.STOPPED)
        reserving.settle(step.pk)
    check_caps()
    assert not BudgetHold.objects.exists()
    assert not BudgetCount.objects.exclude(reserved=0).exists()
    whole = BudgetCount.objects.get(budget__period="month", budget__thread=None)
    assert whole.spent == Step.objects.aggregate(cost=Sum("cost"))["cost"]
    assert whole.used > 1  # it was worth a race


def test_what_a_killed_process_reserved_stays_reserved_until_its_step_is_closed(
    alice: Access,
) -> None:
    run = make_run(alice)
    nested(alice, [run])
    assert spend([run], calls=3, seed=3, dies_after=1).wait(timeout=60) == -9
    [step] = Step.objects.all()
    reserved = BudgetHold.objects.filter(step=step).values_list("amount", flat=True)
    assert len(set(reserved)) == 1
    assert {count.reserved for count in BudgetCount.objects.all()} == set(reserved)
    amount = reserved[0]
    Step.objects.update(status=StepStatus.STOPPED)
    reserving.settle(step.pk)
    counts = BudgetCount.objects.all()
    assert {(count.reserved, count.kept) for count in counts} == {(Decimal(0), amount)}
    check_caps()


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["begin", "end", "lose"]),
        st.integers(0, 2),
        st.integers(0, 300),
        st.integers(0, 100),
    ),
    max_size=40,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(moves=MOVES, seed=st.integers(0, 9))
def test_whatever_the_order_of_calls_the_counts_are_the_sums_of_their_steps(
    alice: Access, moves: list[tuple[str, int, int, int]], seed: int
) -> None:
    Step.objects.all().delete()
    Budget.objects.all().delete()
    BudgetCount.objects.all().delete()
    chance = random.Random(seed)
    runs = [make_run(alice) for _ in range(3)]
    for period, cap in (("total", "4"), ("run", "2"), ("day", "3")):
        if chance.random() < 0.8:
            definitions.set_budget(alice, period=period, amount=cap, action="pause")
    under_way: dict[int, Step] = {}
    number = 0
    for kind, which, cents, percent in moves:
        run, worst = runs[which], Decimal(cents) / 100
        if kind == "begin" and run.pk not in under_way:
            step = begin(run.pk, number + 1, worst)
            if step is None:
                continue
            number += 1
            step.worst = worst  # type: ignore[attr-defined]
            under_way[run.pk] = step
        elif kind != "begin" and run.pk in under_way:
            step = under_way.pop(run.pk)
            end(step, None if kind == "lose" else step.worst * percent / 100)  # type: ignore[attr-defined]
        check_caps()
    spent = Step.objects.aggregate(cost=Sum("cost"))["cost"] or Decimal(0)
    open_ = sum((step.worst for step in under_way.values()), start=Decimal(0))  # type: ignore[attr-defined]
    for count in BudgetCount.objects.filter(run=None):
        assert (count.spent, count.reserved) == (spent, open_)
