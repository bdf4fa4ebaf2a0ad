"""How a run ends, once: completed, failed, cancelled, closed; with its last event and its cost."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection, transaction
from django.utils import timezone

from runs.budgets import credits, reserving
from runs.budgets.credits import IS_METERED
from runs.events.channels import CANCEL_CHANNEL, LIVE_CHANNEL, WORK_CHANNEL, notify
from runs.events.payloads import NewEvent
from runs.lifecycle.transitions import End, Lease, S, end_all, holding, write
from runs.models import Gate, GateStatus, Run, RunStatus, Step, StepKind, StepStatus
from runs.notifications import notices
from runs.usage import unusual
from runs.usage.booking import USED, totals_of, usage_of
from runs.usage.days import SHARE_DAYS, add_to_days
from runs.usage.unusual import USUAL
from runs.webhooks import outbox
from teammates.access import Access
from teammates.errors import Conflict
from teammates.llm.prices import prices_at
from teammates.models import User
from teammates.providers.base import REFUSALS, TokenUsage, estimate_tokens
from teammates.text import clean, clean_text
from teammates.types import JSON

# How a call ends that a model was at work on, and nothing was heard of; empty: its worker died.
UNHEARD = ("", "provider.silent", "provider.too_slow")


def stop_unfinished_step(
    run: Run, *, error: str = "", error_class: str = "", used: TokenUsage | None = None
) -> JSON:
    """Close the model step that an attempt left open; return what is void of it, for the event.
    `used` is what it used as far as that was heard."""
    step = Step.objects.filter(run=run, status=StepStatus.RUNNING).first()
    if step is None or step.kind == StepKind.TOOLS:
        return {}  # tools are resumed where they stand: their calls are journaled one by one
    Step.objects.filter(pk=step.pk).update(
        status=StepStatus.STOPPED,
        finished_at=timezone.now(),
        last_seq=run.last_seq,
        error=error,
        **_booked(run, step, used or _estimate_unfinished(run, step, error_class)),
    )
    # A provider that refused wants nothing; what one did that was never heard again, nobody knows.
    reserving.settle(step.pk, is_unknown=used is None and error_class not in REFUSALS)
    return {
        "void_step": step.number,
        "void_from_seq": step.first_seq,
        "void_to_seq": run.last_seq,
    }


def _booked(run: Run, step: Step, used: TokenUsage | None) -> JSON:
    if used is None:
        return {"cost": Decimal(0)}
    route = run.route
    price = None
    if route is not None:
        price = prices_at([route.pk], step.started_at).get(route.pk) or route.price_now()
    return {
        "input_tokens": used.input,
        "output_tokens": used.output,
        "cache_read_tokens": used.cache_read,
        "cache_write_tokens": used.cache_write,
        "cost": price.cost(used) if price else None,
        "usage_estimated": used.estimated,
        "usage_details": used.details or None,
    }


def _estimate_unfinished(run: Run, step: Step, error_class: str) -> TokenUsage | None:
    """What a model call used whose provider never told. One that said nothing has read what it was
    sent, unless it said no, failed, or was not there."""
    deltas = run.events.filter(
        seq__gte=step.first_seq, type__in=["message.delta", "tool.call.delta"]
    )
    answered = sum(
        len((event.data.get("content_delta") or event.data.get("arguments_delta", "")).encode())
        for event in deltas
    )
    if not answered and error_class not in UNHEARD:
        return None
    sent = estimate_tokens(json.dumps(step.request, ensure_ascii=False))
    sent += (step.request or {}).get("media_tokens", 0)
    return TokenUsage(input=sent, output=-(-answered // 4), estimated=True)


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
    """`finish_all` of one run."""
    finish_all([(run, outcome)])
    return run


def finish_all(ended: list[tuple[Run, Outcome]]) -> None:
    """End runs: event, status, usage, cost and message commit together. The caller holds their
    rows, whose columns are set."""
    left = _what_is_left([run.pk for run, _ in ended])
    cancelled = {
        run.pk: _stop_what_is_open(run, outcome) for run, outcome in ended if left[run.pk].is_open
    }
    if cancelled:
        left |= _what_is_left(list(cancelled))
    finished_at = timezone.now()
    ends = []
    for run, outcome in ended:
        usage, text = usage_of(run, left[run.pk].used), clean(outcome.text)
        answer = text if text.strip() else ""
        ends.append(
            End(
                run,
                outcome.status,
                _last_event(run, outcome, totals_of(usage), finished_at, cancelled.get(run.pk, [])),
                usage,
                finished_at,
                answer=answer,
                asks_back=outcome.status == S.COMPLETED and asks_back(answer),
                stop_reason=outcome.stop_reason[:500],
                error_class=outcome.error_class[:100],
                error_message=clean(outcome.error_message),
            )
        )
    # The next one in each thread may start.
    live = {(LIVE_CHANNEL, run.organization_id) for run, _ in ended}
    end_all(ends, [(WORK_CHANNEL, ""), *live])
    for run, _ in ended:
        if left[run.pk].has_endpoints:
            outbox.queue(run)
        notices.tell_of_result(run)
        unusual.tell_of_run(run, left[run.pk].usual)
    credits.take(run for run, _ in ended if left[run.pk].is_metered)
    add_to_days(run.pk for run, _ in ended)


@dataclass(frozen=True)
class _Left:
    """What a run that ends may have open, what it used, and whether anybody may be told."""

    is_open: bool
    has_endpoints: bool
    used: str | None
    usual: float | None  # dollars, of its task
    is_metered: bool  # its organization has been given credits


_LEFT = f"""
SELECT r.id,
    EXISTS (SELECT FROM runs_step s WHERE s.run_id = r.id AND s.status = 'running')
    OR EXISTS (SELECT FROM runs_gate g WHERE g.run_id = r.id AND g.status = 'pending'),
    EXISTS (SELECT FROM runs_webhookendpoint e WHERE e.organization_id = r.organization_id),
    {USED}, {USUAL}, {IS_METERED}, {SHARE_DAYS}
