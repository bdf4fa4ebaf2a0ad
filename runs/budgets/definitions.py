"""Budgets: set, changed, deleted, found."""

from decimal import Decimal, InvalidOperation
from typing import Any

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from runs.budgets.counting import (
    CALLS,
    COUNTS_AGAINST,
    KEY_RUN,
    RUNS,
    STARTS_ON,
    began_on,
    days_of,
)
from runs.models import (
    PERIODS,
    Budget,
    BudgetAction,
    BudgetCount,
    Gate,
    GateKind,
    GateStatus,
    Run,
)
from runs.usage.periods import today
from teammates.access import Access
from teammates.errors import Conflict, Invalid, NotFound
from teammates.trust import audit, limits

# What a budget may be for, by the name of the column; nothing: for everything.
COLUMNS = ("teammate", "task", "member", "api_key", "end_user", "thread", "run")
LARGEST = Decimal(10_000_000)  # dollars
LONGEST_WAIT = "3s"
# What the runs of a new budget have spent so far in what is going on: this day, week or month, all
# time, or runs that are not over.
_COUNT = f"""
INSERT INTO runs_budgetcount (budget_id, starts_on, run_id, spent, kept, reserved, granted, told)
SELECT b.id, {STARTS_ON}, {KEY_RUN}, coalesce(sum(s.cost), 0), 0, 0, 0, 0
FROM runs_budget b JOIN {RUNS} ON {COUNTS_AGAINST}
JOIN runs_step s ON s.run_id = r.id AND s.kind IN ({CALLS})
WHERE b.id = %(budget)s AND CASE b.period WHEN 'total' THEN true
    WHEN 'credits' THEN r.finished_at IS NULL
    WHEN 'run' THEN EXISTS (
        SELECT FROM runs_run o
        WHERE o.finished_at IS NULL AND (o.id = root.id OR o.root_id = root.id))
    ELSE s.started_at >= ({STARTS_ON})::timestamp AT TIME ZONE 'UTC' END
GROUP BY 1, 2, 3
"""
# Calls that are under way, at most: their requests in bytes, with what is not written down of them.
_WORST = """
SELECT round(((octet_length(s.request::text) + 50000
        + 4 * coalesce((s.request->>'media_tokens')::int, 0))
        * greatest(p.uncached_input, p.cache_read, p.cache_write)
    + coalesce((s.request->>'max_output_tokens')::int, 0) * p.output) / 1000000, 6)
FROM teammates_model m JOIN teammates_modelprice p ON p.model_id = m.id
WHERE m.organization_id = r.organization_id AND m.alias = s.model_alias
    AND p.valid_from <= s.started_at
ORDER BY p.valid_from DESC LIMIT 1
"""
_HOLD = f"""
INSERT INTO runs_budgethold (step_id, count_id, amount)
SELECT s.id, c.id, coalesce(({_WORST}), 0)
FROM runs_budget b JOIN {RUNS} ON {COUNTS_AGAINST}
JOIN runs_step s ON s.run_id = r.id AND s.kind IN ({CALLS}) AND s.status = 'running'
JOIN runs_budgetcount c ON c.budget_id = b.id AND c.starts_on IS NOT DISTINCT FROM {STARTS_ON}
    AND c.run_id IS NOT DISTINCT FROM {KEY_RUN}
WHERE b.id = %(budget)s
"""
_RESERVE = """
UPDATE runs_budgetcount c SET reserved = h.amount FROM (
    SELECT count_id, sum(amount) AS amount FROM runs_budgethold GROUP BY count_id
) h WHERE h.count_id = c.id AND c.budget_id = %(budget)s
"""


@audit.recorded("budget.create", makes=Budget)
def set_budget(
    access: Access, *, period: str, amount: str | Decimal, action: str, **whose: Any
) -> Budget:
    """Cap what runs may spend. `whose`: rows by `COLUMNS`; a run counts if it fits all of them, and
    without any, each of the organization's does. What they spent in this day, week or month counts.

    No model call begins or ends meanwhile: each is counted once. Raises `Invalid`, `Forbidden`,
    `NotFound` (a row that does not exist for the asker), `Conflict` (there is one, or the database
    is busy), `TooMany`.
    """
    rows = {name: row for name, row in whose.items() if row is not None}
    access.require("data.budgets.manage")
    _check_rows(access, rows)
    if isinstance(run := rows.get("run"), Run) and run.root_id is not None:
        raise Invalid("run: another run started this one, and its budget holds for both.")
    fields = {"amount": dollars_of(amount), **_choices(period=period, action=action)}
    limits.take((limits.BUDGETS, access.organization.pk))
    try:
        with transaction.atomic():
            budget = create_locked(
                organization=access.organization, created_by=access.user, **fields, **rows
            )
    except IntegrityError:
        raise Conflict(
            "There is a budget for that and this period already; change that one.",
            code="budgets.duplicate",
        ) from None
    return budget


