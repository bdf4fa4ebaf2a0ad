"""What the page *Usage & cost* shows: sums of a span of days by model, teammate, person and more.

The number of queries does not depend on what was used.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from statistics import mean, stdev
from typing import Any

from runs.usage import from_runs, periods, tiles
from runs.usage.dimensions import DIMENSIONS, Dimension
from runs.usage.periods import Span
from runs.usage.sources import Group, added, source_of
from teammates.access import Access
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
MOST_GROUPS = 200


@dataclass
class Sums:
    runs: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0

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
        return cls(**added(rows))


@dataclass
class UsageGroup:
    """`terms` are those of the list of runs, besides the days; `key` has the column of each
    dimension."""

    name: str
    key: tuple[Any, ...]
    terms: list[tuple[str, str]]
    sums: Sums
    before: Sums
    values: list[Decimal]  # of the report's buckets
    share: float = 0

    @property
    def change(self) -> float | None:
        """Of the cost, against as many days before: 0.2 is a fifth more. None: there was none."""
        return _change(self.sums.cost, self.before.cost)


@dataclass
class UsageReport:
    span: Span
    by: tuple[str, ...]  # one or two of `DIMENSIONS`
    measure: str
    groups: list[UsageGroup]
    sums: Sums
    before: Sums
    buckets: list[date] | list[datetime]  # its days, or the hours of a day or two
    values: list[Decimal]  # of all runs, in each bucket
    saved_by_cache: Decimal
    lost: dict[str, JSON]  # `cost` and `unpriced` of failed and of cancelled runs
    unpriced: list[JSON] = field(default_factory=list)
    month_end: "MonthEnd | None" = None

    @property
    def is_hourly(self) -> bool:
        return isinstance(self.buckets[0], datetime)

    @property
    def change(self) -> float | None:
        return _change(self.sums.cost, self.before.cost)

    @property
    def saved_share(self) -> float | None:
        """Of what it would have cost without caching."""
        whole = self.sums.cost + self.saved_by_cache
        return float(self.saved_by_cache / whole) if whole else None


def span_of(access: Access, period: str) -> Span:
    """The days of one of `PERIODS`, as of the organization's today."""
    zone = access.organization.zone
    if period == "month":
        return Span(periods.period(zone)[0], periods.today(zone))
    return Span.last({"today": 1, "7d": 7, "90d": 90}.get(period, 30), zone)


def report(
    access: Access,
    span: Span,
    *,
    by: Sequence[str],
    only: Mapping[str, Any] | None = None,
    measure: str = "",
    most: int = MOST_GROUPS,
) -> UsageReport:
    """Sums of `span` by one of `DIMENSIONS`, or by two of them; `only` narrows them to a key of
    some. The `most` that cost most are named. Without a measure, by cost if there was any: a chart
    of nothing but zeros says nothing.
    A run counts with each of its tools and tags. By them and something else its runs are read,
    which are to be few (`from_runs.are_few`)."""
    only = only or {}
    dimensions = [DIMENSIONS[name] for name in by]
    source = source_of(access, by, only)
    of_days, of_days_before = (source.of_days(one) for one in (span, span.before))
    total, before = Sums.of(of_days.values()), Sums.of(of_days_before.values())
    shown = source.largest(span, most)
    has_cost = any(row["cost"] for row in shown.values())
    measure = measure or ("cost" if has_cost else "runs")
    named = None if len(shown) < most else shown
    was = source.of_groups(span.before, named)
    buckets: list[Any] = span.days
    of_all: Mapping[Any, JSON] = of_days
    of_groups: Mapping[Group, Mapping[Any, JSON]]
    if by_hour := _by_hour(access, span, dimensions, only, {(): vars(total), **shown}):
        buckets, of_all, of_groups = by_hour
    else:
        of_groups = source.of_groups(span, named)
    known = [one.names({key[at] for key in shown}) for at, one in enumerate(dimensions)]
    whole = _measured(vars(total), measure) or Decimal(1)
    groups = []
    for key, sums in shown.items():
        parts = list(zip(dimensions, key, known, strict=True))
        names = [dimension.name_of(one, names) for dimension, one, names in parts]
        values = [_measured(of_groups[key].get(one), measure) for one in buckets]
        groups.append(
            UsageGroup(
                " · ".join(names),
                key,
                [part[0].term(part[1], name) for part, name in zip(parts, names, strict=True)],
                Sums.of([sums]),
                Sums.of(was.get(key, {}).values()),
                values,
                float(_measured(sums, measure) / whole),
            )
        )
    groups.sort(key=lambda group: (-_measured(vars(group.sums), measure), group.name))
    return UsageReport(
        span,
        tuple(by),
        measure,
        groups,
        total,
        before,
        buckets,
        [_measured(of_all.get(one), measure) for one in buckets],
        tiles.saved(access, source.read_from_cache(span)),
        # Of all runs, or not said.
        {} if only else tiles.lost(access, span),
        [] if only else tiles.unpriced(access, span),
        None if only else _likely(access, span),
    )


def _by_hour(
    access: Access,
    span: Span,
    dimensions: Sequence[Dimension],
    only: Mapping[str, Any] | None,
    sums: Mapping[Group, JSON],
) -> tuple[list[datetime], Mapping[datetime, JSON], Mapping[Group, Mapping[datetime, JSON]]] | None:
    """The hours, what was used in each of them, and by whom; nothing unless these days are few, and
    their hours add up to the `sums` of each group and of all."""
    if span.length > from_runs.MOST_HOURLY or not from_runs.are_few(access, span):
        return None
    buckets = span.hours(access.organization.zone)
    of_groups = from_runs.by_group(access, span, dimensions, only)
    found = {**of_groups, **from_runs.by_group(access, span, (), only)}
    for key, wanted in sums.items():
        of_key = found.get(key, {})
        if Sums.of(of_key[one] for one in buckets if one in of_key) != Sums.of([wanted]):
            return None
    return buckets, found.get((), {}), of_groups


def _measured(row: JSON | None, measure: str) -> Decimal:
    if row is None:
        return Decimal(0)
    if measure == "tokens":
        return Decimal(row["input_tokens"] + row["output_tokens"])
    return Decimal(row[measure])


@dataclass(frozen=True)
class MonthEnd:
    """What a month may cost in all, in dollars, more or less by `spread`; `unpriced`: how often a
    run used a model without a price so far."""

    likely: Decimal
    spread: Decimal
    unpriced: int


def _likely(access: Access, span: Span) -> MonthEnd | None:
    """If it goes on as in its days that are over, and varies as they do; None until two are."""
    zone = access.organization.zone
    first, following = periods.period(zone)
    today = periods.today(zone)
    over = Span(first, today - timedelta(days=1))
    if span.end < first or over.length < 2:
        return None
    so_far = Span(first, today)
    found = source_of(access, (), {}).of_days(so_far)
    costs = [_measured(found.get(day), "cost") for day in over.days]
    left = (following - first).days - so_far.length
    of_today = max(_measured(found.get(today), "cost"), mean(costs))
    return MonthEnd(
        sum(costs) + of_today + mean(costs) * left,
        stdev(costs) * Decimal(left + 1).sqrt(),
        sum(row["unpriced"] for row in found.values()),
    )


def _change(now: Decimal, before: Decimal) -> float | None:
    return float(now / before) - 1 if before else None
