"""Before each model call, what it may cost at most is reserved against every budget that its run
counts against; with the step, what was not spent is given back (design 4, invariant 8)."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import connection

from runs.budgets.counting import (
    COUNTS_AGAINST,
    KEY_RUN,
    RUNS,
    SETTLING,
    STARTS_ON,
    begins_again,
    days_of,
    rows_of,
)
from runs.models import BudgetAction, BudgetCount, Run

# No budget is made from here on that does not count the step which comes next.
_HOLD_UP_NEW_BUDGETS = "LOCK TABLE runs_step IN ROW EXCLUSIVE MODE"
# The counts of all budgets that a run counts against, made where they are missing, and locked.
_LOCK = f"""
WITH hits AS (
    SELECT b.id AS budget_id, b.amount, b.action, b.period,
        {STARTS_ON} AS starts_on, {KEY_RUN} AS run_id
    FROM {RUNS} JOIN runs_budget b ON {COUNTS_AGAINST} WHERE r.id = %(run)s
    FOR SHARE OF b -- it is neither changed nor deleted before this is over
), counts AS (
    INSERT INTO runs_budgetcount (budget_id, starts_on, run_id, spent, kept, reserved, granted,
        told)
    SELECT DISTINCT budget_id, starts_on, run_id, 0, 0, 0, 0, 0 FROM hits ORDER BY 1, 2, 3
    ON CONFLICT (budget_id, starts_on, run_id)
    DO UPDATE SET spent = runs_budgetcount.spent -- so that it is locked and returned
    RETURNING *
)
SELECT counts.id, hits.budget_id, hits.amount, hits.action, hits.period,
    hits.starts_on, counts.spent + counts.kept AS used, counts.reserved
FROM hits JOIN counts ON counts.budget_id = hits.budget_id
    AND counts.starts_on IS NOT DISTINCT FROM hits.starts_on
    AND counts.run_id IS NOT DISTINCT FROM hits.run_id
ORDER BY hits.budget_id
"""
_RESERVE = """
UPDATE runs_budgetcount c SET reserved = r.reserved
FROM jsonb_to_recordset(%s::jsonb) r(id bigint, reserved numeric) WHERE c.id = r.id
"""
_SETTLE = f"""
WITH closed AS (
    SELECT id, cost, usage_estimated OR %(is_unknown)s AS usage_estimated
    FROM runs_step WHERE id = %(step)s
), {SETTLING} SELECT 1
"""


@dataclass(frozen=True)
class Hold:
    """An amount that is reserved in a count for a model call."""

    count_id: int
    amount: Decimal


@dataclass(frozen=True)
class Breach:
    """A model call that a budget does not allow. Amounts are dollars."""

    budget_id: int
    period: str
    amount: Decimal
    used: Decimal  # with what is reserved for other calls
    worst: Decimal | None  # that the call may cost; None: its model has no price
    stops: bool  # the run, instead of asking
    again_at: datetime | None  # the budget begins anew


@dataclass
class _Count:
    id: int
    amount: Decimal
    used: Decimal
    reserved: Decimal

    def has_room_for(self, worst: Decimal | None) -> bool:
        """What costs nothing has room everywhere, what has no price nowhere."""
        if worst is None:
            return False
        return not worst or self.used + self.reserved + worst <= self.amount


def reserve(run: Run, worst: Decimal | None, *, now: datetime) -> list[Hold] | Breach:
    """Reserve what a model call may cost at most against every budget that its run counts against;
    or nothing, where one of them does not allow it. `worst` None: the model has no price.

    The caller holds the run's row; no budget is made, and the counts are held, from here on.
    """
    with connection.cursor() as cursor:
        cursor.execute(_HOLD_UP_NEW_BUDGETS)
        cursor.execute(_LOCK, {"run": run.pk, **days_of(now.astimezone(UTC).date())})
        hits = rows_of(cursor)
    counts = [_Count(hit["id"], hit["amount"], hit["used"], hit["reserved"]) for hit in hits]
    full = [
        (hit, count)
        for hit, count in zip(hits, counts, strict=True)
        if hit["action"] != BudgetAction.TELL and not count.has_room_for(worst)
    ]
    full.sort(key=lambda one: one[0]["action"] != BudgetAction.STOP)  # what stops comes first
    if full:
        # What people allow the run besides is beyond what asks, never beyond what stops.
        allowance = _allowance(run) if full[0][0]["action"] != BudgetAction.STOP else None
        if allowance is None or not allowance.has_room_for(worst):
            return _breach(*full[0], worst)
        counts.append(allowance)
    holds = [Hold(count.id, worst or Decimal(0)) for count in counts]
    reserved = [
        {"id": count.id, "reserved": str(count.reserved + (worst or 0))} for count in counts
    ]
    if reserved:
        with connection.cursor() as cursor:
            cursor.execute(_RESERVE, [json.dumps(reserved)])
    return holds


def settle(step_id: int, *, is_unknown: bool = False) -> None:
    """Give back what was reserved for a step that is over, and count what it cost; if that
    `is_unknown`, all that was reserved. Where a set of steps is over, `counting.SETTLING` does it.
    Holds counts."""
    with connection.cursor() as cursor:
        cursor.execute(_SETTLE, {"step": step_id, "is_unknown": is_unknown})


def _allowance(run: Run) -> _Count | None:
    """What people allowed the run besides, locked."""
    locked = BudgetCount.objects.select_for_update(no_key=True)
    row = locked.filter(budget=None, run=run.root_id or run.pk).first()
    return None if row is None else _Count(row.pk, row.granted, row.used, row.reserved)


def _breach(hit: dict[str, Any], count: _Count, worst: Decimal | None) -> Breach:
    return Breach(
        budget_id=hit["budget_id"],
        period=hit["period"],
        amount=hit["amount"],
        used=count.used + count.reserved,
        worst=worst,
        stops=hit["action"] == BudgetAction.STOP,
        again_at=begins_again(hit["period"], hit["starts_on"]),
    )
