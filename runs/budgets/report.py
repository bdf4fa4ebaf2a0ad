"""What the page of budgets shows: how much of each is spent, and what it would have done before."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from runs.budgets import definitions
from runs.budgets.counting import COUNTS_AGAINST, RUNS, days_of, rows_of
from runs.models import Budget, BudgetCount, BudgetPeriod
from runs.usage.periods import midnight
from teammates.access import Access

# What ended last month, by budget and day: what it cost, and how many runs were above the cap.
_LAST_MONTH = f"""
SELECT b.id, (r.finished_at AT TIME ZONE 'UTC')::date AS day, sum(r.cost) AS cost,
    count(*) FILTER (WHERE r.cost > b.amount) AS above
FROM runs_budget b JOIN {RUNS} ON {COUNTS_AGAINST}
WHERE b.organization_id = %(organization)s AND r.created_at >= %(first)s - interval '1 day'
    AND r.finished_at >= %(first)s AND r.finished_at < %(next)s AND r.cost > 0
GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True)
class BudgetUse:
    """A budget as it stands. `count` is that of now; None: nothing has counted yet, or it is of
    each run. `before` says what it would have stopped last month."""

    budget: Budget
    count: BudgetCount | None
    before: str

    @property
    def used(self) -> Decimal:
        return self.count.used if self.count else Decimal(0)

    @property
    def reserved(self) -> Decimal:
        return self.count.reserved if self.count else Decimal(0)

    @property
    def percent(self) -> int:
        """Of the cap, 100 at most."""
        amount = self.budget.amount
        return min(100, int(self.used / amount * 100)) if amount else 100

    @property
    def is_per_run(self) -> bool:
        return self.budget.period == BudgetPeriod.RUN


def uses(access: Access) -> list[BudgetUse]:
    """The organization's budgets, in three queries. Raises `Forbidden`."""
    budgets = list(definitions.list_budgets(access))
    days = days_of(timezone.now().astimezone(UTC))
    now: dict[int, BudgetCount] = {}
    begun = {budget.pk: days.get(budget.period) for budget in budgets}
    current = Q(starts_on=None) | Q(starts_on__in=days.values())
    for count in BudgetCount.objects.filter(current, budget__in=budgets, run=None):
        if count.starts_on == begun[count.budget_id]:  # type: ignore[index]  # of one of them
            now[count.budget_id] = count  # type: ignore[index]
    first = (days["month"] - timedelta(days=1)).replace(day=1)
    about: dict[str, Any] = {
        "organization": access.organization.pk,
        "first": midnight(first),
        "next": midnight(days["month"]),
    }
    spent: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    if budgets:
        with connection.cursor() as cursor:
            cursor.execute(_LAST_MONTH, about)
            for row in rows_of(cursor):
                spent[row["id"]].append(row)
    return [
        BudgetUse(budget, now.get(budget.pk), _would_have(budget, spent[budget.pk]))
        for budget in budgets
    ]


def _would_have(budget: Budget, days: list[dict[str, Any]]) -> str:
    """What a budget would have stopped, with the costs of the days of last month."""
    whole = sum((day["cost"] for day in days), start=Decimal(0))
    if not whole:
        return "nothing was spent"
    if budget.period == BudgetPeriod.RUN:
        runs = sum(day["above"] for day in days)
        return f"{runs} run{'' if runs == 1 else 's'} above it" if runs else "no run above it"
    starts: defaultdict[date | None, Decimal] = defaultdict(Decimal)
    for day in days:
        key = {"day": day["day"], "week": day["day"] - timedelta(days=day["day"].weekday())}
        period = key.get(budget.period)
        starts[period] += day["cost"]
        if starts[None] > budget.amount:  # of a month, and in all
            return f"reached on {day['day']:%-d %B}"
    reached = sum(cost > budget.amount for period, cost in starts.items() if period)
    if reached:
        word = "day" if budget.period == BudgetPeriod.DAY else "week"
        return f"reached on {reached} {word}{'' if reached == 1 else 's'}"
    return f"not reached: ${whole:,.2f} were spent"