def create_locked(**fields: Any) -> Budget:
    """Make a budget, and count what its runs spent and may be spending. Until the transaction is
    over no step begins or ends. Raises `Conflict` where the database is busy."""
    try:
        with connection.cursor() as cursor:
            # Whoever waits for it holds up everybody who works.
            cursor.execute(f"SET LOCAL lock_timeout = '{LONGEST_WAIT}'")
            cursor.execute("LOCK TABLE runs_step IN SHARE ROW EXCLUSIVE MODE")
            cursor.execute("SET LOCAL lock_timeout = DEFAULT")
        budget = Budget.objects.create(**fields)
        about: dict[str, Any] = {"budget": budget.pk, **days_of(today())}
        with connection.cursor() as cursor:
            cursor.execute(_COUNT, about)
            cursor.execute(_HOLD, about)
            cursor.execute(_RESERVE, about)
    except OperationalError:
        raise Conflict(
            "The database is busy with other work; try again in a minute.", code="budgets.busy"
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
    _lock(budget)
    if amount is not None:
        budget.amount = dollars_of(amount)
    if action is not None:
        budget.action = _choices(action=action)["action"]
    budget.save(update_fields=["amount", "action", "updated_at"])
    if amount is not None:
        now = BudgetCount.objects.filter(budget=budget, starts_on=began_on(budget.period))
        now.filter(run=None).update(told=0)
    _judge_anew(budget)
    return budget


@audit.recorded("budget.delete")
def delete_budget(access: Access, budget: Budget) -> None:
    """Runs that wait at it go on."""
    access.require("data.budgets.manage", budget)
    _lock(budget)
    _judge_anew(budget)
    budget.delete()


def _lock(budget: Budget) -> None:
    """Read a budget as it is now; until this transaction is over no call is judged by it. Raises
    `NotFound`."""
    try:
        budget.refresh_from_db(
            fields=["amount", "action"], from_queryset=Budget.objects.select_for_update()
        )
    except Budget.DoesNotExist:
        raise _not_found() from None


def _judge_anew(budget: Budget) -> None:
    """Let the runs that wait at a budget ask again whether they may go on. One whose gate is being
    decided at this moment goes on anyway."""
    waiting = Gate.objects.filter(
        kind=GateKind.BUDGET,
        status=GateStatus.PENDING,
        run__organization=budget.organization_id,
        card__budget_id=budget.pk,
    )
    locked = waiting.select_for_update(skip_locked=True, no_key=True, of=("self",))
    ids = list(locked.values_list("pk", flat=True))
    Gate.objects.filter(pk__in=ids).update(expires_at=timezone.now())


def get_budget(access: Access, budget_id: int) -> Budget:
    """Raises `NotFound`."""
    found: Budget | None = list_budgets(access).filter(pk=budget_id).first()
    if found is None:
        raise _not_found()
    return found


def _not_found() -> NotFound:
    return NotFound("There is no such budget: it was deleted.", code="budgets.not_found")


def list_budgets(access: Access) -> "QuerySet[Budget]":
    """Those of the organization, the widest first. Raises `Forbidden`."""
    if not access.may("data.budgets.manage"):
        access.require("data.usage.read")
    found = Budget.objects.filter(organization=access.organization, period__in=PERIODS)
    found = found.select_related(*COLUMNS)
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
    known = {"period": PERIODS, "action": tuple(BudgetAction)}
    for name, value in given.items():
        if value not in known[name]:
            raise Invalid(f"{name} must be one of {', '.join(known[name])}.")
    return given


def dollars_of(amount: str | Decimal) -> Decimal:
    """An amount that a budget may have. Raises `Invalid`."""
    try:
        dollars = Decimal(str(amount).strip().removeprefix("$").replace(",", ""))
    except InvalidOperation:
        raise Invalid("amount must be dollars, such as 25 or 0.50.") from None
    if not dollars.is_finite() or not 0 <= dollars <= LARGEST:
        raise Invalid(f"amount must be from 0 to {LARGEST:,} dollars.")
    if round(dollars, 6) != dollars:
        raise Invalid("amount must have at most 6 decimals.")
    return dollars