FROM runs_run r WHERE r.id = ANY(%s::bigint[])
"""


def _what_is_left(run_ids: list[int]) -> dict[int, _Left]:
    with connection.cursor() as cursor:
        cursor.execute(_LEFT, [run_ids])
        return {pk: _Left(*row) for pk, *row, _ in cursor.fetchall()}


def _stop_what_is_open(run: Run, outcome: Outcome) -> list[str]:
    """Stop steps that are under way and cancel open gates; the ids of those that it waited at."""
    was_waiting = run.status in (S.WAITING, S.PAUSED)
    stop_unfinished_step(run, error_class=outcome.error_class)
    Step.objects.filter(run=run, status=StepStatus.RUNNING).update(
        status=StepStatus.STOPPED, finished_at=timezone.now(), last_seq=run.last_seq
    )
    gates = Gate.objects.filter(run=run, status=GateStatus.PENDING)
    cancelled = [str(uid) for uid in gates.values_list("uid", flat=True)] if was_waiting else []
    gates.update(status=GateStatus.CANCELLED, decided_at=timezone.now())
    return cancelled


def _last_event(
    run: Run, outcome: Outcome, used: JSON, finished_at: datetime, cancelled: list[str]
) -> NewEvent:
    """Usage, cost, how long it took, and why it ended so."""
    took = finished_at - run.started_at if run.started_at else timedelta(0)
    data: JSON = {
        "usage": {
            "input_tokens": used["input_tokens"],
            "output_tokens": used["output_tokens"],
            "total_tokens": used["input_tokens"] + used["output_tokens"],
            "cache_creation_input_tokens": used["cache_write_tokens"],
            "cache_read_input_tokens": used["cache_read_tokens"],
            "estimated": used["usage_estimated"],
        },
        "cost": {
            "currency": "USD",
            "amount_micros": None if used["cost"] is None else int(used["cost"] * 1_000_000),
        },
        "duration_ms": int(took.total_seconds() * 1000),
    }
    if outcome.stop_reason:
        data["stop_reason"] = outcome.stop_reason
    if outcome.status == S.FAILED:
        data |= {"error_class": outcome.error_class, "message": outcome.error_message}
    if outcome.status == S.CLOSED:
        data["reason"] = "closed"
    if cancelled:
        data["cancelled_requests"] = cancelled
    return NewEvent(f"run.{outcome.status}", data)


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
        run = Run.objects.select_for_update(of=("self",), no_key=True).for_list().get(pk=run.pk)
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
        run = Run.objects.select_for_update(of=("self",), no_key=True).for_list().get(pk=run.pk)
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
