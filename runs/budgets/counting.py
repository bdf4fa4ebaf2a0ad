"""Which budgets a run counts against, and in which of their days, weeks and months.

Locks are taken in one order: rows of runs, then counts by budget, time and run.
"""

from datetime import date, datetime, timedelta
from typing import Any

from runs.models import CALLS_A_MODEL, Budget, BudgetPeriod
from runs.usage.periods import midnight, month_of, today

CALLS = ", ".join(f"'{kind}'" for kind in CALLS_A_MODEL)  # kinds of steps
# Runs, each with the first of those that started each other.
RUNS = "(runs_run r JOIN runs_run root ON root.id = coalesce(r.root_id, r.id))"
# Of the runs that started run `r`, one through another: a column.
_ABOVE = """(
    WITH RECURSIVE above AS (
        SELECT a.* FROM runs_run a WHERE a.id = r.started_by_id
        UNION ALL
        SELECT a.* FROM runs_run a JOIN above ON a.id = above.started_by_id
    ) SELECT {column} FROM above
)"""
# That run `r` counts against budget `b`: it fits all of its columns, or one of the runs does that
# started it, whose budgets it draws from.
COUNTS_AGAINST = " AND ".join(
    [
        "b.organization_id = r.organization_id",
        *(
            f"(b.{column} IS NULL OR b.{column} IN (r.{of_run}, root.{of_run}) OR "
            f"r.started_by_id <> root.id AND b.{column} IN {_ABOVE.format(column=of_run)})"
            for column, of_run in {
                "teammate_id": "teammate_id",
                "task_id": "task_id",
                "member_id": "created_by_id",
                "api_key_id": "api_key_id",
                "end_user_id": "end_user_id",
                "thread_id": "thread_id",
            }.items()
        ),
        "(b.run_id IS NULL OR b.run_id = root.id)",
    ]
)
# The run and the day that key a count of budget `b` for run `r`; the days are parameters.
KEY_RUN = "CASE b.period WHEN 'run' THEN root.id END"
STARTS_ON = (
    "CASE b.period WHEN 'day' THEN %(day)s::date WHEN 'week' THEN %(week)s::date"
    " WHEN 'month' THEN %(month)s::date END"
)
# The ids of the runs that spent what counts against a budget, from some instant on or ever.
COUNTED = f"""
SELECT r.id FROM {RUNS} JOIN runs_budget b ON {COUNTS_AGAINST}
CROSS JOIN (SELECT %s::bigint AS budget, %s::timestamptz AS since) asked
WHERE b.id = asked.budget AND EXISTS (
    SELECT FROM runs_step s WHERE s.run_id = r.id AND s.kind IN ({CALLS})
        AND (asked.since IS NULL OR s.started_at >= asked.since)
)
"""
# Common table expressions that settle what was reserved for the steps in `closed` (id, cost,
# usage_estimated). What a call cost that nobody told is kept as reserved.
SETTLING = """freed AS (
    DELETE FROM runs_budgethold h USING closed WHERE h.step_id = closed.id
    RETURNING h.count_id, h.amount, coalesce(closed.cost, 0) AS cost,
        CASE WHEN closed.cost IS NULL OR closed.usage_estimated
             THEN greatest(h.amount - coalesce(closed.cost, 0), 0) ELSE 0 END AS kept
), due AS (
    SELECT count_id, sum(amount) AS amount, sum(cost) AS cost, sum(kept) AS kept
    FROM freed GROUP BY count_id
), counts AS (
    SELECT c.id FROM runs_budgetcount c JOIN due ON due.count_id = c.id
    ORDER BY c.budget_id, c.starts_on, c.run_id FOR NO KEY UPDATE OF c
), settled AS (
    UPDATE runs_budgetcount c SET reserved = c.reserved - due.amount,
        spent = c.spent + due.cost, kept = c.kept + due.kept
    FROM due JOIN counts ON counts.id = due.count_id WHERE c.id = due.count_id
)"""


def days_of(day: date) -> dict[str, date]:
    """A day, and the first ones of its week and of its month: the parameters of `STARTS_ON`."""
    return {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}


def began_on(period: str) -> date | None:
    """When the day, week or month that is going on began; None for what has no such beginning."""
    return days_of(today()).get(period)


def began_at(budget_id: int) -> datetime | None:
    """From when on calls count against a budget now; None for all, and where there is no such
    budget."""
    budget = Budget.objects.filter(pk=budget_id).first()
    day = began_on(budget.period) if budget else None
    return None if day is None else midnight(day)


def begins_again(period: str, starts_on: date | None) -> datetime | None:
    """When a day, week or month that began is over; None for what does not begin again."""
    if starts_on is None:
        return None
    if period == BudgetPeriod.MONTH:
        return midnight(month_of(starts_on)[1])
    return midnight(starts_on + timedelta(days=7 if period == BudgetPeriod.WEEK else 1))


def rows_of(cursor: Any) -> list[dict[str, Any]]:
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
