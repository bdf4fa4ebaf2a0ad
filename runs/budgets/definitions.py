"""Budgets: set, changed, deleted, found."""

from datetime import UTC
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from runs.budgets.counting import COUNTS_AGAINST, KEY_RUN, STARTS_ON, days_of
from runs.models import (
    CALLS_A_MODEL,
    Budget,
    BudgetAction,
    BudgetCount,
    BudgetPeriod,
    Gate,
    GateKind,
    GateStatus,
    Run,
)
from teammates.access import Access
from teammates.errors import Conflict, Invalid, NotFound
from teammates.trust import audit

# What a budget may be for, by the name of the column; nothing: for everything.
COLUMNS = ("teammate", "task", "member", "api_key", "end_user", "thread", "run")
LARGEST = Decimal(10_000_000)  # dollars
_CALLS = ", ".join(f"'{kind}'" for kind in CALLS_A_MODEL)
# What the runs of a new budget have spent so far in what is going on: this day, week or month, all
# time, or runs that are not over.
_COUNT = f"""
INSERT INTO runs_budgetcount (budget_id, starts_on, run_id, spent, kept, reserved, granted, told)
SELECT b.id, {STARTS_ON}, {KEY_RUN}, coalesce(sum(s.cost), 0), 0, 0, 0, 0
FROM runs_budget b JOIN runs_run r ON {COUNTS_AGAINST}
JOIN runs_step s ON s.run_id = r.id AND s.kind IN ({_CALLS})
WHERE b.id = %(budget)s AND CASE b.period WHEN 'total' THEN true
    WHEN 'run' THEN EXISTS (
        SELECT FROM runs_run o WHERE o.finished_at IS NULL
        AND (o.id = coalesce(r.root_id, r.id) OR o.root_id = coalesce(r.root_id, r.id)))
    ELSE s.started_at >= ({STARTS_ON})::timestamp AT TIME ZONE 'UTC' END
GROUP BY 1, 2, 3
"""
# Calls that are under way count when they are over: nothing was reserved for them.
_HOLD = f"""
INSERT INTO runs_budgethold (step_id, count_id, amount)
SELECT s.id, c.id, 0
FROM runs_budget b JOIN runs_run r ON {COUNTS_AGAINST}
JOIN runs_step s ON s.run_id = r.id AND s.kind IN ({_CALLS}) AND s.status = 'running'
JOIN runs_budgetcount c ON c.budget_id = b.id AND c.starts_on IS NOT DISTINCT FROM {STARTS_ON}
    AND c.run_id IS NOT DISTINCT FROM {KEY_RUN}
WHERE b.id = %(budget)s
"""


@audit.recorded("budget.create", makes=Budget)
def set_budget(
    access: Access, *, period: str, amount: str | Decimal, action: str, **whose: Any
) -> Budget:
    """Cap what runs may spend. `whose`: rows by `COLUMNS`; a run counts if it fits all of them, and
    without any, each of the organization's does. What they spent in this day, week or month counts.

    No model call begins or ends meanwhile: each is counted once. Raises `Invalid`, `Forbidden`,
    `NotFound` (a row that does not exist for the asker), `Conflict` (there is one).
    """
    rows = {name: row for name, row in whose.items() if row is not None}
    access.require("data.budgets.manage")
    _check_rows(access, rows)
    if isinstance(run := rows.get("run"), Run) and run.root_id is not None:
        raise Invalid("run: another run started this one, and its budget holds for both.")
    fields = {"amount": _dollars(amount), **_choices(period=period, action=action)}
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("LOCK TABLE runs_step IN SHARE ROW EXCLUSIVE MODE")
            budget = Budget.objects.create(
                organization=access.organization, created_by=access.user, **fields, **rows
            )
            about: dict[str, Any] = {"budget": budget.pk}
            about |= days_of(timezone.now().astimezone(UTC))
            with connection.cursor() as cursor:
                cursor.execute(_COUNT, about)
                cursor.execute(_HOLD, about)
    except IntegrityError:
        raise Conflict(
            "There is a budget for that and this period already; change that one.",
            code="budgets.duplicate",
        ) from None
    return budget


@audit.recorded("budget.update")
def change_budget(
    access: Access,
    budget: Budget,
    *,
    amount: str | Decimal | None = None,
    action: str | None = None,
) -> Budget:
    """Raise or lower a budget, or say what happens at it; runs that wait at it are judged anew.
    Raises `Invalid`, `Forbidden`."""
    access.require("data.budgets.manage", budget)
    if amount is not None:
        budget.amount = _dollars(amount)
    if action is not None:
        budget.action = _choices(action=action)["action"]
    budget.save(update_fields=["amount", "action", "updated_at"])
    BudgetCount.objects.filter(budget=budget).update(told=0)
    _judge_anew(budget)
    return budget


@audit.recorded("budget.delete")
def delete_budget(access: Access, budget: Budget) -> None:
    """Runs that wait at it go on."""
    access.require("data.budgets.manage", budget)
    _judge_anew(budget)
    budget.delete()


def _judge_anew(budget: Budget) -> None:
    """Let the runs that wait at a budget ask again whether they may go on."""
    waiting = Gate.objects.filter(kind=GateKind.BUDGET, status=GateStatus.PENDING)
    waiting.filter(run__organization=budget.organization_id, card__budget_id=budget.pk).update(
        expires_at=timezone.now()
    )


def get_budget(access: Access, budget_id: int) -> Budget:
    """Raises `NotFound`."""
    found: Budget | None = list_budgets(access).filter(pk=budget_id).first()
    if found is None:
        raise NotFound("There is no such budget: it was deleted.", code="budgets.not_found")
    return found


def list_budgets(access: Access) -> "QuerySet[Budget]":
    """Those of the organization, the widest first. Raises `Forbidden`."""
    access.require("data.usage.read")
    found = Budget.objects.filter(organization=access.organization).select_related(*COLUMNS)
    return found.order_by("created_at", "id")


def grant(run: Run, dollars: Decimal) -> None:
    """Let a run, and those that it started, spend as much more, whatever their budgets say."""
    count, _ = BudgetCount.objects.get_or_create(
        budget=None, starts_on=None, run_id=run.root_id or run.pk
    )
    locked = BudgetCount.objects.select_for_update(no_key=True).get(pk=count.pk)
    locked.granted = max(locked.granted, locked.used + locked.reserved) + dollars
    locked.save(update_fields=["granted"])


def _check_rows(access: Access, rows: dict[str, Any]) -> None:
    for name, row in rows.items():
        if name not in COLUMNS:
            raise Invalid(f"{name}: a budget is for {', '.join(COLUMNS)}, or for everything.")
        if name == "member":
            if not row.memberships.filter(organization=access.organization).exists():
                raise NotFound("There is no such member.")
        else:
            access.require("data.budgets.manage", row)


def _choices(**given: str) -> dict[str, str]:
    known = {"period": BudgetPeriod, "action": BudgetAction}
    for name, value in given.items():
        if value not in known[name].values:
            raise Invalid(f"{name} must be one of {', '.join(known[name].values)}.")
    return given


def _dollars(amount: str | Decimal) -> Decimal:
    try:
        dollars = Decimal(str(amount).strip().removeprefix("$"))
    except InvalidOperation:
        raise Invalid("amount must be dollars, such as 25 or 0.50.") from None
    if not dollars.is_finite() or not 0 <= dollars <= LARGEST:
        raise Invalid(f"amount must be from 0 to {LARGEST:,} dollars.")
    return round(dollars, 6)
