"""A run stops at a gate, and goes on once it is decided."""

from django.db.models import F
from django.db.models.functions import Coalesce, Now

from runs.events.channels import LIVE_CHANNEL, WORK_CHANNEL, notify
from runs.events.payloads import NewEvent
from runs.lifecycle.endings import stop_if_cancelled
from runs.lifecycle.transitions import S, transition
from runs.models import CallStatus, Gate, Run, ToolCall
from runs.notifications import notices
from runs.webhooks import outbox


def wait_locked(run: Run, gate: Gate, asked: list[NewEvent]) -> bool:
    """Stop at `gate`, which is saved here: the worker's slot is free, and the run waits as long as
    people need; whoever started it is told. False: it should be cancelled, and has ended instead.
    The caller holds the run's row."""
    if stop_if_cancelled(run):
        return False
    gate.save(force_insert=True)
    if gate.tool_call_id is not None:
        ToolCall.objects.filter(pk=gate.tool_call_id).update(
            status=CallStatus.WAITING, started_at=Coalesce("started_at", Now())
        )
    transition(run, S.WAITING, *asked, fence=F("fence") + 1, lease_until=None, worker="")
    outbox.queue(run)
    notify({LIVE_CHANNEL: run.organization_id})
    notices.tell_of_gate(run, gate)
    return True


def resume_locked(run: Run, *new: NewEvent) -> Run:
    """Requeue a waiting or paused run in its old place. The caller holds its row."""
    transition(run, S.QUEUED, *new, available_at=Now(), pause_reason="")
    notify({WORK_CHANNEL: "", LIVE_CHANNEL: run.organization_id})
    return run
