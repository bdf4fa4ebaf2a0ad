"""A new run takes its place in the queue of its thread."""

from django.conf import settings
from django.db import connection
from django.utils import timezone

from config.compiled import CompiledInsert
from runs.events import log
from runs.events.channels import LIVE_CHANNEL, WORK_CHANNEL
from runs.events.payloads import as_json
from runs.lifecycle.transitions import S
from runs.models import Run, Task
from runs.webhooks import outbox
from teammates.errors import TooMany
from teammates.types import JSON

_TASK = CompiledInsert(Task, "task")
_RUN = CompiledInsert(Run, "run")
_RUN_OF_NEW_TASK = CompiledInsert(Run, "run", task_id="(SELECT id FROM task)")
_STARTED = log.publishing("SELECT up.id, 1, 'run.started', %(started)s FROM up")


def _queue(run: CompiledInsert[Run], task: str = "") -> str:
    """The run, and what goes with it into its thread, the log and the wake-ups. It returns how many
    runs waited in the thread before, and whether the organization has webhooks."""
    return f"""
WITH {task}moved AS (
    UPDATE threads_thread SET next_position = %(position)s, updated_at = %(now)s,
        teammate_id = coalesce(teammate_id, %(teammate)s),
        heard_outside = heard_outside OR %(heard_outside)s
    WHERE id = %(thread)s
), answered AS (
    UPDATE runs_run SET asks_back = false WHERE thread_id = %(thread)s AND asks_back
), made AS (
    {run.sql}, task_id, organization_id, trace_id
), up AS (
    SELECT id, 0 AS before, 1 AS after, trace_id FROM made
), {_STARTED}
SELECT {", ".join(f"made.{column}" for column in run.returned)}, made.task_id, (
    SELECT count(*) FROM runs_run WHERE thread_id = %(thread)s AND status = 'queued'
), EXISTS (
    SELECT FROM runs_webhookendpoint e WHERE e.organization_id = made.organization_id
), {log.TOLD}
FROM made"""


_QUEUE = _queue(_RUN)
_QUEUE_WITH_TASK = _queue(_RUN_OF_NEW_TASK, f"task AS ({_TASK.sql}), ")


def queue_run(run: Run) -> Run:
    """Insert `run`, with its task if that is new, at the end of its thread's queue, with
    `run.started`, and wake the workers. What asked back in the thread is answered.

    The caller holds the thread's row, and `run.thread` has what it says: positions are in order of
    commit. Raises `TooMany` if the queue is full; then the caller's transaction must not commit.
    """
    thread = run.thread
    thread.next_position += 1
    thread.heard_outside = thread.heard_outside or run.heard_outside
    run.status, run.position, run.last_seq = S.QUEUED, thread.next_position, 1
    queued, has_endpoints = _insert(run)
    if queued >= settings.THREAD_QUEUE_LIMIT:
        raise TooMany(
            f"{queued} runs wait in this thread already; let some finish first.",
            code="runs.queue_full",
        )
    if has_endpoints:
        outbox.queue(run)
    return run


def _insert(run: Run) -> tuple[int, bool]:
    """Save the run, with its task if that is new; what `_queue` returns."""
    thread, task = run.thread, run.task
    is_new = task.pk is None
    started = {
        "route_id": str(run.route.uid) if run.route else None,
        "persona_id": run.requested_persona or None,
        "teammate": run.teammate.name,
        "model": run.route.alias if run.route else None,
    }
    values: JSON = {
        "run": (_RUN_OF_NEW_TASK if is_new else _RUN).value(run),
        "position": thread.next_position,
        "now": timezone.now(),
        "teammate": run.teammate_id,
        "heard_outside": run.heard_outside,
        "thread": thread.pk,
        "started": as_json(started),
        "are_small": True,
        "channels": [WORK_CHANNEL, LIVE_CHANNEL],
        "payloads": ["", str(run.organization_id)],
    }
    with connection.cursor() as cursor:
        if is_new:
            cursor.execute(_QUEUE_WITH_TASK, values | {"task": _TASK.value(task)})
        else:
            cursor.execute(_QUEUE, values)
        *returned, task_id, queued, has_endpoints, _ = cursor.fetchone()
    _RUN.take(run, returned)
    if is_new:
        run.task = _TASK.take(task, [task_id])
    return queued, has_endpoints
