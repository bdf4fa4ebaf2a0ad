"""How much of its cap each group of a page of usage has used."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from runs.budgets.definitions import COLUMNS
from runs.budgets.report import BudgetUse, percent_of
from runs.usage import limits, totals
from runs.usage.report import UsageReport
from teammates.access import Access
from teammates.models import EndUser
from teammates.templatetags.muster import money

CENTS = 100
BUDGETED = {  # dimension → column of budgets
    "teammate": "teammate",
    "task": "task",
    "member": "member",
    "key": "api_key",
    "end_user": "end_user",
}


@dataclass(frozen=True)
class Cap:
    """`said` is in words: how much of what is used."""

    percent: int
    said: str


def column_of(by: Sequence[str]) -> str | None:
    """The column of budgets that are for the groups of these dimensions, if any can be."""
    return BUDGETED.get(by[0]) if len(by) == 1 else None


def of_groups(access: Access, report: UsageReport, uses: Iterable[BudgetUse]) -> dict[Any, Cap]:
    """The fullest cap of each group by one dimension, by its id: budgets that are for it and
    nothing else, and what an end user may spend in a month. Two queries for end users, none for
    others."""
    column = column_of(report.by)
    if column is None:
        return {}
    keys = {group.key[0] for group in report.groups}
    capped = list(_of_budgets(column, uses))
    if column == "end_user":
        capped += _of_end_users(access, keys)
    fullest: dict[Any, Cap] = {}
    for key, cap in capped:
        if key not in keys:
            continue
        if key not in fullest or cap.percent > fullest[key].percent:
            fullest[key] = cap
    return fullest


def _of_budgets(column: str, uses: Iterable[BudgetUse]) -> Iterable[tuple[int, Cap]]:
    for use in uses:
        budget = use.budget
        whose = {name: getattr(budget, f"{name}_id") for name in COLUMNS}
        if use.is_per_run or [name for name, key in whose.items() if key] != [column]:
            continue
        yield whose[column], Cap(use.percent, f"{money(use.used)} of {budget}")


def _of_end_users(access: Access, keys: Collection[Any]) -> Iterable[tuple[int, Cap]]:
    found = EndUser.objects.filter(organization=access.organization, pk__in=keys)
    people = list(found.select_related("organization"))
    used = totals.by_end_user(access, people)
    for one in people:
        cents = limits.limits_of(one).cost_cents
        if cents is not None:
            spent, amount = used.get(one.pk, {}).get("cost", Decimal(0)), Decimal(cents) / CENTS
            said = f"{money(spent)} of {money(amount)} this month"
            yield one.pk, Cap(percent_of(amount, spent), said)
