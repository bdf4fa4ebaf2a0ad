"""The state machine: what a run may do next, and the only function that changes `Run.status`.

Every change is a guarded UPDATE and its event in one transaction. Those by a worker also match the
run's fence: a worker whose lease was taken over cannot write.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from runs.events import log
from runs.events.log import StaleLease
from runs.events.payloads import NewEvent
from runs.models import Run, RunStatus
from teammates.errors import Conflict

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
