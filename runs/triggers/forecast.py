"""What a schedule may cost, going by the last runs of its task."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from math import sqrt
from statistics import mean, stdev

from django.utils import timezone

from runs.models import FINISHED, Run, Task, Trigger
from runs.triggers.due_times import times_within

DAYS = 30
GOES_BY = 20  # runs
SPREAD = 2  # standard deviations on each side: nineteen months in twenty
OFTEN = 24  # times a day; from there on a month is counted by a week


@dataclass(frozen=True)
class Forecast:
    """Dollars in 30 days, from `low` to `high`, of so many `times`; it goes by `known` of the last
    runs, and of `unknown` ones nobody knows what they cost."""

    low: Decimal
    high: Decimal
    times: int
    known: int
    unknown: int = 0


def forecast(trigger: Trigger, task: Task) -> Forecast | None:
    """None: of no run of the task that ended lately the cost is known."""
    runs = Run.objects.filter(task=task, status__in=FINISHED)
    newest = runs.order_by("-created_at").values_list("cost", flat=True)[:GOES_BY]
    costs = [cost for cost in newest if cost is not None]
    if not costs:
        return None
    return replace(_of(costs, times_a_month(trigger)), unknown=len(newest) - len(costs))


def times_a_month(trigger: Trigger) -> int:
    if often_a_day(trigger) is not None:  # counting a month of every minute takes long
        week = times_within(trigger, timezone.now(), timedelta(days=7))
        return round(sum(1 for _ in week) * DAYS / 7)
    return sum(1 for _ in times_within(trigger, timezone.now(), timedelta(days=DAYS)))


def often_a_day(trigger: Trigger) -> int | None:
    """How often a schedule is due in the next 24 hours, where that is often."""
    times = sum(1 for _ in times_within(trigger, timezone.now(), timedelta(days=1)))
    return times if times > OFTEN else None


def _of(costs: Sequence[Decimal], times: int) -> Forecast:
    """The sum of so many runs spreads as they do, and the mean of a few is not known well either;
    of a single one, half of it to twice as much is said."""
    each = mean(costs)
    if len(costs) == 1:
        return Forecast(each * times / 2, each * times * 2, times, 1)
    spread = float(stdev(costs)) * sqrt(times + times * times / len(costs))
    margin, likely = Decimal(SPREAD * spread), each * times
    return Forecast(max(likely - margin, Decimal(0)), likely + margin, times, len(costs))
