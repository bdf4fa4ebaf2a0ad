"""Where the sums of a page of usage come from: those of days that are kept, or, where there are
none by what is asked for, the runs themselves."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any, Protocol

from django.db.models import Q, Sum

from runs.usage import from_runs, totals
from runs.usage.dimensions import DIMENSIONS, Dimension, Key
from runs.usage.periods import Span
from runs.usage.totals import LANES
from teammates.access import Access
from teammates.types import JSON

Group = tuple[Key, ...]  # what each of its columns has


class Source(Protocol):
    """Sums of runs that the asker sees, narrowed to what is asked for; each is one query."""

    def of_days(self, span: Span) -> Mapping[date, JSON]:
        """Of all runs, by day."""

    def largest(self, span: Span, most: int) -> dict[Group, JSON]:
        """The groups that cost most, with their sums."""

    def of_groups(
        self, span: Span, groups: Collection[Group] | None
    ) -> Mapping[Group, Mapping[date, JSON]]:
        """By day, of these groups and perhaps of others, or of all."""

    def read_from_cache(self, span: Span) -> dict[str, int]:
        """Tokens by model."""


def source_of(access: Access, by: Sequence[str], only: Mapping[str, Any]) -> Source:
    """Sums by some of `DIMENSIONS`, `only` of a key of some."""
    dimensions = [DIMENSIONS[name] for name in by]
    if any(DIMENSIONS[name].kind for name in only):
        return FromRuns(access, dimensions, only)
    days = totals.days_of(access)
    days = days.filter(**{DIMENSIONS[name].column: key for name, key in only.items()})
    kind = next((one.kind for one in dimensions if one.kind), None)
    kept = Kept(days, totals.labels_of(access, kind) if kind else days, dimensions)
    return FromRuns(access, dimensions, only, kept) if from_runs.are_needed(by, only) else kept


_SUMMED = {
    "n": Sum("runs"),
    "spent": Sum("cost"),
    "lacking": Sum("unpriced"),
    **{f"sum_{lane}": Sum(lane) for lane in LANES},
}


class Kept:
    """Sums of days, and of labels."""

    def __init__(self, days: Any, grouped: Any, dimensions: Sequence[Dimension]) -> None:
        self._days, self._grouped = days, grouped
        self._columns = [one.column for one in dimensions]

    def of_days(self, span: Span) -> dict[date, JSON]:
        rows = totals.within(self._days, span).values("local_day").annotate(**_SUMMED)
        return {row["local_day"]: _sums(row) for row in rows.order_by()}

    def largest(self, span: Span, most: int) -> dict[Group, JSON]:
        rows = totals.within(self._grouped, span).values(*self._columns).annotate(**_SUMMED)
        largest = rows.order_by("-spent", "-n", *self._columns)[:most]
        return {self._group(row): _sums(row) for row in largest}

    def of_groups(
        self, span: Span, groups: Collection[Group] | None
    ) -> dict[Group, dict[date, JSON]]:
        rows = totals.within(self._grouped, span)
        for at, column in enumerate(self._columns if groups else ()):
            values = {group[at] for group in groups or ()}
            wanted = Q(**{f"{column}__in": values - {None}})
            rows = rows.filter(wanted | Q(**{column: None}) if None in values else wanted)
        found: dict[Group, dict[date, JSON]] = defaultdict(dict)
        summed = rows.values(*self._columns, "local_day").annotate(**_SUMMED)
        for row in summed.order_by():
            found[self._group(row)][row["local_day"]] = _sums(row)
        return found

    def read_from_cache(self, span: Span) -> dict[str, int]:
        rows = totals.within(self._days, span).values("model_name")
        read = rows.annotate(n=Sum("cache_read_tokens")).order_by()
        return {row["model_name"]: row["n"] for row in read if row["n"]}

    def _group(self, row: JSON) -> Group:
        return tuple(row[column] for column in self._columns)


def _sums(row: JSON) -> JSON:
    lanes = {lane: row[f"sum_{lane}"] or 0 for lane in LANES}
    known = {"cost": row["spent"] or Decimal(0), "unpriced": row["lacking"] or 0}
    return lanes | known | {"runs": row["n"] or 0}


class FromRuns:
    """Made of the runs of these days, which `from_runs.are_few`; but what is `kept` is of runs that
    were deleted, too."""

    def __init__(
        self,
        access: Access,
        dimensions: Sequence[Dimension],
        only: Mapping[str, Any],
        kept: Kept | None = None,
    ) -> None:
        def made(span: Span, dimensions: tuple[Dimension, ...]) -> Any:
            return from_runs.by_group(access, span, dimensions, only, bucket="local_day")

        self._made, self._dimensions, self._kept = cache(made), tuple(dimensions), kept

    def of_days(self, span: Span) -> Mapping[date, JSON]:
        if self._kept:
            return self._kept.of_days(span)
        found: Mapping[date, JSON] = self._made(span, ()).get((), {})
        return found

    def largest(self, span: Span, most: int) -> dict[Group, JSON]:
        found = self._made(span, self._dimensions)
        sums = {group: added(days.values()) for group, days in found.items()}
        order = sorted(sums, key=lambda group: (-sums[group]["cost"], -sums[group]["runs"]))
        return {group: sums[group] for group in order[:most]}

    def of_groups(
        self, span: Span, groups: Collection[Group] | None
    ) -> Mapping[Group, Mapping[date, JSON]]:
        found: Mapping[Group, Mapping[date, JSON]] = self._made(span, self._dimensions)
        return found

    def read_from_cache(self, span: Span) -> dict[str, int]:
        if self._kept:
            return self._kept.read_from_cache(span)
        found = self._made(span, (DIMENSIONS["model"],))
        read = {
            model: added(days.values())["cache_read_tokens"] for (model,), days in found.items()
        }
        return {model: tokens for model, tokens in read.items() if tokens}


def added(rows: Iterable[JSON]) -> JSON:
    """The sums of sums."""
    rows = list(rows)
    counts = {name: sum(row[name] for row in rows) for name in ("runs", "unpriced", *LANES)}
    return counts | {"cost": sum((row["cost"] for row in rows), Decimal(0))}
