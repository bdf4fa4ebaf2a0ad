"""What is due is started, whoever looks: any number of processes may.

The transaction that starts a run also moves its trigger's `next_at` on: each due time comes to
exactly one firing, and a kill at any moment loses and repeats nothing.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from config.database import database_now
from runs.lifecycle import endings
from runs.models import (
    ACTIVE,
    Firing,
    FiringStatus,
    Missed,
    Overlap,
    PauseReason,
    Run,
    RunStatus,
    SkipReason,
    Trigger,
    TriggerKind,
    TriggerQuerySet,
)
from runs.notifications import notices
from runs.triggers import due_times, firing, history
from runs.triggers.targets import TriggerEvent, target_of

logger = logging.getLogger("muster.scheduler")
LATE = timedelta(seconds=60)  # from then on a due time was missed
MOST_COUNTED = 1000  # missed times that are counted one by one
MOST_AT_ONCE = 100  # rows of one look


def run_due(now: datetime | None = None) -> bool:
    """One look: count outcomes, start what waited, start what is due; whether there was so much
    that the next look should be at once. `now` is the database's clock, unless a test says another.
    """
    done = [count_outcomes(), start_waiting(), schedule_next(), fire_due(now)]
    return max(done) >= MOST_AT_ONCE


def due() -> "list[QuerySet[Any]]":
    """What a look would find, as far as the database's clock says."""
    return [_over(), _ready(), _without_time(), _to_fire(Now())]


# --- schedules ----------------------------------------------------------------------------------
def schedule_next() -> int:
    """Find the next time of each schedule that was set, changed or resumed; how many there were."""
    found = 0
    for pk in list(_without_time().values_list("pk", flat=True)[:MOST_AT_ONCE]):
        with _one_of_many("Schedule", pk), transaction.atomic():
            trigger = _locked(_without_time().filter(pk=pk))
            if trigger is not None:
                _move_on(trigger, trigger.armed_at)
                found += 1
    return found


def _without_time() -> TriggerQuerySet:
    return Trigger.objects.active().filter(kind=TriggerKind.SCHEDULE, next_at=None)


def _to_fire(clock: "datetime | Now") -> TriggerQuerySet:
    return Trigger.objects.active().filter(next_at__lte=clock)


def fire_due(now: datetime | None = None) -> int:
    """Start what is due, each trigger in a transaction of its own; how many firings came of it."""
    to_fire = _to_fire(now or Now())
    fired = 0
    for pk in list(to_fire.order_by("next_at").values_list("pk", flat=True)[:MOST_AT_ONCE]):
        with _one_of_many("Schedule", pk), transaction.atomic():
            trigger = _locked(to_fire.filter(pk=pk))
            if trigger is not None:
                fired += _fire(trigger, now or database_now())
    return fired


@contextmanager
def _one_of_many(kind: str, pk: int) -> Iterator[None]:
    """What goes wrong with one row must not hold up the others: it is logged, and looked at again
    with the next look."""
    try:
        yield
    except Exception:
        logger.exception("%s %s could not be handled; the others go on", kind, pk)


def _locked(rows: TriggerQuerySet) -> Trigger | None:
    """The row, held to the end of the transaction; None if another process has it, or had it."""
    return rows.with_task().select_for_update(skip_locked=True, no_key=True, of=("self",)).first()


def _fire(trigger: Trigger, now: datetime) -> int:
    since = trigger.next_at
    assert since is not None
    due = due_times.due_times(trigger, since, now, MOST_COUNTED) or [since]  # newest first
    to_run = _to_run(trigger, due, now)
    target = target_of(trigger)
    if missed := due[len(to_run) :]:
        event = TriggerEvent(TriggerKind.SCHEDULE, due_at=missed[-1])
        left = firing.skip(target, event, SkipReason.MISSED, n=len(missed))
        if left.last_at is None and len(missed) > 1:
            Firing.objects.filter(pk=left.pk).update(last_at=missed[0])
    for at in reversed(to_run):
        firing.fire(target, TriggerEvent(TriggerKind.SCHEDULE, due_at=at), in_line=len(to_run) > 1)
    _move_on(trigger, now)
    return len(to_run) + bool(missed)


def _to_run(trigger: Trigger, due: list[datetime], now: datetime) -> list[datetime]:
    """Of what is due, newest first: what is in time, and of the rest what its rule says."""
    times_within = [at for at in due if now - at < LATE]
    most = {Missed.NONE: 0, Missed.LATEST: 1, Missed.ALL: trigger.missed_limit}
    return due[: max(len(times_within), most[Missed(trigger.missed)])]


