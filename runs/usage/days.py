"""The sums of days: runs are added when they end, or all of it is made again from them.

Both go by the same two statements, so that a sum is that of its runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from django.db import connection, transaction
from django.db.models import F

from runs.models import LabelKind
from runs.usage.totals import LANES
from teammates.models import Organization

SUMMED = ("runs", "records", *LANES, "cost", "unpriced")
_KEY = (
    "organization_id",
    "day",
    "local_day",
    "end_user_id",
    "teammate_id",
    "version_id",
    "task_id",
    "created_by_id",
    "api_key_id",
    "channel",
    "model_name",
)
_LABEL_KEY = ("organization_id", "kind", "day", "local_day", "created_by_id", "label")
_LOCAL_DAY = "(r.finished_at AT TIME ZONE o.timezone)::date AS local_day"
_DAYS = f"(r.finished_at AT TIME ZONE 'UTC')::date AS day, {_LOCAL_DAY}"
_HOURS = f"date_bin('1 hour', r.finished_at, %(start)s) AS hour, {_LOCAL_DAY}"
MOST_TAGS, LONGEST_LABEL = 20, 200  # of a run; in characters


def _summed(source: str) -> str:
    return ", ".join(f"coalesce(sum({source}.{name}), 0) AS {name}" for name in (*LANES, "cost"))


def _group_by(key: tuple[str, ...]) -> str:
    """Sorted, too: two transactions lock the same days in the same order."""
    places = ", ".join(str(number + 1) for number in range(len(key)))
    return f"GROUP BY {places} ORDER BY {places}"


def tags_of(metadata: str) -> str:
    """The SELECT of the tags that a run is counted with, as `label`, from its column of
    metadata."""
    return f"""SELECT m.key || '=' || m.value AS label
        FROM jsonb_each_text(CASE jsonb_typeof({metadata}) WHEN 'object' THEN {metadata}
            ELSE jsonb_build_object() END) m
        WHERE m.key <> '' AND length(m.key) + length(m.value) < {LONGEST_LABEL}
            AND position('=' in m.key) = 0 AND position('"' in m.key || m.value) = 0
            AND jsonb_typeof({metadata} -> m.key) IN ('string', 'number', 'boolean')
        ORDER BY m.key LIMIT {MOST_TAGS}"""


# The labels of run `r`: each tool that it called, and its tags.
_LABELS_OF_RUN = f"""(
    SELECT DISTINCT '{LabelKind.TOOL}' AS kind, name AS label FROM runs_toolcall c
    WHERE c.run_id = r.id AND name <> '' AND position('"' in name) = 0 -- models make names up
    UNION ALL SELECT '{LabelKind.TAG}', tags.label FROM ({tags_of("r.metadata")}) tags
)"""


def _made_with(kinds: Sequence[LabelKind]) -> str:
    """The sums of runs, each of which counts with each of its labels of these kinds. Of a run that
    used several models, the first one counts the run."""
    labels = "".join(f"{kind}.label, " for kind in kinds)
    joins = "".join(
        f"JOIN LATERAL {_LABELS_OF_RUN} {kind} ON {kind}.kind = '{kind}'\n" for kind in kinds
    )
    return f"""
SELECT r.organization_id, {{when}}, r.end_user_id, r.teammate_id, r.teammate_version_id,
    CASE WHEN NOT t.is_ad_hoc THEN r.task_id END, r.created_by_id, r.api_key_id, r.channel,
    coalesce(u.model_name, ''), {labels}count(*) FILTER (WHERE coalesce(u.place, 1) = 1) AS runs,
    count(u.id) AS records, {_summed("u")}, count(u.id) FILTER (WHERE u.unpriced_calls > 0),
    max(r.finished_at) AS last_at
FROM runs_run r
JOIN teammates_organization o ON o.id = r.organization_id
JOIN runs_task t ON t.id = r.task_id
LEFT JOIN LATERAL (
    SELECT *, row_number() OVER (ORDER BY id) AS place FROM runs_usage WHERE run_id = r.id
) u ON true
{joins}WHERE r.finished_at IS NOT NULL AND {{which}}
{_group_by((*_KEY, *kinds))}
"""


_MADE_LABELS = f"""
SELECT r.organization_id, l.kind, {{when}}, r.created_by_id, l.label, count(*) AS runs,
    sum(u.records) AS records, {_summed("u")}, count(*) FILTER (WHERE u.lacks_price),
    max(r.finished_at) AS last_at
