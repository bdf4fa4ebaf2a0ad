"""Sums of the days of an organization."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Max, QuerySet, Sum

from runs.models import LabelKind, Usage, UsageDay, UsageLabel
from runs.usage.periods import FIRST_YEAR, Span, period, today
from teammates.access import Access
from teammates.errors import Invalid
from teammates.models import EndUser
from teammates.types import JSON

LANES = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
LONGEST_SERIES = 366  # days
DEFAULT_SERIES = 30


def days_of(access: Access) -> Any:
    """The rows that the asker may see: admins all, members their own."""
    days = UsageDay.objects.filter(organization=access.organization)
    return days if access.may("data.usage.read") else days.filter(created_by=access.user)


def usage_of(access: Access) -> "QuerySet[Usage]":
    """What each run used of each model, of those that the asker may see: admins all, members their
    own."""
    rows = Usage.objects.filter(organization=access.organization)
    return rows if access.may("data.usage.read") else rows.filter(run__created_by=access.user)


def labels_of(access: Access, kind: LabelKind) -> "QuerySet[UsageLabel]":
    """Sums of labels, of runs that the asker may see."""
    rows = UsageLabel.objects.filter(organization=access.organization, kind=kind)
    return rows if access.may("data.usage.read") else rows.filter(created_by=access.user)


def within(days: Any, span: Span) -> Any:
    """Those of the organization's days from `span.start` to `span.end`."""
    near = days.filter(  # through the index
        day__gte=span.start - timedelta(days=1), day__lte=span.end + timedelta(days=1)
    )
    return near.filter(local_day__range=(span.start, span.end))


def totals(days: Any) -> JSON:
    """Sums of `days`; zeros where there are none."""
    sums = days.aggregate(
        runs=Sum("runs"),
        records=Sum("records"),
        cost=Sum("cost"),
        unpriced=Sum("unpriced"),
        last_at=Max("last_at"),
        **{lane: Sum(lane) for lane in LANES},
    )
    return {name: value if name == "last_at" else value or 0 for name, value in sums.items()}


def this_month(access: Access) -> JSON:
    return totals(days_of(access).filter(day__gte=period()[0]))


def by_day(access: Access, span: Span, **filters: Any) -> list[JSON]:
    """Runs, cost and tokens of each of the organization's days in `span`, zeros where nothing was
    used. One query."""
    rows = within(days_of(access).filter(**filters), span)
    sums = rows.values("local_day").annotate(
        runs=Sum("runs"),
        cost=Sum("cost"),
        unpriced=Sum("unpriced"),
        tokens=Sum("input_tokens") + Sum("output_tokens"),
    )
    found = {row["local_day"]: {"day": row["local_day"], **row} for row in sums.order_by()}
    none = {"runs": 0, "cost": Decimal(0), "unpriced": 0, "tokens": 0}
    return [found.get(day) or {"day": day, **none} for day in span.days]


def by_teammate(access: Access, span: Span, **filters: Any) -> dict[int, JSON]:
    """Of each teammate: runs and cost in `span`, and the runs of each of its last seven days."""
    rows = within(days_of(access).filter(**filters), span).values("teammate", "local_day")
    week = span.days[-7:]
    found: dict[int, JSON] = {}
    summed = rows.annotate(n=Sum("runs"), spent=Sum("cost"), lacking=Sum("unpriced"))
    for row in summed.order_by():
        sums = found.setdefault(
            row["teammate"],
            {
                "runs": 0,
                "cost": Decimal(0),
                "unpriced": 0,
                "week": dict.fromkeys(week, 0),
            },
        )
        sums["runs"] += row["n"]
        sums["cost"] += row["spent"]
        sums["unpriced"] += row["lacking"]
        if row["local_day"] in sums["week"]:
            sums["week"][row["local_day"]] += row["n"]
    for sums in found.values():
        sums["week"] = list(sums["week"].values())
    return found


def by_end_user(access: Access, end_users: list[EndUser]) -> dict[int, JSON]:
    """This month's sums of each, in one query."""
    return by_id(days_of(access).filter(day__gte=period()[0], end_user__in=end_users), "end_user")


def by_id(days: Any, column: str) -> dict[int, JSON]:
    """Sums of `days` by the ids of a column, in one query."""
    rows = days.values(column).annotate(
        runs=Sum("runs"),
        cost=Sum("cost"),
        unpriced=Sum("unpriced"),
        last_at=Max("last_at"),
        input_tokens=Sum("input_tokens"),
        output_tokens=Sum("output_tokens"),
    )
    return {row[column]: row for row in rows.order_by()}


def series(
    access: Access, *, start: date | None = None, end: date | None = None, **filters: Any
) -> dict[date, list[UsageDay]]:
    """Each day from `start` to `end` (today; 30 days) with its rows. Raises `Invalid`."""
    end = end or today()
    if end.year < FIRST_YEAR:
        raise Invalid(f"end_date must not be before {FIRST_YEAR}.")
    start = start or end - timedelta(days=DEFAULT_SERIES - 1)
    if start > end:
        raise Invalid("start_date must not be after end_date.")
    if (end - start).days >= LONGEST_SERIES:
        raise Invalid(f"start_date: at most {LONGEST_SERIES} days are shown at once.")
    found: dict[date, list[UsageDay]] = {
        start + timedelta(days=n): [] for n in range((end - start).days + 1)
    }
    for row in days_of(access).filter(day__gte=start, day__lte=end, **filters):
        found[row.day].append(row)
    return found
