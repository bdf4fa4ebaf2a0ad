"""Credits: an organization that has been given some spends no more than those (contract v1 2.10).

They are held as its budgets are: what a model call may cost at most is reserved, of what is left.
A run that ends takes its credits out of the balance, whole ones, and the count of the budget
follows: `spent` is what the ended runs took, and what those under way have cost so far.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import F, Q, QuerySet

from runs.budgets import definitions
from runs.models import (
    CALLS_A_MODEL,
    CREDITS_PER_DOLLAR,
    Budget,
    BudgetAction,
    BudgetCount,
    BudgetPeriod,
    CreditEntry,
    CreditKind,
    Run,
    Step,
    StepStatus,
)
from runs.usage.periods import LAST_YEAR, midnight
from teammates.access import Access
from teammates.errors import Conflict, Invalid
from teammates.models import Organization
from teammates.trust import audit

MOST = 10**10
LARGEST = Decimal(10**8)  # dollars that a budget holds
LONGEST_NOTE = 500
# That the organization of run `r` has been given credits.
IS_METERED = f"""EXISTS (
    SELECT FROM runs_budget b
    WHERE b.organization_id = r.organization_id AND b.period = '{BudgetPeriod.CREDITS}'
)"""


def balance_of(organization: Organization) -> int | None:
    """None: it was never given any, and spends without."""
    entries = CreditEntry.objects.filter(organization=organization).order_by("-id")
    return entries.values_list("balance", flat=True).first()


def ledger_of(
    organization: Organization, *, first: date | None = None, last: date | None = None
) -> "QuerySet[CreditEntry]":
    """The newest first, of days (UTC) from `first` to `last`. Raises `Invalid`."""
    if any(day.year > LAST_YEAR for day in (first, last) if day):
        raise Invalid(f"from and to must be days until {LAST_YEAR}.")
    entries = CreditEntry.objects.filter(organization=organization)
    if first is not None:
        entries = entries.filter(created_at__gte=midnight(first))
    if last is not None:
        entries = entries.filter(created_at__lt=midnight(last + timedelta(days=1)))
    return entries.select_related("organization", "run__thread", "run__prompt").order_by("-id")


@audit.recorded("credits.adjust")
def adjust(access: Access, organization: Organization, amount: int, note: str = "") -> int:
    """Give an organization credits, or take some, and return its balance. For those who run the
    installation. Raises `Forbidden`, `Invalid`, `Conflict` where it does not have as many."""
    _require(access)
    if not amount or abs(amount) > MOST:
        raise Invalid(f"amount must be a number of credits, not 0, {MOST:,} at most.")
    return _book(access, organization, amount, note)


def adjust_all(access: Access, amount: int, note: str = "") -> int:
    """The same for every organization, one after the other; those that do not have as many keep
    what they have. Returns of how many the balance changed."""
    _require(access)
    changed = 0
    for organization in Organization.objects.filter(closed_at=None).order_by("pk"):
        with suppress(Conflict):
            adjust(access, organization, amount, note)
            changed += 1
    return changed


def reset_all(access: Access, note: str = "") -> int:
    """Take from every organization the credits that it has left. Returns from how many."""
    _require(access)
    organizations = Organization.objects.filter(closed_at=None).order_by("pk")
    return sum(_reset(access, organization, note) for organization in organizations)


@audit.recorded("credits.reset")
def _reset(access: Access, organization: Organization, note: str) -> bool:
    if not balance_of(organization):
        return False
    _book(access, organization, None, note)
    return True


def take(runs: Iterable[Run]) -> None:
    """Take the credits of runs that have just ended out of the balances of their organizations,
    which are metered. Call in their terminal transaction; holds counts of budgets."""
    by_organization: dict[int, list[Run]] = {}
    for run in runs:
        by_organization.setdefault(run.organization_id, []).append(run)
    accounts = Budget.objects.filter(
        organization__in=by_organization, period=BudgetPeriod.CREDITS
    ).select_related("organization")
    for account in accounts.order_by("pk"):
        counts = BudgetCount.objects.filter(budget=account)
        held = list(counts.select_for_update(no_key=True))
        left = balance_of(account.organization) or 0
        for run in by_organization[account.organization_id]:
            used = min(run.credits_used or 0, left)
            left -= used
            if used:
                CreditEntry.objects.create(
                    organization=account.organization,
                    kind=CreditKind.RUN,
                    amount=-used,
                    balance=left,
                    run=run,
                )
            rounded = Decimal(used) / CREDITS_PER_DOLLAR - (run.cost or 0)
            counts.update(spent=F("spent") + rounded)
        is_kept = any(count.kept for count in held)
        if is_kept and not _lost_calls(account.organization).exists():
            counts.update(kept=0)  # what nobody told of calls that were lost is not taken


def _lost_calls(organization: Organization) -> "QuerySet[Step]":
    """Calls of runs under way whose whole cost nobody told."""
    calls = Step.objects.filter(
        run__in=Run.objects.filter(organization=organization, finished_at=None),
        kind__in=CALLS_A_MODEL,
    ).exclude(status=StepStatus.RUNNING)
    return calls.filter(Q(cost=None) | Q(usage_estimated=True) | Q(status=StepStatus.STOPPED))


def _require(access: Access) -> None:
    access.require("data.budgets.manage")
    access.require_installation()


def _locked(organization: Organization) -> Budget | None:
    """The budget that holds an organization's credits; its count is held from here on."""
    held = Budget.objects.select_for_update()
    account = held.filter(organization=organization, period=BudgetPeriod.CREDITS).first()
    if account is not None:
        list(BudgetCount.objects.select_for_update(no_key=True).filter(budget=account))
    return account


@transaction.atomic
def _book(access: Access, organization: Organization, amount: int | None, note: str) -> int:
    """`amount` None takes all that is left."""
    if len(note) > LONGEST_NOTE:
        raise Invalid(f"note must have at most {LONGEST_NOTE} characters.")
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    account = _locked(organization) or _opened(organization)
    left = balance_of(organization) or 0
    given = -left if amount is None else amount
    if left + given < 0:
        raise Conflict(f"There are {left:,} credits, not {-given:,}.", code="credits.insufficient")
    account.amount += Decimal(given) / CREDITS_PER_DOLLAR
    if account.amount >= LARGEST:
        raise Invalid(f"amount: all that was ever given must be less than ${LARGEST:,}.")
    account.save(update_fields=["amount", "updated_at"])
    CreditEntry.objects.create(
        organization=organization,
        kind=CreditKind.RESET if amount is None else CreditKind.ADJUSTMENT,
        amount=given,
        balance=left + given,
        note=note,
        created_by=access.user,
    )
    return left + given


def _opened(organization: Organization) -> Budget:
    account = definitions.create_locked(
        organization=organization,
        period=BudgetPeriod.CREDITS,
        action=BudgetAction.STOP,
        amount=Decimal(0),
    )
    BudgetCount.objects.get_or_create(budget=account, starts_on=None, run=None)
    return account
