"""A new run takes its place in the queue of its thread."""

from django.conf import settings
from django.utils import timezone

from runs.events import log
from runs.events.channels import LIVE_CHANNEL, WORK_CHANNEL, notify
from runs.events.payloads import NewEvent
from runs.lifecycle.transitions import S
from runs.models import Run
from runs.webhooks import outbox
from teammates.errors import TooMany
from threads.models import Thread


def queue_run(run: Run) -> Run:
    """Insert `run` at the end of its thread's queue, with `run.started`, and wake the workers.

    The caller holds the thread's row, and `run.thread` has what it says: positions are in order
    of commit. Raises `TooMany` if the queue is full.
    """
    thread = run.thread
    queued = Run.objects.filter(thread=thread, status=S.QUEUED).count()
    if queued >= settings.THREAD_QUEUE_LIMIT:
        raise TooMany(
            f"{queued} runs wait in this thread already; let some finish first.",
            code="runs.queue_full",
        )
    run.position = thread.next_position + 1
    Thread.objects.filter(pk=thread.pk).update(
        next_position=run.position, updated_at=timezone.now()
    )
    run.status = S.QUEUED
    run.save(force_insert=True)
    started = {
        "route_id": str(run.route.uid) if run.route else None,
        "persona_id": run.requested_persona or None,
        "teammate": run.teammate.name,
        "model": run.route.alias if run.route else None,
    }
    run.last_seq = log.append_or_raise(run.pk, None, [NewEvent("run.started", started)])
    outbox.queue(run)
    notify({WORK_CHANNEL: "", LIVE_CHANNEL: run.organization_id})
    return run
