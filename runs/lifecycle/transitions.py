"""The state machine: what a run may do next, and the only functions that change `Run.status`.

Every change is a guarded UPDATE and its event in one transaction. Those by a worker also match the
run's fence: a worker whose lease was taken over cannot write.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from runs.events import log
from runs.events.log import StaleLease
from runs.events.payloads import NewEvent
from runs.models import Run, RunStatus, Usage
from runs.usage.booking import totals_of
from runs.usage.totals import LANES
from teammates.errors import Conflict
from teammates.fields import new_uid
from teammates.types import JSON

S = RunStatus
TRANSITIONS: dict[RunStatus, set[RunStatus]] = {
    S.QUEUED: {S.RUNNING, S.PAUSED, S.CANCELLED, S.CLOSED},
    S.RUNNING: {S.QUEUED, S.WAITING, S.PAUSED, S.COMPLETED, S.FAILED, S.CANCELLED},
    S.WAITING: {S.QUEUED, S.CANCELLED, S.CLOSED},
    S.PAUSED: {S.QUEUED, S.CANCELLED, S.CLOSED},
    S.COMPLETED: set(),
    S.FAILED: set(),
    S.CANCELLED: set(),
    S.CLOSED: set(),
}


class InvalidTransition(Conflict):
    """The run is not in a state that allows this."""

    code = "runs.not_active"


@dataclass(frozen=True)
class Lease:
    """One attempt's right to write for a run, until somebody else's fence is higher."""

    run_id: int
    fence: int
    attempt: int


@contextmanager
def holding(lease: Lease, pending: list[NewEvent]) -> Iterator[Run]:
    """A transaction of a worker for its run: the row locked, the pending events written first.

    Raises `StaleLease` if the lease is no longer the current one.
    """
    with transaction.atomic():
        run = _lock_held(lease)
        write(run, lease.fence, pending)
        yield run


def _lock_held(lease: Lease) -> Run:
    run = (
        Run.objects.select_for_update(no_key=True)
        .filter(pk=lease.run_id, fence=lease.fence, status=S.RUNNING)
        .first()
    )
    if run is None:
        raise StaleLease
    return run


def write(run: Run, fence: int | None, new: list[NewEvent]) -> None:
    """Append to a run whose row the caller holds."""
    if new:
        run.last_seq = log.append_or_raise(run.pk, fence, new)


def transition(run: Run, to: RunStatus, *new: NewEvent, **fields: Any) -> Run:
    """Change the status of a run whose row the caller holds, together with its events."""
    run.last_seq = log.append_or_raise(run.pk, None, list(new))
    allowed = [state for state, targets in TRANSITIONS.items() if to in targets]
    changed = Run.objects.filter(pk=run.pk, status__in=allowed).update(
        status=to, updated_at=timezone.now(), **fields
    )
    if not changed:
        raise InvalidTransition(f"Run {run.pk} is {run.status} and cannot become {to}.")
    run.refresh_from_db()
    return run


@dataclass(frozen=True)
class End:
    """How a run ends, for `end_all`: its last event, its usage, its closing message."""

    run: Run
    status: RunStatus
    event: NewEvent
    usage: list[Usage]
    finished_at: datetime
    answer: str = ""
    asks_back: bool = False
    stop_reason: str = ""
    error_class: str = ""
    error_message: str = ""


_USED = (*LANES, "cost")
_END = log.statement(
    before=f""", ends AS (
    SELECT * FROM jsonb_to_recordset(%(ends)s::jsonb) e(run_id bigint, thread_id bigint,
        status text, finished_at timestamptz, answer text, answer_uid uuid, asks_back boolean,
        stop_reason text, error_class text, error_message text,
        {", ".join(f"{lane} bigint" for lane in LANES)}, cost numeric, usage_estimated boolean)
), said AS (
    INSERT INTO threads_message (uid, created_at, updated_at, thread_id, role, content)
    SELECT e.answer_uid, e.finished_at, e.finished_at, e.thread_id, 'assistant', e.answer
    FROM ends e JOIN locked l ON l.id = e.run_id WHERE e.answer <> ''
    RETURNING id, uid
)""",
    joins="JOIN ends e ON e.run_id = l.id LEFT JOIN said ON said.uid = e.answer_uid",
    sets=f""", status = e.status, updated_at = e.finished_at, finished_at = e.finished_at,
        fence = r.fence + 1, lease_until = NULL, next_retry_at = NULL, answer_id = said.id,
        asks_back = e.asks_back, stop_reason = e.stop_reason, error_class = e.error_class,
        error_message = e.error_message, usage_estimated = e.usage_estimated,
        {", ".join(f"{name} = e.{name}" for name in _USED)}""",
    behind=f""", booked AS (
    INSERT INTO runs_usage (run_id, organization_id, model_name, recorded_at, {", ".join(_USED)},
        unpriced_calls, estimated)
    SELECT u.run_id, u.organization_id, u.model_name, u.recorded_at,
        {", ".join(f"u.{name}" for name in _USED)},
        u.unpriced_calls, u.estimated
    FROM jsonb_to_recordset(%(used)s::jsonb) u(run_id bigint, organization_id bigint,
        model_name text, recorded_at timestamptz,
        {", ".join(f"{lane} bigint" for lane in LANES)}, cost numeric,
        unpriced_calls int, estimated boolean)
    JOIN up ON up.id = u.run_id
), made AS (
    SELECT e.run_id, ARRAY[said.id] AS ids FROM ends e JOIN said ON said.uid = e.answer_uid
)""",
)


def end_all(ends: list[End], news: list[tuple[str, str | int]]) -> None:
    """End runs whose rows the caller holds, each with its last event, message and usage, in one
    statement; their columns are set. Raises `InvalidTransition` for one that is over."""
    for end in ends:
        if end.status not in TRANSITIONS[RunStatus(end.run.status)]:
            raise InvalidTransition(
                f"Run {end.run.pk} is {end.run.status} and cannot become {end.status}."
            )
    written = log.write(
        [log.Batch(end.run.pk, None, [end.event]) for end in ends],
        news,
        sql=_END,
        ends=json.dumps([_ending(end) for end in ends], default=str),
        used=json.dumps([_booked(end, row) for end in ends for row in end.usage], default=str),
    )
    for end in ends:
        run, made = end.run, written[end.run.pk]
        run.last_seq, run.fence = made.last_seq, run.fence + 1
        run.answer_id = made.ids[0] if made.ids else None
        run.lease_until = run.next_retry_at = None
        run.updated_at = end.finished_at
        for name in ("status", "finished_at", "asks_back", *_WORDS):
            setattr(run, name, getattr(end, name))
        for name, value in totals_of(end.usage).items():
            setattr(run, name, value)


_WORDS = ("stop_reason", "error_class", "error_message")


def _ending(end: End) -> JSON:
    return {
        "run_id": end.run.pk,
        "thread_id": end.run.thread_id,
        "status": end.status,
        "finished_at": end.finished_at,
        "answer": end.answer,
        "answer_uid": new_uid(),
        "asks_back": end.asks_back,
        **{name: getattr(end, name) for name in _WORDS},
        **totals_of(end.usage),
    }


def _booked(end: End, row: Usage) -> JSON:
    numbers = {
        name: getattr(row, name) for name in (*_USED, "unpriced_calls", "estimated", "model_name")
    }
    return {
        "run_id": end.run.pk,
        "organization_id": end.run.organization_id,
        "recorded_at": end.finished_at,
        **numbers,
    }
