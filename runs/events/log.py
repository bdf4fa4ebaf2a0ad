"""The event log: `append` is the only writer and the only publisher of events.

One statement numbers, inserts and notifies for all runs of a batch (traps 2). A notification says
which run has events up to which number. Where they are small it carries them too; else, and behind
a gap, readers fetch them from the table.
"""

import json
import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import DataError, connection, transaction

from runs.events.channels import EVENTS_CHANNEL
from runs.events.payloads import NewEvent, as_json
from teammates.errors import DomainError
from teammates.types import JSON

logger = logging.getLogger("muster.events")
MOST_TOLD = 6_000  # bytes of events in a notification
TERMINAL = frozenset({"run.completed", "run.failed", "run.cancelled", "run.closed"})


@dataclass(frozen=True)
class Batch:
    """Events of one run. `fence` None: written by somebody entitled who holds no lease."""

    run_id: int
    fence: int | None
    events: list[NewEvent]


class UnstorableEvent(DomainError):
    """Muster wrote something about this run that cannot be stored. Its log has the details."""

    code = "internal.error"


class StaleLease(DomainError):
    """Another worker has this run now."""

    code = "runs.stale_lease"


def publishing(
    events: str, news: str = "unnest(%(channels)s::text[], %(payloads)s::text[])"
) -> str:
    """Common table expressions that number, insert and tell new events of the runs in `up` (id,
    before, after: the numbers around them; trace_id). Their statement has to select `TOLD`.

    `events` selects run_id, ord (from 1 on), type and data (text); with the parameter `are_small`
    they may go with the notification. `news` has further channels to notify, and their payloads.
    """
    return f"""inserted AS (
    INSERT INTO runs_event (run_id, seq, type, data, created_at)
    SELECT e.run_id, up.before + e.ord, e.type,
           e.data::jsonb || jsonb_build_object('trace_id', up.trace_id), clock_timestamp()
    FROM ({events}) e(run_id, ord, type, data) JOIN up ON up.id = e.run_id
    RETURNING run_id, seq, type, data, created_at
), small AS (
    SELECT jsonb_agg(jsonb_build_array(run_id, seq, type, data, created_at) ORDER BY run_id, seq)
        ::text AS events FROM inserted WHERE %(are_small)s
), told AS (
    -- A notification holds less than 8000 bytes: chunked, and never many runs with their events.
    SELECT pg_notify('{EVENTS_CHANNEL}', string_agg(id || ':' || after, ',') || coalesce(
        (SELECT chr(10) || events FROM small WHERE octet_length(events) < {MOST_TOLD}), ''))
    FROM (
        SELECT id, after, (row_number() OVER (ORDER BY id) - 1) / 150 AS chunk FROM up
    ) numbered GROUP BY chunk
), spread AS (
    SELECT pg_notify(channel, payload) FROM {news} n(channel, payload)
)"""


TOLD = "(SELECT count(*) FROM told) + (SELECT count(*) FROM spread)"


def statement(
    *, before: str = "", only: str = "", sets: str = "", joins: str = "", behind: str = ""
) -> str:
    """The SQL that appends, for `write`; a caller may have it do more for the same runs.

    `before` and `behind` are further common table expressions, each with a comma in front; what is
    behind may use `up` and names its result `made` (run_id, ids). `only` restricts the runs that
    take events; `sets` and `joins` write more columns of them.
    """
    made = "made.ids" if behind else "NULL::bigint[]"
    join_made = "LEFT JOIN made ON made.run_id = up.id" if behind else ""
    events = """SELECT * FROM unnest(
        %(event_runs)s::bigint[], %(ords)s::int[], %(types)s::text[], %(data)s::text[])"""
    return f"""
WITH want AS (
    SELECT * FROM unnest(%(runs)s::bigint[], %(fences)s::bigint[], %(counts)s::int[])
        w(run_id, fence, n)
), locked AS (
    -- in id order: two statements that lock several runs never wait for each other in a ring
    SELECT r.id, w.n, r.last_seq, r.trace_id FROM runs_run r JOIN want w ON w.run_id = r.id
    WHERE CASE WHEN w.fence IS NULL THEN r.finished_at IS NULL
               ELSE w.fence = r.fence AND r.status = 'running' END {only}
    ORDER BY r.id FOR NO KEY UPDATE OF r
){before}, up AS (
    UPDATE runs_run r SET last_seq = r.last_seq + l.n{sets} FROM locked l {joins} WHERE r.id = l.id
    RETURNING r.id, l.last_seq AS before, r.last_seq AS after, l.trace_id,
        r.permission_mode, r.human_in_the_loop, r.plan_approved_at
), {publishing(events)}{behind}
SELECT up.id, up.after, {made}, up.permission_mode, up.human_in_the_loop, up.plan_approved_at,
    {TOLD}
FROM up {join_made}
"""


_APPEND = statement()


@dataclass(frozen=True)
class Written:
    """What became of a run's batch: its last number, the ids of what was made for it, and what
    people may have changed about it meanwhile."""

    last_seq: int
    ids: list[int]
    permission_mode: str
    human_in_the_loop: bool
    plan_approved_at: datetime | None


def append(batches: Iterable[Batch]) -> dict[int, int | None]:
    """Write each batch's events and return the last number of every run that took them.

    A run whose lease is another's now, or that is over, takes none and is left out. If one run's
    data cannot be stored, the others' is, and the guilty run's number is None.
    """
    merged = _one_per_run(batches)
    try:
        with transaction.atomic():
            return {run_id: one.last_seq for run_id, one in write(merged).items()}
    except (DataError, ValueError):
        if len(merged) == 1:
            logger.exception("An event of run %s cannot be stored", merged[0].run_id)
            return {merged[0].run_id: None}
    taken: dict[int, int | None] = {}
    for batch in merged:
        taken |= append([batch])
    return taken


