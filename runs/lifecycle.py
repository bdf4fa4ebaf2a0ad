"""The state machine: what a run may do next, and the only functions that change `Run.status`.

Every change is a guarded UPDATE and its event in one transaction. Those by a worker also match the
run's fence: a worker whose lease was taken over cannot write.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from runs.events import log
from runs.events.channels import CANCEL_CHANNEL, LIVE_CHANNEL, WORK_CHANNEL, notify
from runs.events.log import StaleLease
from runs.events.payloads import NewEvent
from runs.models import (
    CallStatus,
    Gate,
    GateStatus,
    Run,
    RunStatus,
    Step,
    StepKind,
    StepStatus,
    ToolCall,
    WorkerBeat,
)
from runs.notifications import notices
from runs.usage.booking import add_to_day, book_usage
from runs.webhooks import outbox
from teammates.access import Access
from teammates.errors import Conflict, TooMany
from teammates.models import TeammateStatus, User
from teammates.providers.base import estimate_tokens
from teammates.text import clean, clean_text
from threads.models import Message, MessageRole, Thread

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
MAX_LOST_ATTEMPTS = 20
CLAIM_LOCK = 42


class InvalidTransition(Conflict):
    """The run is not in a state that allows this."""

    code = "runs.not_active"


@dataclass(frozen=True)
class Lease:
    """One attempt's right to write for a run, until somebody else's fence is higher."""

    run_id: int
    fence: int
    attempt: int


def queue_run(run: Run) -> Run:
    """Insert `run` at the end of its thread's queue, with `run.started`, and wake the workers.

    Call inside the transaction that makes what the run needs. Raises `TooMany` if the queue is
    full. Holds the thread's row: positions are in order of commit.
    """
    thread = Thread.objects.select_for_update(no_key=True).get(pk=run.thread_id)
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


SHARE = 3  # an organization alone holds three quarters, two hold three sevenths each, and so on
_CLAIM = """
WITH RECURSIVE orgs AS (
    (SELECT organization_id AS id FROM runs_run WHERE status = 'queued' ORDER BY 1 LIMIT 1)
    UNION ALL
    SELECT (SELECT organization_id FROM runs_run
            WHERE status = 'queued' AND organization_id > orgs.id ORDER BY 1 LIMIT 1)
    FROM orgs WHERE orgs.id IS NOT NULL
), busy AS (
    SELECT teammate_id, count(*) AS n FROM runs_run WHERE status = 'running' GROUP BY 1
), held AS (
    SELECT organization_id AS id, count(*) AS n FROM runs_run WHERE status = 'running' GROUP BY 1
), fleet AS (
    SELECT sum(capacity) - coalesce((SELECT sum(n) FROM held), 0) AS spare FROM runs_workerbeat
    WHERE seen_at > statement_timestamp() - make_interval(secs => %(silent)s)
), room AS (
    -- Where several organizations share the workers, each takes new places only while it holds at
    -- most SHARE times as many as are free: one alone leaves a part, which is there for the next.
    SELECT o.id, least(
        o.max_running - coalesce(held.n, 0),
        CASE WHEN EXISTS (SELECT FROM teammates_organization WHERE closed_at IS NULL OFFSET 1)
             THEN (SELECT CASE WHEN held.n IS NULL AND share < 1 THEN 1 ELSE share END
                   FROM (SELECT floor((%(share)s * spare - coalesce(held.n, 0))
                                      / (%(share)s + 1.0)) AS share FROM fleet) of_spare)
        END) AS free
    FROM orgs JOIN teammates_organization o USING (id) LEFT JOIN held USING (id)
    WHERE o.closed_at IS NULL
), heads AS (
    SELECT h.id, h.teammate_id, h.free_in_teammate, row_number() OVER w AS nth_of_teammate,
           row_number() OVER (PARTITION BY room.id ORDER BY h.id) AS turn
    FROM room CROSS JOIN LATERAL (
        SELECT r.id, r.teammate_id, t.max_running - coalesce(b.n, 0) AS free_in_teammate
        FROM runs_run r JOIN teammates_teammate t ON t.id = r.teammate_id
        LEFT JOIN busy b ON b.teammate_id = r.teammate_id
        WHERE r.organization_id = room.id AND r.status = 'queued'
          AND r.available_at <= statement_timestamp()
          AND coalesce(b.n, 0) < t.max_running AND t.status <> 'archived'
          -- a run in back-off keeps its place: available_at is no part of this
          AND NOT EXISTS (
            SELECT 1 FROM runs_run e WHERE e.thread_id = r.thread_id
            AND e.status IN ('queued', 'running', 'waiting', 'paused')
            AND e.position < r.position)
        ORDER BY r.id LIMIT greatest(least(room.free, %(n)s), 0)::bigint
    ) h
    WINDOW w AS (PARTITION BY h.teammate_id ORDER BY h.id)
), picked AS (
    SELECT id FROM heads WHERE nth_of_teammate <= free_in_teammate ORDER BY turn, id LIMIT %(n)s
)
UPDATE runs_run SET status = 'running', worker = %(worker)s, fence = fence + 1,
    attempt = attempt + 1, lease_until = statement_timestamp() + make_interval(secs => %(lease)s),
    started_at = coalesce(started_at, statement_timestamp()), next_retry_at = NULL,
    updated_at = statement_timestamp()
