"""A list of runs as a whole: how many of each state in each stretch of time, how long they took,
what they cost, and which errors they ended with. Of the newest `MOST`, so that it never counts a
table."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.utils import timezone

from runs.models import RunStatus
from runs.models.run_query import RunQuerySet
from teammates.types import JSON

MOST = 10_000
BUCKETS = 48
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
ORIGIN = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday, so that weeks begin on one
WIDTHS = [
    timedelta(seconds=s)
    for s in (
        60,
        300,
        900,
        3600,
        3 * 3600,
        6 * 3600,
        12 * 3600,
        86400,
        7 * 86400,
        30 * 86400,
        365 * 86400,
    )
]
SERIES = (
    (RunStatus.COMPLETED, "is-completed"),
    (RunStatus.FAILED, "is-failed"),
    (RunStatus.WAITING, "is-waiting"),
    (RunStatus.RUNNING, "is-running"),
    (RunStatus.QUEUED, "is-queued"),
    (RunStatus.PAUSED, "is-paused"),
    (RunStatus.CANCELLED, "is-cancelled"),
    (RunStatus.CLOSED, "is-closed"),
)


@dataclass(frozen=True)
class Survey:
    counted: int
    is_cut: bool
    begins: datetime | None
    ends: datetime
    width: timedelta
    buckets: dict[datetime, dict[str, int]]
    median_ms: int | None
    p95_ms: int | None
    cost: Decimal
    unpriced: int  # runs whose cost is not known

    @property
    def starts(self) -> list[datetime]:
        """When each bucket of the span begins, also of those without a run."""
        if not self.buckets:
            return []
        first, last = self._begin_of(self.begins or min(self.buckets)), self._begin_of(self.ends)
        first, last = min(first, *self.buckets), max(last, *self.buckets)
        count = int((last - first) / self.width) + 1
        return [first + n * self.width for n in range(count)]

    def _begin_of(self, at: datetime) -> datetime:
        """When the bucket that `at` is in begins."""
        return at - (at - ORIGIN) % self.width


def survey(runs: RunQuerySet, *, begins: datetime | None, ends: datetime) -> Survey:
    """Of a queryset of runs. One query. What is asked for before `EARLIEST` or after now is not
    drawn."""
    ends = min(ends, timezone.now())
    begins = begins and max(begins, EARLIEST)
    newest = runs.newest_first().values_list(
        "created_at", "status", "cost", "started_at", "finished_at"
    )[: MOST + 1]
    try:
        inner, params = newest.query.sql_with_params()
    except EmptyResultSet:  # the filter can fit nothing
        return _nothing(begins, ends)
    with connection.cursor() as cursor:
        cursor.execute(
            f"""WITH r(at, status, cost, began, ended) AS MATERIALIZED ({inner}),
                whole AS (
                    SELECT count(*) AS counted, min(at) AS oldest, sum(cost) AS cost,
                        count(*) FILTER (WHERE cost IS NULL AND ended IS NOT NULL) AS unpriced,
                        percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY extract(
                            epoch FROM ended - began) * 1000) FILTER (WHERE ended IS NOT NULL)
                            AS lengths
                    FROM r),
                span AS (
                    SELECT %s - least(oldest, CASE WHEN counted <= %s THEN %s::timestamptz END)
                        AS length
                    FROM whole),
                bucket AS (
                    SELECT min(width) AS width FROM unnest(%s::interval[]) AS width, span
                    WHERE width * %s >= length OR width = %s)
                SELECT counted, whole.cost, unpriced, lengths, width, date_bin(width, at, %s),
                    status, count(*)
                FROM r, whole, bucket GROUP BY 1, 2, 3, 4, 5, 6, 7""",
            (*params, ends, MOST, begins, WIDTHS, BUCKETS, WIDTHS[-1], ORIGIN),  # type: ignore[arg-type]  # psycopg knows intervals
        )
        rows = cursor.fetchall()
    if not rows:
        return _nothing(begins, ends)
    buckets: dict[datetime, dict[str, int]] = {}
    for *_, at, status, n in rows:
        buckets.setdefault(at, {})[status] = n
    counted, cost, unpriced, lengths, width, *_ = rows[0]
    median, p95 = lengths or (None, None)
    return Survey(
        min(counted, MOST),
        counted > MOST,
        begins if counted <= MOST else None,
        ends,
        width,
        buckets,
        None if median is None else int(median),
        None if p95 is None else int(p95),
        cost or Decimal(0),
        unpriced,
    )


def _nothing(begins: datetime | None, ends: datetime) -> Survey:
    return Survey(0, False, begins, ends, WIDTHS[0], {}, None, None, Decimal(0), 0)


def errors(runs: RunQuerySet) -> list[JSON]:
    """The messages that runs failed with, most frequent first. One query."""
    failed = runs.filter(status=RunStatus.FAILED).newest_first()
    newest = failed.values_list("error_class", "error_message", "created_at", "id")[:MOST]
    try:
        inner, params = newest.query.sql_with_params()
    except EmptyResultSet:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT class, message, count(*), min(at), max(at), max(id)
                FROM ({inner}) AS r(class, message, at, id)
                GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 50""",
            params,
        )
        names = ("error_class", "message", "runs", "first", "last", "newest_id")
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
