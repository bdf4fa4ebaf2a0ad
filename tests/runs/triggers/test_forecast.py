"""What a schedule may cost in a month, told before it is saved."""

from collections.abc import Sequence
from decimal import Decimal

import pytest

from runs.models import Run, RunStatus, Task, Trigger
from runs.triggers import forecast
from teammates.access import Access
from tests.factories import browser_of, make_run

pytestmark = pytest.mark.django_db
DAILY = {"kind": "schedule", "cron": "0 9 * * *", "timezone": "UTC"}


def task_with(access: Access, costs: Sequence[str | None]) -> Task:
    first = make_run(access, status=RunStatus.COMPLETED)
    Task.objects.filter(pk=first.task_id).update(is_ad_hoc=False, name="Weekly")
    runs = [first, *(make_run(access, status=RunStatus.COMPLETED) for _ in costs[1:])]
    for run, cost in zip(runs, costs, strict=True):
        Run.objects.filter(pk=run.pk).update(task=first.task_id, cost=cost)
    return Task.objects.get(pk=first.task_id)


@pytest.mark.parametrize(
    ("costs", "low", "high"),
    [
        (["0.1"], "1.5", "6"),  # of one run: half to twice
        (["0.1"] * 5, "3", "3"),  # always the same
        (["0.1", None, "0.1"], "3", "3"),  # what has no cost says nothing
        (["0", "1"], "0", "45.98"),  # two that have little in common
    ],
)
def test_it_is_a_range_that_spreads_as_the_runs_do(
    alice: Access, costs: list[str | None], low: str, high: str
) -> None:
    told = forecast.forecast(Trigger(**DAILY), task_with(alice, costs))
    assert told is not None
    assert told.times == 30
    assert told.known == len([cost for cost in costs if cost])
    assert told.unknown == costs.count(None)
    assert (round(told.low, 2), round(told.high, 2)) == (Decimal(low), Decimal(high))


def test_more_runs_narrow_it(alice: Access) -> None:
    few = forecast.forecast(Trigger(**DAILY), task_with(alice, ["0.1", "0.3"]))
    many = forecast.forecast(Trigger(**DAILY), task_with(alice, ["0.1", "0.3"] * 10))
    assert few is not None
    assert many is not None
    assert few.low < many.low < many.high < few.high


def test_without_runs_whose_cost_is_known_nothing_is_told(alice: Access) -> None:
    assert forecast.forecast(Trigger(**DAILY), task_with(alice, [None])) is None


def test_a_schedule_of_every_minute_is_counted_by_its_day(alice: Access) -> None:
    every_minute = Trigger(**DAILY | {"cron": "* * * * *"})
    assert forecast.often_a_day(every_minute) == 1440
    assert forecast.times_a_month(every_minute) == 43_200


def test_the_page_tells_it_where_a_schedule_is_edited(alice: Access) -> None:
    task = task_with(alice, ["0.1"] * 3)
    page = browser_of(alice).get(f"/tasks/{task.pk}/schedules/new/").content.decode()
    assert "Likely $2" in page  # of weekdays
    assert "going by the last 3" in page