FROM picked WHERE runs_run.id = picked.id AND runs_run.status = 'queued'
RETURNING runs_run.id, runs_run.fence, runs_run.attempt, runs_run.organization_id
"""


def claim_runs(*, worker: str, limit: int) -> list[Lease]:
    """Take up to `limit` heads of threads, in turn between organizations, within the limits.

    One claimer at a time (an advisory lock): counting under SKIP LOCKED would let two both see
    the last free place.
    """
    if limit < 1:
        return []
    with transaction.atomic(), connection.cursor() as cursor:
        # A statement of its own: the snapshot of the claim must be younger than the lock.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CLAIM_LOCK])
        cursor.execute(_CLAIM, {
            "n": limit, "worker": worker, "lease": settings.LEASE_SECONDS, "share": SHARE,
            "silent": WorkerBeat.silent_after().total_seconds(),
        })  # fmt: skip
        rows = cursor.fetchall()
        leases = [Lease(*row[:3]) for row in rows]
        for organization_id in {row[3] for row in rows}:
            notify({LIVE_CHANNEL: organization_id})
        log.append(
            log.Batch(
                lease.run_id,
                lease.fence,
                [NewEvent("run.attempt.started", {"attempt": lease.attempt, "worker": worker})],
            )
            for lease in leases
        )
    return leases


def renew_leases(leases: Iterable[Lease]) -> tuple[set[int], set[int]]:
    """Prolong all of a worker's leases in one statement.

    Returns the runs that are still the worker's, and those of them that should be cancelled.
    """
    wanted = list(leases)
    if not wanted:
        return set(), set()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """WITH mine AS (
                   SELECT r.id FROM runs_run r
                   JOIN unnest(%s::bigint[], %s::bigint[]) w(id, fence)
                     ON w.id = r.id AND w.fence = r.fence
                   WHERE r.status = 'running' ORDER BY r.id FOR NO KEY UPDATE OF r)
               UPDATE runs_run r SET lease_until = statement_timestamp() + make_interval(secs => %s)
               FROM mine WHERE r.id = mine.id
               RETURNING r.id, r.cancel_requested_at IS NOT NULL""",
            [[w.run_id for w in wanted], [w.fence for w in wanted], settings.LEASE_SECONDS],
        )
        rows = cursor.fetchall()
    return {run_id for run_id, _ in rows}, {run_id for run_id, cancel in rows if cancel}


def sweep_expired() -> int:
    """Put runs whose worker fell silent back into their place; return how many.

    One that lost its worker too often fails, one that should be cancelled is. One transaction
    each: a run that ends locks its day, and of those no transaction holds several.
    """
    silent = Run.objects.filter(status=S.RUNNING, lease_until__lt=Now())
    lost = list(silent.order_by("id").values_list("pk", flat=True)[:100])
    for pk in lost:
        with transaction.atomic():
            locked = Run.objects.select_for_update(skip_locked=True, no_key=True)
            run = locked.filter(pk=pk, status=S.RUNNING, lease_until__lt=Now()).first()
            if run is not None:
                _end_attempt(run, "run.attempt.lost", reason="worker_lost")
    return len(lost)


def expire_leases_of_dead(machine: str, is_alive: Callable[[int], bool]) -> int:
    """End the leases of workers of this `machine` whose process is gone, without waiting for them.

    After a kill and a new start, runs go on at once. A wrong guess costs an attempt, never an
    event: the sweep that follows raises the fence.
    """
    names = Run.objects.filter(status=S.RUNNING, worker__startswith=f"{machine}:")
    dead = [
        name
        for name in names.values_list("worker", flat=True).distinct()
        if not is_alive(int(name.split(":")[1]))
    ]
    return Run.objects.filter(status=S.RUNNING, worker__in=dead).update(
        lease_until=Now() - timedelta(seconds=1)
    )


def close_orphans() -> int:
    """Close what waits for a teammate, a conversation or an account that is no more, and stop what
    is at work in one; return how many were closed."""
    deleted = ~Q(thread__deleted_at=None)
    for busy in Run.objects.filter(deleted, status=S.RUNNING, cancel_requested_at=None)[:100]:
        cancel_run(busy)
    stopped = Q(teammate__status=TeammateStatus.ARCHIVED) | ~Q(organization__closed_at=None)
    stopped |= deleted
    waiting = Run.objects.filter(stopped, status__in=[S.QUEUED, S.WAITING, S.PAUSED])
    orphans = list(waiting.order_by("id").values_list("pk", flat=True)[:100])
    for pk in orphans:  # one transaction each, as above
        with transaction.atomic():
            locked = Run.objects.select_for_update(skip_locked=True, no_key=True, of=("self",))
            run = locked.filter(pk=pk, status__in=[S.QUEUED, S.WAITING, S.PAUSED]).first()
            if run is not None:
                finish_locked(run, Outcome(S.CLOSED, stop_reason=f"closed:{_gone(run)}"))
    return len(orphans)


def _gone(run: Run) -> str:
    if run.organization.closed_at is not None:
        return "account"
    return "thread_deleted" if run.thread.deleted_at is not None else "teammate_archived"


def release_run(lease: Lease, pending: list[NewEvent]) -> None:
    """Hand a run back, because its worker stops."""
    with holding(lease, pending) as run:
        _end_attempt(run, "run.attempt.released", reason="worker_stopped")


def _end_attempt(run: Run, event: str, *, reason: str) -> None:
    """Give a running run back to the queue. Holds the run's row."""
    if stop_if_cancelled(run):
        return
    lost = run.lost_attempts + (event == "run.attempt.lost")
    if lost > MAX_LOST_ATTEMPTS:
        finish_locked(
            run,
            Outcome(
                S.FAILED,
                error_class="worker.recovery_unavailable",
                error_message=f"The run lost its worker {lost} times. Try again; if it happens "
                "again, look into the log of the worker.",
            ),
        )
        return
    data = {"attempt": run.attempt, "worker": run.worker, "reason": reason}
    data |= stop_unfinished_step(run)
    _transition(
        run,
        S.QUEUED,
        NewEvent(event, data),
        fence=F("fence") + 1,
        lease_until=None,
        worker="",
        lost_attempts=lost,
        available_at=Now(),
    )
    notify({WORK_CHANNEL: ""})


