"""Who holds a run: claimed, renewed, released, and taken from workers that are silent."""

from collections.abc import Callable, Iterable
from datetime import timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from runs.events import log
from runs.events.channels import LIVE_CHANNEL, WORK_CHANNEL, notify
from runs.events.payloads import NewEvent
from runs.lifecycle.endings import (
    Outcome,
    cancel_run,
    finish_locked,
    stop_if_cancelled,
    stop_unfinished_step,
)
from runs.lifecycle.transitions import Lease, S, holding, transition
from runs.models import Run, WorkerBeat
from runs.models.run_query import RunQuerySet
from teammates.models import TeammateStatus
from teammates.providers.base import TokenUsage
from teammates.types import JSON

MAX_LOST_ATTEMPTS = 20
CLAIM_LOCK = 42
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
), up AS (
    UPDATE runs_run r SET status = 'running', worker = %(worker)s, fence = fence + 1,
        attempt = attempt + 1, last_seq = last_seq + 1,
        lease_until = statement_timestamp() + make_interval(secs => %(lease)s),
        started_at = coalesce(started_at, statement_timestamp()), next_retry_at = NULL,
        updated_at = statement_timestamp()
    FROM picked WHERE r.id = picked.id AND r.status = 'queued'
    RETURNING r.id, r.fence, r.attempt, r.last_seq - 1 AS before, r.last_seq AS after, r.trace_id,
        r.organization_id
), {started}
SELECT up.id, up.fence, up.attempt, {told} FROM up
""".format(
    started=log.publishing(
        "SELECT up.id, 1, 'run.attempt.started', "
        "jsonb_build_object('attempt', up.attempt, 'worker', %(worker)s::text)::text FROM up",
        news=f"(SELECT DISTINCT '{LIVE_CHANNEL}', organization_id::text FROM up)",
    ),
    told=log.TOLD,
)


def due() -> RunQuerySet:
    """What may be claimed, were there room."""
    return Run.objects.filter(status=S.QUEUED, available_at__lte=Now())


def claim_runs(*, worker: str, limit: int) -> list[Lease]:
    """Take up to `limit` heads of threads, in turn between organizations, within the limits.

    One claimer at a time (an advisory lock): counting under SKIP LOCKED would let two both see
    the last free place.
    """
    if limit < 1:
        return []
    values: JSON = {
        "n": limit,
        "worker": worker,
        "lease": settings.LEASE_SECONDS,
        "share": SHARE,
        "silent": WorkerBeat.silent_after().total_seconds(),
        "are_small": True,
    }
    with (
        transaction.atomic(),
        connection.cursor() as lock,
        connection.cursor() as claim,
        connection.connection.pipeline(),
    ):
        # A statement of its own: the snapshot of the claim must be younger than the lock.
        lock.execute("SELECT pg_advisory_xact_lock(%s)", [CLAIM_LOCK])
        claim.execute(_CLAIM, values)
        return [Lease(*row[:3]) for row in claim.fetchall()]


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
    """Requeue the runs whose worker fell silent, in their place; return how many.

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
    transition(
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
    lease: Lease,
    pending: list[NewEvent],
    *,
    delay: float,
    why: JSON,
    used: TokenUsage | None = None,
) -> None:
    """Queue a run again after a transient error of its provider; it keeps its place.

    `delay` in seconds; `why` is the data of the `run.llm.retry` event; `used` what the provider
    told of the call.
    """
    with holding(lease, pending) as run:
        if stop_if_cancelled(run):
            return
        why |= stop_unfinished_step(
            run,
            error=str(why.get("message", "")),
            error_class=str(why.get("error_class", "")),
            used=used,
        )
        at = Now() + timedelta(seconds=delay)
        transition(
            run,
            S.QUEUED,
            NewEvent("run.llm.retry", why | {"delay_ms": int(delay * 1000)}),
            fence=F("fence") + 1,
            lease_until=None,
            worker="",
            available_at=at,
            next_retry_at=at,
        )
