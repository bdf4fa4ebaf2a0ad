"""People are told of a budget that is half, nearly and wholly spent: once for each."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from runs.budgets import definitions, telling
from runs.models import Budget, BudgetCount, Notice
from teammates.access import Access
from tests.factories import make_run
from tests.runs.execution.working import work_until

pytestmark = pytest.mark.django_db(transaction=True)


def budget_of(access: Access, spent: str = "0", **fields: str) -> Budget:
    make_run(access)
    given = {"period": "total", "amount": "10", "action": "pause"} | fields
    budget = definitions.set_budget(access, **given)
    BudgetCount.objects.create(budget=budget, spent=Decimal(spent))
    return budget


def spend(budget: Budget, dollars: str) -> list[str]:
    """The titles of what is told once so much is spent."""
    before = set(Notice.objects.values_list("pk", flat=True))
    budget.counts.update(spent=Decimal(dollars))
    while telling.due().exists():
        telling.tell_due()
    return list(Notice.objects.exclude(pk__in=before).values_list("title", flat=True))


def test_each_share_is_told_once(alice: Access) -> None:
    budget = budget_of(alice)
    assert spend(budget, "4.99") == []
    assert [title[:4] for title in spend(budget, "5")] == ["50 %"]
    assert spend(budget, "7") == []
    assert [title[:4] for title in spend(budget, "8.5")] == ["80 %"]
    assert [title[:5] for title in spend(budget, "10.2")] == ["100 %"]
    assert spend(budget, "50") == []


def test_of_shares_that_are_passed_at_once_the_highest_is_told(alice: Access) -> None:
    assert [title[:5] for title in spend(budget_of(alice), "11")] == ["100 %"]


def test_a_raised_budget_is_told_of_anew(alice: Access) -> None:
    budget = budget_of(alice)
    spend(budget, "10")
    definitions.change_budget(alice, budget, amount="20")
    assert [title[:4] for title in spend(budget, "10")] == ["50 %"]


def test_owners_and_admins_are_told_and_nobody_else(
    alice: Access, bob: Access, eve: Access
) -> None:
    spend(budget_of(alice), "5")
    assert {notice.user for notice in Notice.objects.all()} == {alice.user}


def test_a_cap_of_each_run_tells_nothing(alice: Access) -> None:
    assert spend(budget_of(alice, period="run"), "9") == []


def test_a_budget_of_nothing_tells_nothing(alice: Access) -> None:
    assert spend(budget_of(alice, amount="0"), "0") == []


def test_a_worker_tells(alice: Access) -> None:
    budget = budget_of(alice, "6")
    work_until(lambda: Notice.objects.exists())
    assert Notice.objects.get().get_absolute_url() == "/settings/budgets/"
    assert budget.counts.get().told == 50


def test_a_change_tells_nothing_of_days_that_are_over(alice: Access) -> None:
    budget = budget_of(alice, period="day")
    today = timezone.now().date()
    BudgetCount.objects.filter(budget=budget).update(starts_on=today - timedelta(days=3), spent=9)
    BudgetCount.objects.create(budget=budget, starts_on=today, spent=Decimal("2"))
    definitions.change_budget(alice, budget, amount="12")
    while telling.due().exists():
        telling.tell_due()
    assert not Notice.objects.exists()