def retry_later(
    lease: Lease, pending: list[NewEvent], *, delay: float, why: dict[str, Any]
) -> None:
    """Queue a run again after a transient error of its provider; it keeps its place.

    `delay` in seconds; `why` is the data of the `run.llm.retry` event.
    """
    with holding(lease, pending) as run:
        if stop_if_cancelled(run):
            return
        why |= stop_unfinished_step(run, error=str(why.get("message", "")))
        at = Now() + timedelta(seconds=delay)
        _transition(
            run,
            S.QUEUED,
            NewEvent("run.llm.retry", why | {"delay_ms": int(delay * 1000)}),
            fence=F("fence") + 1,
            lease_until=None,
            worker="",
            available_at=at,
            next_retry_at=at,
        )


def stop_unfinished_step(run: Run, *, error: str = "") -> dict[str, Any]:
    """Close the model step that an attempt left open; return what is void of it, for the event."""
    step = Step.objects.filter(run=run, status=StepStatus.RUNNING).first()
    if step is None or step.kind == StepKind.TOOLS:
        return {}  # tools are resumed where they stand: their calls are journaled one by one
    usage = _estimate_unfinished(run, step)
    Step.objects.filter(pk=step.pk).update(
        status=StepStatus.STOPPED, finished_at=timezone.now(), last_seq=run.last_seq, error=error,
        **usage,
    )  # fmt: skip
    return {
        "void_step": step.number,
        "void_from_seq": step.first_seq,
        "void_to_seq": run.last_seq,
    }


