"""What the page *Usage & cost* shows: sums of a span of days by model, teammate, person and more.

All of it comes from the daily sums (`UsageDay`); the number of queries does not depend on them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet, Sum
from django.utils import timezone

from runs.models import Run, RunStatus, Usage, UsageDay
from runs.usage import periods, totals
from runs.usage.periods import Span
from runs.usage.totals import LANES
from teammates.access import Access
from teammates.models import EndUser, Model, Teammate, User
from teammates.types import JSON

PERIODS = {
    "today": "Today",
    "7d": "7 days",
    "30d": "30 days",
    "90d": "90 days",
    "month": "This month",
}
DEFAULT_PERIOD = "30d"
MEASURES = {"cost": "Cost", "runs": "Runs", "tokens": "Tokens"}
# What can be grouped by: the column of the daily sums, and how it is called.
GROUPS = {
    "model": ("model_name", "Model"),
    "teammate": ("teammate", "Teammate"),
    "member": ("created_by", "Member"),
    "end_user": ("end_user", "End user"),
    "source": ("is_api", "Way of starting"),
}
MOST_ROWS = 200


@dataclass
class Sums:
    runs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost: Decimal = Decimal(0)

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def uncached_tokens(self) -> int:
        return self.input_tokens - self.cache_read_tokens - self.cache_write_tokens

    @property
    def cost_per_run(self) -> Decimal | None:
        return self.cost / self.runs if self.runs else None

    @classmethod
    def of(cls, rows: Iterable[JSON]) -> "Sums":
        sums = cls()
        for row in rows:
            for name in ("runs", "cost", *LANES):
                setattr(sums, name, getattr(sums, name) + row[name])
        return sums


@dataclass
class UsageGroup:
    key: Any
    name: str
    sums: Sums
    before: Sums
    by_day: list[Decimal]
    share: float = 0

    @property
    def change(self) -> float | None:
        """Of the cost, against as many days before: 0.2 is a fifth more. None: there was none."""
        return _change(self.sums.cost, self.before.cost)


@dataclass
class UsageReport:
    span: Span
    by: str
    measure: str
    groups: list[UsageGroup]
    sums: Sums
    before: Sums
    saved_by_cache: Decimal
    cost_of_failed: Decimal
    unpriced: list[JSON] = field(default_factory=list)
    likely_by_month_end: Decimal | None = None

    @property
    def change(self) -> float | None:
        return _change(self.sums.cost, self.before.cost)

    @property
    def saved_share(self) -> float | None:
        """Of what it would have cost without caching."""
        whole = self.sums.cost + self.saved_by_cache
        return float(self.saved_by_cache / whole) if whole else None


def span_of(period: str) -> Span:
    """The days of one of `PERIODS`, as of today (UTC)."""
    if period == "month":
        return Span(periods.period()[0], Span.last(1).end)
    return Span.last({"today": 1, "7d": 7, "90d": 90}.get(period, 30))


def report(access: Access, span: Span, *, by: str, measure: str = "") -> UsageReport:
    """Sums of `span` by one of `GROUPS`; without a measure, by cost if there was any:
    a chart of nothing but zeros says nothing."""
    column = GROUPS[by][0]
    days = totals.days_of(access)
    now, was = _by_group(days, span, column), _by_group(days, span.before, column)
    names = _names(access, by, list(now))
    total = Sums.of(row for rows in now.values() for row in rows.values())
    before = Sums.of(row for rows in was.values() for row in rows.values())
    measure = measure or ("cost" if total.cost else "runs")
    groups = [
        UsageGroup(
            key,
            names(key),
            Sums.of(rows.values()),
            Sums.of(was.get(key, {}).values()),
            [_measured(rows.get(day), measure) for day in span.days],
        )
        for key, rows in now.items()
    ]
    whole = sum(sum(group.by_day) for group in groups) or Decimal(1)
    for group in groups:
        group.share = float(sum(group.by_day) / whole)
    groups.sort(key=lambda group: (-sum(group.by_day), group.name))
    return UsageReport(
        span,
        by,
        measure,
        groups[:MOST_ROWS],
        total,
        before,
        _saved(access, span, days),
        _failed(access, span),
        _unpriced(access, span),
        _likely(access, span),
    )


def _by_group(days: "QuerySet[UsageDay]", span: Span, column: str) -> dict[Any, dict[Any, JSON]]:
    """Group → day → sums. One query."""
    rows = days.filter(day__gte=span.start, day__lte=span.end).values(column, "day")
    summed = rows.annotate(
        n=Sum("runs"), spent=Sum("cost"), **{f"sum_{lane}": Sum(lane) for lane in LANES}
    )
    found: dict[Any, dict[Any, JSON]] = {}
    for row in summed.order_by():
        sums = {lane: row[f"sum_{lane}"] for lane in LANES} | {
            "runs": row["n"],
            "cost": row["spent"],
        }
        found.setdefault(row[column], {})[row["day"]] = sums
    return found


def _measured(row: JSON | None, measure: str) -> Decimal:
    if row is None:
        return Decimal(0)
    if measure == "tokens":
        return Decimal(row["input_tokens"] + row["output_tokens"])
    return Decimal(row[measure])


def _names(access: Access, by: str, keys: Sequence[Any]) -> Callable[[Any], str]:
    known: dict[Any, str] = {}
    if by == "teammate":
        known = dict(Teammate.objects.filter(pk__in=keys).values_list("pk", "name"))
    elif by == "member":
        people = User.objects.filter(pk__in=[key for key in keys if key])
        known = {user.pk: user.display_name for user in people}
    elif by == "end_user":
        rows = EndUser.objects.filter(pk__in=[key for key in keys if key])
        known = {row.pk: row.name or row.external_id for row in rows}
    elif by == "source":
        known = {True: "Programs", False: "People"}
    else:
        known = {"": "No model was called"}
    nobody = {"member": "Programs of nobody", "end_user": "No end user"}.get(by, "Unknown")

    def name(key: Any) -> str:
        return known.get(key) or (str(key) if by == "model" else nobody)

    return name


def _saved(access: Access, span: Span, days: "QuerySet[UsageDay]") -> Decimal:
    """What cached input would have cost more, at the prices of now."""
    rows = days.filter(day__gte=span.start, day__lte=span.end).values("model_name")
    read = {
        row["model_name"]: row["n"]
        for row in rows.annotate(n=Sum("cache_read_tokens")).order_by()
        if row["n"]
    }
    if not read:
        return Decimal(0)
    models = Model.objects.filter(organization=access.organization, name__in=read)
    saved, counted = Decimal(0), set()
    for model in models.prefetch_related("prices"):
        price = model.shown_price
        if price is not None and model.name not in counted:
            counted.add(model.name)
            saved += read[model.name] * (price.uncached_input - price.cache_read) / 1_000_000
    return saved


def _failed(access: Access, span: Span) -> Decimal:
    failed = Run.objects.visible_to(access).filter(
        status=RunStatus.FAILED,
        created_at__gte=periods.midnight(span.start),
        created_at__lt=periods.midnight(span.end + timedelta(days=1)),
    )
    return failed.aggregate(cost=Sum("cost"))["cost"] or Decimal(0)


def _unpriced(access: Access, span: Span) -> list[JSON]:
    """Models that were used while they had no price: their cost is in no sum."""
    if not access.is_admin:
        return []
    rows = Usage.objects.filter(
        organization=access.organization,
        cost=None,
        recorded_at__gte=periods.midnight(span.start),
        recorded_at__lt=periods.midnight(span.end + timedelta(days=1)),
    ).exclude(model_name="")
    found = rows.values("model_name").annotate(
        runs=Sum(1), tokens=Sum("input_tokens") + Sum("output_tokens")
    )
    return [dict(row) for row in found.order_by("model_name")]


def _likely(access: Access, span: Span) -> Decimal | None:
    """What this month may cost if it goes on as in its days so far; None on its first day."""
    first, following = periods.period()
    today = timezone.now().date()
    if span.end < first or today == first:
        return None
    spent: Decimal = totals.this_month(access)["cost"]
    return spent / ((today - first).days + 1) * (following - first).days


def _change(now: Decimal, before: Decimal) -> float | None:
    return float(now / before) - 1 if before else None
