"""A new run takes its place in the queue of its thread."""

from datetime import datetime

from django.conf import settings
from django.db import connection
from django.utils import timezone

from config.compiled import CompiledInsert
from runs.events import log
from runs.events.channels import LIVE_CHANNEL, WORK_CHANNEL
from runs.events.payloads import NewEvent
from runs.lifecycle.transitions import S
from runs.models import Run, Task
from runs.webhooks import outbox
from teammates.errors import TooMany

_TASK = CompiledInsert(Task)
_RUN = CompiledInsert(Run)
_RUN_OF_TASK = CompiledInsert(Run, task_id="(SELECT id FROM task)")
_MOVED = """moved AS (
    UPDATE threads_thread SET next_position = %s, updated_at = %s,
        teammate_id = coalesce(teammate_id, %s), heard_outside = heard_outside OR %s WHERE id = %s
), answered AS (
    UPDATE runs_run SET asks_back = false WHERE thread_id = %s AND asks_back
)"""

_AROUND = """(
    SELECT count(*) FROM runs_run q WHERE q.thread_id = runs_run.thread_id AND q.status = 'queued'
), EXISTS (
    SELECT FROM runs_webhookendpoint e WHERE e.organization_id = runs_run.organization_id
)"""


def queue_run(run: Run) -> Run:
    """Insert `run`, with its task if that is new, at the end of its thread's queue, with
    `run.started`, and wake the workers. What asked back in the thread is answered.

    The caller holds the thread's row, and `run.thread` has what it says: positions are in order of
    commit. Raises `TooMany` if the queue is full; then the caller's transaction must not commit.
    """
    thread = run.thread
    thread.next_position += 1
    thread.heard_outside = thread.heard_outside or run.heard_outside
    run.status, run.position = S.QUEUED, thread.next_position
    queued, has_endpoints = _insert(run)
    if queued >= settings.THREAD_QUEUE_LIMIT:
        raise TooMany(
            f"{queued} runs wait in this thread already; let some finish first.",
            code="runs.queue_full",
        )
    started = {
        "route_id": str(run.route.uid) if run.route else None,
        "persona_id": run.requested_persona or None,
        "teammate": run.teammate.name,
        "model": run.route.alias if run.route else None,
    }
    run.last_seq = log.append_or_raise(
        run.pk,
        None,
        [NewEvent("run.started", started)],
        [(WORK_CHANNEL, ""), (LIVE_CHANNEL, run.organization_id)],
    )
    if has_endpoints:
        outbox.queue(run)
    return run


def _insert(run: Run) -> tuple[int, bool]:
    """The run, its task if that is not saved yet, and its thread's columns, in one statement.

    Returns how many runs waited in the thread before, and whether the organization has webhooks.
    """
    thread, task = run.thread, run.task
    values: list[int | bool | datetime] = [
        thread.next_position,
        timezone.now(),
        run.teammate_id,
        run.heard_outside,
        thread.pk,
        thread.pk,
    ]
    is_new = task.pk is None
    insert = _RUN_OF_TASK if is_new else _RUN
    with_task = f"task AS ({_TASK.sql}), " if is_new else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH {with_task}{_MOVED} {insert.sql}, task_id, {_AROUND}",
            [*([_TASK.value(task)] if is_new else []), *values, insert.value(run)],
        )
        *returned, task_id, queued, has_endpoints = cursor.fetchone()
    insert.take(run, returned)
    if is_new:
        run.task = _TASK.take(task, [task_id])
    return queued, has_endpoints