def _estimate_unfinished(run: Run, step: Step) -> dict[str, Any]:
    """What a model call used whose provider never told: nothing, if it never said anything."""
    deltas = run.events.filter(
        seq__gte=step.first_seq, type__in=["message.delta", "tool.call.delta"]
    )
    answered = sum(
        len((event.data.get("content_delta") or event.data.get("arguments_delta", "")).encode())
        for event in deltas
    )
    if not answered:
        return {"cost": Decimal(0)}
    tokens = {
        "input_tokens": estimate_tokens(json.dumps(step.request, ensure_ascii=False)),
        "output_tokens": -(-answered // 4),
    }
    price = run.route.price_now() if run.route else None
    cost = price.cost(cache_read=0, cache_write=0, **tokens) if price else None
    return tokens | {"cost": cost, "usage_estimated": True}


def set_archived(access: Access, run: Run, *, archived: bool) -> Run:
    """Take a run out of the lists, or back into them; again is fine. Raises `Forbidden`."""
    access.require("data.runs.write", run)
    rows = Run.objects.filter(pk=run.pk, archived_at__isnull=archived)
    at = timezone.now()
    rows.update(archived_at=at if archived else None, updated_at=at)
    run.refresh_from_db(fields=["archived_at", "updated_at"])
    return run


def mark_viewed(access: Access, run: Run) -> Run:
    """Whoever started the run looked at it: a result that is seen is not mailed. A colleague's look
    changes nothing."""
    if run.created_by_id is not None and run.created_by != access.user:
        return run
    Run.objects.filter(pk=run.pk).update(last_viewed_at=timezone.now())
    run.refresh_from_db(fields=["last_viewed_at"])
    return run


def mark_thread_viewed(access: Access, thread: Thread) -> None:
    """Whoever began a thread looked at its results."""
    if thread.created_by != access.user:
        return
    unseen = Run.objects.filter(thread=thread, last_viewed_at=None)
    unseen.exclude(finished_at=None).update(last_viewed_at=timezone.now())


def wait_locked(run: Run, gate: Gate, asked: list[NewEvent]) -> None:
    """Stop at `gate`, which is saved here: the worker's slot is free, and the run waits as long as
    people need. One that should be cancelled ends instead. The caller holds the run's row."""
    if stop_if_cancelled(run):
        return
    gate.save(force_insert=True)
    assert gate.tool_call_id is not None
    ToolCall.objects.filter(pk=gate.tool_call_id).update(
        status=CallStatus.WAITING, started_at=Coalesce("started_at", Now())
    )
    _transition(run, S.WAITING, *asked, fence=F("fence") + 1, lease_until=None, worker="")
    outbox.queue(run)
    notify({LIVE_CHANNEL: run.organization_id})


def resume_locked(run: Run, *new: NewEvent) -> Run:
    """Put a waiting or paused run back into its old place. The caller holds its row."""
    _transition(run, S.QUEUED, *new, available_at=Now(), pause_reason="")
    notify({WORK_CHANNEL: "", LIVE_CHANNEL: run.organization_id})
    return run


@dataclass(frozen=True)
class Outcome:
    """How a run ends. `text` is the assistant's closing message."""

    status: RunStatus
    text: str = ""
    stop_reason: str = ""
    error_class: str = ""
    error_message: str = ""


def finish_run(lease: Lease, pending: list[NewEvent], outcome: Outcome) -> Run:
    """The terminal transaction of a worker: the run's pending events go first."""
    with holding(lease, pending) as run:
        return finish_locked(run, outcome)


def finish_locked(run: Run, outcome: Outcome) -> Run:
    """Event, status, usage, cost and message commit together. The caller holds the run's row."""
    was_waiting = run.status in (S.WAITING, S.PAUSED)
    stop_unfinished_step(run)
    Step.objects.filter(run=run, status=StepStatus.RUNNING).update(
        status=StepStatus.STOPPED, finished_at=timezone.now(), last_seq=run.last_seq
    )
    open_gates = Gate.objects.filter(run=run, status=GateStatus.PENDING)
    cancelled = [str(uid) for uid in open_gates.values_list("uid", flat=True)] if (
        was_waiting
    ) else []  # fmt: skip
    open_gates.update(status=GateStatus.CANCELLED, decided_at=timezone.now())
    fields: dict[str, Any] = book_usage(run)
    text = clean(outcome.text)
    closing: list[NewEvent] = []
    if text.strip():
        fields["answer"] = Message.objects.create(
            thread_id=run.thread_id, role=MessageRole.ASSISTANT, content=text
        )
        fields["asks_back"] = outcome.status == S.COMPLETED and asks_back(text)
    finished_at = timezone.now()
    rows = fields.pop("rows")
    data: dict[str, Any] = {
        "usage": {
            "input_tokens": fields["input_tokens"],
            "output_tokens": fields["output_tokens"],
            "total_tokens": fields["input_tokens"] + fields["output_tokens"],
            "cache_creation_input_tokens": fields["cache_write_tokens"],
            "cache_read_input_tokens": fields["cache_read_tokens"],
            "estimated": fields["usage_estimated"],
        },
        "cost": {
            "currency": "USD",
            "amount_micros": None if fields["cost"] is None else int(fields["cost"] * 1_000_000),
        },
        "duration_ms": int((finished_at - run.started_at).total_seconds() * 1000)
        if run.started_at
        else 0,
    }
    if outcome.stop_reason:
        data["stop_reason"] = outcome.stop_reason
    if outcome.status == S.FAILED:
        data |= {"error_class": outcome.error_class, "message": outcome.error_message}
    if outcome.status == S.CLOSED:
        data["reason"] = "closed"
    if cancelled:
        data["cancelled_requests"] = cancelled
    closing.append(NewEvent(f"run.{outcome.status}", data))
    _transition(
        run,
        outcome.status,
        *closing,
        fence=F("fence") + 1,
        lease_until=None,
        finished_at=finished_at,
        next_retry_at=None,
        error_class=outcome.error_class[:100],
        error_message=clean(outcome.error_message),
        stop_reason=outcome.stop_reason[:500],
        **fields,
    )
    outbox.queue(run)
    notices.tell_of_result(run)
    # The next one in the thread may start.
    notify({WORK_CHANNEL: "", LIVE_CHANNEL: run.organization_id})
    add_to_day(run, rows, at=finished_at)
    return run


def asks_back(text: str) -> bool:
    """Whether a closing message asks its reader for something."""
    return text.rstrip().rstrip("*_`)\"'”’ ").endswith("?")


def stop_run(access: Access, run: Run, *, seen: int | None = None) -> Run:
    """Stop a run for a person or a program (`cancel_run`). Raises `Forbidden`."""
    access.require("data.runs.write", run)
    return cancel_run(run, by=access.user, seen=seen)


def cancel_run(run: Run, *, by: User | None = None, seen: int | None = None) -> Run:
    """Stop a run: at once if nobody executes it, else its worker is told. Again is fine.

    `seen` is the last number that the person had seen; it is kept with the request.

    Returns the run as it is now; one that is over stays as it was.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update(of=("self",), no_key=True).with_names().get(pk=run.pk)
        if run.is_finished or run.cancel_requested_at is not None:
            return run
        run.cancel_requested_at, run.cancelled_by = timezone.now(), by
        run.save(update_fields=["cancel_requested_at", "cancelled_by"])
        write(
            run,
            None,
            [
                NewEvent(
                    "run.cancel_requested",
                    {
                        "by": by.display_name if by else None,
                        "requested_by_user_id": str(by.uid) if by else None,
                        "last_seen_seq": seen,
                    },
                )
            ],
        )
        if run.status == S.RUNNING:
            notify({CANCEL_CHANNEL: run.pk})
        else:
            finish_locked(run, Outcome(S.CANCELLED, stop_reason="cancelled:person"))
    return run


def close_run(access: Access, run: Run, *, reason: str = "") -> Run:
    """An admin ends what nobody executes: queued, waiting or paused. Again is fine.

    Raises `Forbidden`, `Conflict` for a run that a worker holds: that one is stopped (`stop_run`).
    """
    access.require("data.runs.close", run)
    with transaction.atomic():
        run = Run.objects.select_for_update(of=("self",), no_key=True).with_names().get(pk=run.pk)
        if run.is_finished:
            return run
        if run.status == S.RUNNING:
            raise Conflict("A worker is at it: stop it instead.", code="runs.running")
        who = access.user.display_name if access.user else "an admin"
        why = f": {reason.strip()}" if reason.strip() else ""
        finish_locked(run, Outcome(S.CLOSED, stop_reason=clean_text(f"closed by {who}{why}")))
    return run


def stop_if_cancelled(run: Run) -> bool:
    """End a run whose cancel arrived between two steps. The caller holds its row."""
    if run.cancel_requested_at is None:
        return False
    finish_locked(run, Outcome(S.CANCELLED, stop_reason="cancelled:person"))
    return True


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


def _transition(run: Run, to: RunStatus, *new: NewEvent, **fields: Any) -> Run:
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