def _move_on(trigger: Trigger, behind: datetime) -> None:
    """To the next time; a trigger that has none goes to rest.

    Never back to a time that has its firing already: clocks of machines may step back.
    """
    newest = trigger.firings.exclude(due_at=None).order_by("-id").first()
    if newest is not None and newest.due_at is not None:
        behind = max(behind, newest.last_at or newest.due_at)
    trigger.next_at = next(due_times.next_times(trigger, behind), None)
    if trigger.next_at is None:
        trigger.enabled, trigger.rests_because = False, PauseReason.OVER
    trigger.save(update_fields=["next_at", "enabled", "rests_because"])


# --- what waits for the run before it -----------------------------------------------------------
def start_waiting() -> int:
    """Start firings that waited and whose task is free now, the oldest first; how many.

    Where the rule is to stop the old run, it is stopped here, outside of the firing's
    transaction: one that ends a run holds nothing else.
    """
    first = _ready().order_by("trigger_id", "id").distinct("trigger_id")
    started = 0
    for pk, trigger_id in list(first.values_list("pk", "trigger_id")[:MOST_AT_ONCE]):
        if trigger_id is None:
            _give_up(pk)
            continue
        with _one_of_many("Firing", pk):
            _stop_old(pk)
        with _one_of_many("Firing", pk), transaction.atomic():
            trigger = _locked(Trigger.objects.filter(pk=trigger_id))
            found = _waiting().select_related("prompt__thread").filter(pk=pk).first()
            if trigger is None or found is None or history.active_runs(trigger.task).exists():
                continue
            if not trigger.is_active:
                _give_up(pk)
                continue
            firing.start_waiting(found, target_of(trigger))
            started += 1
    return started


def _waiting() -> "QuerySet[Firing]":
    return Firing.objects.filter(status=FiringStatus.WAITING)


def _ready() -> "QuerySet[Firing]":
    busy = Exists(Run.objects.filter(task=OuterRef("task"), status__in=ACTIVE))
    return _waiting().filter(Q(trigger__overlap=Overlap.CANCEL) | ~busy | Q(trigger=None))


def _give_up(pk: int) -> None:
    _waiting().filter(pk=pk).update(status=FiringStatus.SKIPPED, reason=SkipReason.PAUSED)


def _stop_old(pk: int) -> None:
    """What was under way when this firing came, if the rule is to stop that. A look that is late
    must not stop the run that came of the firing meanwhile."""
    found = _waiting().filter(pk=pk).select_related("trigger__task__teammate").first()
    if found is None or found.trigger is None or found.trigger.overlap != Overlap.CANCEL:
        return
    if found.trigger.is_active:
        old = history.active_runs(found.trigger.task).filter(created_at__lt=found.created_at)
        for run in old.order_by("id"):
            endings.cancel_run(run)


# --- what came of them --------------------------------------------------------------------------
def count_outcomes() -> int:
    """Count how the runs of firings ended; a trigger whose runs keep failing goes to rest."""
    settled = 0
    over = _over().order_by("id").values_list("pk", "trigger_id")
    for pk, trigger_id in list(over[:MOST_AT_ONCE]):
        with _one_of_many("Firing", pk), transaction.atomic():
            # The trigger first, as whoever fires it does.
            trigger = _locked(Trigger.objects.filter(pk=trigger_id)) if trigger_id else None
            if trigger is None and trigger_id is not None:
                continue
            changed = Firing.objects.unsettled().filter(pk=pk).update(settled_at=timezone.now())
            run = Run.objects.for_list().filter(firing=pk).first()
            if changed and trigger is not None and run is not None:
                _count(trigger, run)
            settled += changed
    return settled


def _over() -> "QuerySet[Firing]":
    ended = Q(run__finished_at__isnull=False) | Q(run=None)
    return Firing.objects.unsettled().filter(ended)


def _count(trigger: Trigger, run: Run) -> None:
    """Failures in a row, since the trigger was set or resumed."""
    if run.created_at < trigger.armed_at:
        return
    if run.status == RunStatus.COMPLETED:
        Trigger.objects.filter(pk=trigger.pk).exclude(failures=0).update(failures=0)
        return
    if run.status != RunStatus.FAILED:
        return
    Trigger.objects.filter(pk=trigger.pk).update(failures=F("failures") + 1)
    trigger.refresh_from_db(fields=["failures"])
    limit = trigger.failure_limit
    if limit is not None and trigger.failures >= limit and trigger.enabled:
        Trigger.objects.filter(pk=trigger.pk).update(
            enabled=False, hook_enabled=False, next_at=None, rests_because=PauseReason.FAILURES
        )
        notices.tell_of_trouble(
            run,
            title=f"{trigger.task.name} is paused: {trigger.failures} runs failed in a row",
            text=f"The last one said: {run.error_message}",
            path=trigger.task.get_absolute_url(),
        )
