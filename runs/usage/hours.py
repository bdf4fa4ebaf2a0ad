"""The hours of a day or two. Sums of days are kept; those of hours are made from the runs that
ended in them, by the statement that makes days.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from django.db import connection
from django.db.models import Sum

from runs.models import UsageDay, UsageLabel
from runs.usage import totals
from runs.usage.days import DAYS, LABELS, SUMMED
from runs.usage.dimensions import DIMENSIONS, Dimension
from runs.usage.periods import Span, midnight
from teammates.access import Access
from teammates.types import JSON

MOST_DAYS, MOST_RUNS = 2, 20_000  # of an organization, that are looked at hour by hour
_ENDED = """r.organization_id = %(organization)s
    AND r.finished_at >= %(start)s AND r.finished_at < %(end)s"""


def are_few(access: Access, span: Span) -> bool:
    """Whether the organization's runs of these days may be read. At most one query."""
    if span.length > MOST_DAYS:
        return False
    days = UsageDay.objects.filter(organization=access.organization)
    count = totals.within(days, span).aggregate(n=Sum("runs"))["n"] or 0
    return 0 < count <= MOST_RUNS


def by_group(
    access: Access,
    span: Span,
    dimensions: Sequence[Dimension],
    only: Mapping[str, Any] | None = None,
) -> dict[tuple[Any, ...], dict[datetime, JSON]]:
    """Group by `dimensions` → hour (UTC) → sums, of runs that the asker sees and that fit `only`.
    One query."""
    kind = next((one.kind for one in dimensions if one.kind), None)
    table, model = (LABELS, UsageLabel) if kind else (DAYS, UsageDay)
    zone = access.organization.zone
    fits = {DIMENSIONS[name].column: key for name, key in (only or {}).items()}
    if kind:
        fits["kind"] = kind
    if not access.may("data.usage.read"):
        fits["created_by"] = access.user.pk if access.user else 0
    where = " AND ".join(
        f"{_name(model, one)} IS NULL" if key is None else f"{_name(model, one)} = %({one})s"
        for one, key in fits.items()
    )
    columns = [_name(model, one.column) for one in dimensions]
    key = ", ".join(["hour", *columns])
    sums = ", ".join(f"sum({name}) AS {name}" for name in SUMMED)
    found: dict[tuple[Any, ...], dict[datetime, JSON]] = defaultdict(dict)
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
        for hour, *row in cursor:
            of, values = tuple(row[: len(columns)]), row[len(columns) :]
            found[of][hour] = dict(zip(SUMMED, values, strict=True))
    return found


def _name(model: type[UsageDay | UsageLabel], field: str) -> str:
    """A field's column."""
    return str(cast(Any, model._meta.get_field(field)).column)
