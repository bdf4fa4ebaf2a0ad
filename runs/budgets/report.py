"""What the page of budgets shows: how much of each is spent, and what it would have done before."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Q

from runs.budgets import definitions
from runs.budgets.counting import COUNTS_AGAINST, RUNS, began_on, days_of, rows_of
from runs.models import Budget, BudgetCount, BudgetPeriod
from runs.usage.periods import midnight, month_of, today
from teammates.access import Access

# What ended last month, by budget and day: what it cost, and how many runs, with those that they
# started, were above the cap.
_LAST_MONTH = f"""
SELECT id, day, sum(cost) AS cost, count(*) FILTER (WHERE is_last AND whole > amount) AS above
FROM (
    SELECT b.id, b.amount, (r.finished_at AT TIME ZONE 'UTC')::date AS day, sum(u.cost) AS cost,
        sum(sum(u.cost)) OVER chain AS whole,
        max(max(r.finished_at)) OVER chain = max(r.finished_at) AS is_last
    FROM runs_budget b JOIN {RUNS} ON {COUNTS_AGAINST} JOIN runs_usage u ON u.run_id = r.id
    WHERE b.organization_id = %(organization)s AND r.organization_id = %(organization)s
        AND r.finished_at >= %(first)s AND r.finished_at < %(next)s AND u.cost > 0
    GROUP BY b.id, b.amount, day, root.id
    WINDOW chain AS (PARTITION BY b.id, root.id)
) ended
GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True)
class BudgetUse:
    """A budget as it stands. `count` is that of now; None: nothing has counted yet, or it is of
    each run. `before` says what it would have stopped last month, if that was asked for."""

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
        return percent_of(self.budget.amount, self.used)

    @property
    def is_per_run(self) -> bool:
        return self.budget.period == BudgetPeriod.RUN


def percent_of(cap: Decimal, used: Decimal) -> int:
    """How much of a cap is used, 100 at most."""
    return min(100, int(used / cap * 100)) if cap else 100


def uses(access: Access, *, looks_back: bool = True) -> list[BudgetUse]:
    """The organization's budgets, in three queries; without what each would have stopped last
    month, in two. Raises `Forbidden`."""
    budgets = list(definitions.list_budgets(access))
    now: dict[int, BudgetCount] = {}
    current = Q(starts_on=None) | Q(starts_on__in=days_of(today()).values())
    counts = BudgetCount.objects.filter(current, budget__in=budgets, run=None)
    for count in counts.select_related("budget"):
        assert count.budget is not None
        if count.starts_on == began_on(count.budget.period):
            now[count.budget.pk] = count
    spent = _last_month(access) if looks_back and budgets else {}
    return [
        BudgetUse(budget, now.get(budget.pk), _would_have(budget, spent.get(budget.pk, [])))
        for budget in budgets
    ]


def _last_month(access: Access) -> dict[int, list[dict[str, Any]]]:
    """The days of last month by budget."""
    this = today().replace(day=1)
    first, following = month_of(this - timedelta(days=1))
    about = {"first": midnight(first), "next": midnight(following)}
    spent: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(_LAST_MONTH, {"organization": access.organization.pk, **about})
        for row in rows_of(cursor):
            spent[row["id"]].append(row)
    return spent


def _would_have(budget: Budget, days: list[dict[str, Any]]) -> str:
    """What a budget would have stopped, with the costs of the days of last month."""
    whole = sum((day["cost"] for day in days), start=Decimal(0))
    if not whole:
        return "nothing was spent"
    if budget.period == BudgetPeriod.RUN:
        runs = sum(day["above"] for day in days)
        return f"{runs} run{'' if runs == 1 else 's'} above it" if runs else "no run above it"
    is_once = budget.period in (BudgetPeriod.MONTH, BudgetPeriod.TOTAL)
    spent: defaultdict[date | None, Decimal] = defaultdict(Decimal)
    for day in days:
        starts_on = None if is_once else days_of(day["day"])[budget.period]
        spent[starts_on] += day["cost"]
        if is_once and spent[starts_on] > budget.amount:
            return f"reached on {day['day']:%-d %B}"
    if reached := sum(cost > budget.amount for cost in spent.values()):
        word = "day" if budget.period == BudgetPeriod.DAY else "week"
        return f"reached on {reached} {word}{'' if reached == 1 else 's'}"
    return f"not reached: ${whole:,.2f} were spent"
