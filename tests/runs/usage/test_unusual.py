"""Spending far from the usual: a run beside its task's, a day beside the weeks before."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from runs.models import Notice, Run, UsageDay
from runs.usage import unusual
from teammates.access import Access
from teammates.models import Organization
from tests.runs.execution.working import work_until
from tests.runs.usage.spending import ended

pytestmark = pytest.mark.django_db(transaction=True)


def told() -> list[str]:
    return list(Notice.objects.order_by("pk").values_list("title", flat=True))


@pytest.mark.parametrize(
    ("before", "cost", "is_told"),
    [
        (["0.10"] * 5, "1.01", True),
        (["0.10"] * 5, "1.00", False),  # ten times, and not more
        (["0.10"] * 4, "9", False),  # nobody knows yet what is usual
        (["0.001"] * 5, "0.09", False),  # of no importance
        (["0.10"] * 3 + ["9"] * 2, "1.01", True),  # the middle, whatever two of them cost
        (["0"] * 5, "1", False),
        (["0.10"] * 5, None, False),
    ],
)
def test_a_run_that_costs_ten_times_the_usual_is_told(
    alice: Access, before: Sequence[str], cost: str | None, is_told: bool
) -> None:
    first = ended(alice, before[0])
    for one in before[1:]:
        ended(alice, one, first)
    Notice.objects.all().delete()
    run = ended(alice, cost, first)
    assert len(told()) == is_told
    if is_told:
        assert "10 times the usual" in told()[0]
        assert Notice.objects.get().get_absolute_url() == run.get_absolute_url()


def test_a_run_of_another_task_is_not_compared(alice: Access) -> None:
    first = ended(alice, "0.10")
    for _ in range(5):
        ended(alice, "0.10", first)
    ended(alice, "9")
    assert told() == []


def spend_days(access: Access, costs: Sequence[str], run: Run) -> None:
    """Days before today with these costs, yesterday first."""
    row = UsageDay.objects.get()
    for ago, cost in enumerate(costs, start=1):
        row.pk, row.cost = None, Decimal(cost)
        row.day = row.local_day = timezone.now().date() - timedelta(days=ago)
        row.save()


@pytest.mark.parametrize(
    ("before", "today", "is_told"),
    [
        (["10", "12"] * 10, "60", True),
        (["10", "12"] * 14, "13.5", False),  # within three deviations
        (["10", "30"] * 14, "45", False),  # days differ as much
        (["10"] * 6, "99", False),  # too few to know
        (["0.01"] * 20, "0.90", False),  # of no importance
        (["10"] * 27 + ["80"], "79", False),  # there was such a day
    ],
)
def test_a_day_above_the_spread_of_the_weeks_before_is_told(
    alice: Access, before: Sequence[str], today: str, is_told: bool
) -> None:
    spend_days(alice, before, ended(alice, today))
    assert unusual.tell_of_days() == is_told
    assert len(told()) == is_told
    if is_told:
        assert "$60.00 spent today; a day usually costs $7.86" in told()
        assert unusual.tell_of_days() == 0  # once a day


def test_a_worker_tells_of_a_day(alice: Access, eve: Access) -> None:
    spend_days(alice, ["10"] * 20, ended(alice, "90"))
    work_until(lambda: Notice.objects.exists())
    notice = Notice.objects.get()
    assert notice.user == alice.user
    assert Organization.objects.get(pk=alice.organization.pk).unusual_told_on is not None
    assert Organization.objects.get(pk=eve.organization.pk).unusual_told_on is None


def test_a_member_is_not_told(alice: Access, bob: Access, settings: Any) -> None:
    spend_days(alice, ["10"] * 20, ended(bob, "90"))
    unusual.tell_of_days()
    assert {notice.user for notice in Notice.objects.all()} == {alice.user}