def append_or_raise(
    run_id: int,
    fence: int | None,
    events: list[NewEvent],
    news: Sequence[tuple[str, str | int]] = (),
) -> int:
    """Append inside the caller's transaction; raise `StaleLease` if the run does not take them."""
    taken = write([Batch(run_id, fence, events)], news)
    if run_id not in taken:
        raise StaleLease
    return taken[run_id].last_seq


def write(
    batches: list[Batch],
    news: Sequence[tuple[str, str | int]] = (),
    *,
    sql: str = _APPEND,
    **values: Any,
) -> dict[int, Written]:
    """Append inside the caller's transaction, one batch a run; runs that take nothing are left out.

    `news` are further channels to notify, and their payloads; `sql` is of `statement`, and `values`
    are what it adds.
    """
    rows = [
        (batch.run_id, number, event.type, as_json(event.data))
        for batch in batches
        for number, event in enumerate(batch.events, start=1)
    ]
    if not rows:
        return {}
    event_runs, ords, types, data = (list(column) for column in zip(*rows, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(
            sql,
            {
                "runs": [batch.run_id for batch in batches],
                "fences": [batch.fence for batch in batches],
                "counts": [len(batch.events) for batch in batches],
                "event_runs": event_runs,
                "ords": ords,
                "types": types,
                "data": data,
                "are_small": sum(map(len, data)) + 100 * len(data) < MOST_TOLD,
                "channels": [channel for channel, _ in news],
                "payloads": [str(payload) for _, payload in news],
                **values,
            },
        )
        return {row[0]: Written(row[1], row[2] or [], *row[3:6]) for row in cursor.fetchall()}


def _one_per_run(batches: Iterable[Batch]) -> list[Batch]:
    """Merge what is for the same run: the statement would silently apply only one of two."""
    merged: dict[tuple[int, int | None], Batch] = {}
    for batch in batches:
        before = merged.get((batch.run_id, batch.fence))
        events = [*before.events, *batch.events] if before else batch.events
        merged[batch.run_id, batch.fence] = Batch(batch.run_id, batch.fence, events)
    return list(merged.values())


@dataclass
class LoggedEvent:
    """An event as it was read; `frame` keeps what readers made of it, so that they share it."""

    run_id: int
    seq: int
    type: str
    data: JSON
    created_at: datetime
    _frames: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_terminal(self) -> bool:
        return self.type in TERMINAL

    def frame(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` returns for this event, made once per `key`."""
        if key not in self._frames:
            self._frames[key] = make()
        return self._frames[key]


@dataclass(frozen=True)
class News:
    """A notification: the last number of each run that has new events, and these where it carries
    them."""

    last_seqs: dict[int, int]
    _events: str = ""

    @classmethod
    def of(cls, payload: str) -> "News":
        heads, _, events = payload.partition("\n")
        pairs = (head.split(":") for head in heads.split(","))
        return cls({int(run_id): int(seq) for run_id, seq in pairs}, events)

    def events(self) -> list[LoggedEvent]:
        """In the order of their runs and numbers; nothing where they are to be read."""
        return [
            LoggedEvent(run_id, seq, type, data, datetime.fromisoformat(created_at))
            for run_id, seq, type, data, created_at in json.loads(self._events or "[]")
        ]


def read(run_id: int, *, after: int, limit: int = 500) -> list[LoggedEvent]:
    """Up to `limit` events of a run, in order, behind number `after`."""
    return _select(
        "SELECT run_id, seq, type, data, created_at FROM runs_event "
        "WHERE run_id = %s AND seq > %s ORDER BY seq LIMIT %s",
        [run_id, after, limit],
    )


def read_new(positions: dict[int, int], *, limit: int = 500) -> list[LoggedEvent]:
    """Up to `limit` events behind the given position of each of many runs, in one query."""
    return _select(
        """SELECT e.* FROM unnest(%s::bigint[], %s::bigint[]) w(run_id, seq)
           CROSS JOIN LATERAL (
               SELECT run_id, seq, type, data, created_at FROM runs_event e
               WHERE e.run_id = w.run_id AND e.seq > w.seq ORDER BY e.seq LIMIT %s) e
           ORDER BY e.run_id, e.seq""",
        [list(positions), list(positions.values()), limit],
    )


def read_milestones(ends: dict[int, int], speaking: dict[int, int]) -> list[LoggedEvent]:
    """Each run's events up to its number in `ends`, without the pieces of what was said and printed
    in finished steps.

    `speaking` has the first number of a run's unfinished step, whose pieces are wanted.
    """
    return _select(
        """SELECT e.run_id, e.seq, e.type, e.data, e.created_at
           FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) w(run_id, until, speaks)
           JOIN runs_event e ON e.run_id = w.run_id AND e.seq <= w.until
            AND (e.seq >= w.speaks
                 OR e.type NOT IN ('message.delta', 'tool.call.delta', 'tool.output'))
           ORDER BY e.run_id, e.seq""",
        [list(ends), list(ends.values()), [speaking.get(run_id) for run_id in ends]],
    )


def _select(query: str, parameters: list[Any]) -> list[LoggedEvent]:
    # Not through the ORM: this is the hottest query, and readers need no model instances.
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return [
            LoggedEvent(run_id, seq, type, json.loads(data), created_at)
            for run_id, seq, type, data, created_at in cursor.fetchall()
        ]