FROM runs_run r
JOIN teammates_organization o ON o.id = r.organization_id
CROSS JOIN LATERAL {_LABELS_OF_RUN} l
CROSS JOIN LATERAL (
    SELECT count(*) AS records, {", ".join(f"sum({n}) AS {n}" for n in (*LANES, "cost"))},
        bool_or(unpriced_calls > 0) AS lacks_price
    FROM runs_usage WHERE run_id = r.id
) u
WHERE r.finished_at IS NOT NULL AND {{which}}
{_group_by(_LABEL_KEY)}
"""


@dataclass(frozen=True)
class DayTable:
    name: str
    key: tuple[str, ...]
    made: str  # by `when` they ended, from runs `r` that are `which`

    @property
    def columns(self) -> str:
        return ", ".join((*self.key, *SUMMED, "last_at"))

    def fill(self, which: str = "true") -> str:
        """The statement that fills it from the runs `r` that are `which`, or from all."""
        made = self.made.format(when=_DAYS, which=which)
        return f"INSERT INTO {self.name} ({self.columns}) {made}"

    def by_hour(self, which: str) -> str:
        """A table of what `fill` makes, with an `hour`, counted from %(start)s, in place of the
        day."""
        key = ("hour" if name == "day" else name for name in self.key)
        columns = ", ".join((*key, *SUMMED, "last_at"))
        return f"({self.made.format(when=_HOURS, which=which)}) AS hours ({columns})"

    @property
    def add(self) -> str:
        """The statement that adds the runs whose ids are given."""
        more = ", ".join(f"{name} = {self.name}.{name} + excluded.{name}" for name in SUMMED)
        return f"""{self.fill("r.id = ANY(%(runs)s::bigint[])")}
            ON CONFLICT ({", ".join(self.key)}) DO UPDATE SET {more},
            last_at = greatest({self.name}.last_at, excluded.last_at)"""


DAYS = DayTable("runs_usageday", _KEY, _made_with(()))
LABELS = DayTable("runs_usagelabel", _LABEL_KEY, _MADE_LABELS)
TABLES = (DAYS, LABELS)


def with_labels(kinds: Sequence[LabelKind]) -> DayTable:
    """Sums of runs as `DAYS` has them, by labels of these kinds, too. They are not kept."""
    return DayTable("", (*_KEY, *kinds), _made_with(kinds))


# The days are locked before the labels, in every transaction.
_ADD = f"""WITH days AS ({DAYS.add} RETURNING 1), booked AS (SELECT count(*) FROM days)
{LABELS.add.replace("FROM runs_run r", "FROM booked, runs_run r", 1)}"""
_LOCK_SPACE = 1_706  # of advisory locks: an organization's days, shared by who adds to them
# For whoever ends run `r`: until the transaction is over its days are not made again.
SHARE_DAYS = f"pg_advisory_xact_lock_shared({_LOCK_SPACE}, mod(r.organization_id, 2147483647)::int)"


def add_to_days(run_ids: Iterable[int]) -> None:
    """Add finished runs to their days, which are shared (`SHARE_DAYS`). Locks rows of days: call
    last in a transaction.

    What the transaction refers to is locked before: the keys of rows that it made are checked now
    and not at its end, or two transactions wait for a run and a day in a ring.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(_ADD, {"runs": list(run_ids)})


def hold_days(organization: Organization) -> None:
    """Until the transaction is over no run of the organization ends. Before counts of budgets are
    locked, as by those who end runs."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT pg_advisory_xact_lock({_LOCK_SPACE}, mod(%s, 2147483647)::int)",
            [organization.pk],
        )


@transaction.atomic
def remake_days(organization: Organization, since: date | None = None) -> None:
    """Make the sums of an organization's days (UTC) since one, or of all, again from its runs.
    Those that end meanwhile wait, and are added."""
    hold_days(organization)
    about: dict[str, int | date] = {"organization": organization.pk, "since": since or date.min}
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in TABLES:
            cursor.execute(
                f"DELETE FROM {table.name} WHERE organization_id = %(organization)s "
                "AND day >= %(since)s",
                about,
            )
            which = """r.organization_id = %(organization)s
                AND r.finished_at >= %(since)s::timestamp AT TIME ZONE 'UTC'"""
            cursor.execute(table.fill(which), about)


def follow_timezones() -> int:
    """Make the days of organizations again that have another timezone by now; returns of how
    many."""
    moved = Organization.objects.exclude(days_timezone=F("timezone"))
    for organization in moved:
        with transaction.atomic():
            locked = Organization.objects.select_for_update(skip_locked=True, no_key=True)
            found = locked.filter(pk=organization.pk).first()
            if found is not None:
                Organization.objects.filter(pk=found.pk).update(days_timezone=found.timezone)
                remake_days(found)
    return len(moved)


@dataclass(frozen=True)
class Rebuilt:
    """How many sums there are, and how many of them were wrong before."""

    count: int
    changed: int


def rebuild_days() -> Rebuilt:
    """Make the sums of all days again. No run ends meanwhile."""
    count = changed = 0
    with transaction.atomic(), connection.cursor() as cursor:
        for table in TABLES:
            key, columns = ", ".join(table.key), ", ".join((*table.key, *SUMMED))
            cursor.execute(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE")
            cursor.execute(f"CREATE TEMPORARY TABLE was ON COMMIT DROP AS TABLE {table.name}")
            cursor.execute(f"DELETE FROM {table.name}")
            cursor.execute(table.fill())
            count += cursor.rowcount
            cursor.execute(
                f"SELECT (SELECT count(*) FROM (SELECT {columns} FROM {table.name} EXCEPT "
                f"SELECT {columns} FROM was) wrong) + (SELECT count(*) FROM "
                f"(SELECT {key} FROM was EXCEPT SELECT {key} FROM {table.name}) gone)"
            )
            changed += cursor.fetchone()[0]
            cursor.execute("DROP TABLE was")
    return Rebuilt(count, changed)
