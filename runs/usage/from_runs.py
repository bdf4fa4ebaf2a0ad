"""Sums that are not kept: of hours, and of tools and tags beside something else. They are made from
the runs that ended in some days, if those are few, by the statement that makes the sums of days.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, cast

from django.db import connection
from django.db.models import Sum

from runs.models import UsageDay
from runs.usage import totals
from runs.usage.days import LABELS, SUMMED, with_labels
from runs.usage.dimensions import DIMENSIONS, Dimension, Key
from runs.usage.periods import Span, midnight
from teammates.access import Access
from teammates.types import JSON

MOST_HOURLY = 2  # days
MOST_RUNS = 20_000  # of an organization, that are looked at
_ENDED = """r.organization_id = %(organization)s
    AND r.finished_at >= %(start)s AND r.finished_at < %(end)s"""


def are_few(access: Access, span: Span) -> bool:
    """Whether the organization's runs of these days are not too many to be read. One query."""
    days = UsageDay.objects.filter(organization=access.organization)
    count = totals.within(days, span).aggregate(n=Sum("runs"))["n"] or 0
    return bool(count <= MOST_RUNS)


def are_needed(by: Iterable[str], only: Iterable[str]) -> bool:
    """Whether there are no kept sums by these dimensions: those of labels stand alone."""
    names = [*by, *only]
    return len(names) > 1 and any(DIMENSIONS[name].kind for name in names)


def by_group(
    access: Access,
    span: Span,
    dimensions: Sequence[Dimension],
    only: Mapping[str, Any] | None = None,
    *,
    bucket: Literal["hour", "local_day"] = "hour",
) -> dict[tuple[Key, ...], dict[Any, JSON]]:
    """Group by `dimensions` → hour (UTC) or day → sums, of runs that the asker sees and that fit
    `only`. One query."""
    only = only or {}
    used = [*dimensions, *(DIMENSIONS[name] for name in only)]
    kinds = sorted({one.kind for one in used if one.kind})
    is_alone = len(dimensions) == 1 and not only and bool(kinds)
    table = LABELS if is_alone else with_labels(kinds)
    fits = {_column(DIMENSIONS[name], is_alone): key for name, key in only.items()}
    if is_alone:
        fits["kind"] = kinds[0]
    if not access.may("data.usage.read"):
        fits["created_by_id"] = access.user.pk if access.user else 0
    where = " AND ".join(
        f"{column} IS NULL" if key is None else f"{column} = %({column})s"
        for column, key in fits.items()
    )
    columns = [_column(one, is_alone) for one in dimensions]
    key = ", ".join([bucket, *columns])
    sums = ", ".join(f"sum({name}) AS {name}" for name in SUMMED)
    zone = access.organization.zone
    found: dict[tuple[Key, ...], dict[Any, JSON]] = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {key}, {sums} FROM {table.by_hour(_ENDED)} WHERE {where or 'true'} "
            f"GROUP BY {key}",
            {
                **fits,
                "organization": access.organization.pk,
                "start": midnight(span.start, zone),
                "end": midnight(span.end + timedelta(days=1), zone),
            },
        )
        for when, *row in cursor:
            of, values = tuple(row[: len(columns)]), row[len(columns) :]
            found[of][when] = dict(zip(SUMMED, values, strict=True))
    return found


def _column(one: Dimension, is_alone: bool) -> str:
    """Of a table that is made: labels have a column of their own, by kind, unless they stand
    alone."""
    if one.kind:
        return one.column if is_alone else one.kind
    return str(cast(Any, UsageDay._meta.get_field(one.column)).column)
