"""v1: runs (the second seed; contract v1 2.5 and 3)."""

from typing import Annotated, Any
from uuid import UUID

from django.http import HttpResponse
from ninja import Router, Status
from pydantic import Field

from runs import wire
from runs.creation import conversation, idempotency, options
from runs.gates import answers
from runs.lifecycle import endings
from runs.models import Run, RunStatus
from runs.queries import lookup
from runs.streams.frames_v1 import V1Frames
from runs.streams.sse import StreamPlan, hand_over
from teammates.api.bearer import access_of_request
from teammates.api.schemas import ApiRequest, Input, iso
from teammates.errors import DomainError, Invalid
from teammates.models import User
from teammates.types import JSON
from threads import conversations

router = Router(tags=["runs"])
NAME = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}$"


class RunIn(Input):
    route_id: Annotated[str, Field(pattern=NAME)] | None = None
    persona_id: Annotated[str, Field(pattern=NAME)] | None = None
    model: str | None = None
    work_dir: str | None = None
    reasoning_mode: str | None = None
    output_route_id: str | None = None
    output_model_key: str | None = None


class CancelIn(Input):
    last_seen_seq: Annotated[int, Field(ge=0)] | None = None
    client_cancelled_at: str | None = None


class InputIn(Input):
    content: str


@router.post("/threads/{thread_id}/runs", response={201: JSON})
def create_run(request: ApiRequest, thread_id: UUID, payload: RunIn | None = None) -> Status[JSON]:
    """Start a teammate on the thread as it stands. A busy thread queues the run."""
    payload = payload or RunIn()
    thread = conversations.get_thread(request.auth, uid=thread_id)
    run, _ = idempotency.create_idempotently(
        request.auth,
        request.headers.get("Idempotency-Key"),
        ["v1", str(thread_id), payload.dict()],
        lambda: conversation.run_in_thread(
            request.auth,
            thread,
            persona_id=payload.persona_id,
            route_id=payload.route_id or payload.output_route_id,
            options=options.Options(
                model=payload.model or payload.output_model_key,
                effort=_effort(payload.reasoning_mode),
            ),
        ),
    )
    return Status(201, {"run_id": str(run.uid), "trace_id": run.trace_id})


@router.get("/threads/{thread_id}/runs")
def list_thread_runs(
    request: ApiRequest, thread_id: UUID, limit: Annotated[int, Field(ge=1, le=200)] = 50
) -> list[JSON]:
    """Newest first."""
    request.auth.require("data.runs.read")
    thread = conversations.get_thread(request.auth, uid=thread_id)
    runs = Run.objects.filter(thread=thread).newest_first()[:limit]
    return [
        {
            "run_id": str(run.uid),
            "status": wire.V1_STATUS[RunStatus(run.status)],
            "created_at": iso(run.created_at),
        }
        for run in runs
    ]


@router.get("/runs")
def list_runs(
    request: ApiRequest,
    response: HttpResponse,
    limit: Annotated[int, Field(ge=1, le=200)] = 50,
    before: str | None = None,
    status: str | None = None,
) -> list[JSON]:
    """All runs of the organization that the caller may open, newest first.

    `before`: the last item's `run_id`, an RFC 3339 instant, or the `X-Next-Cursor` header.
    """
    request.auth.require("data.runs.read")
    runs = Run.objects.visible_to(request.auth).for_list()
    if status is not None:
        if status not in wire.V1_FILTER:
            raise Invalid(f"status must be one of {', '.join(wire.V1_FILTER)}.")
        runs = runs.filter(status__in=wire.V1_FILTER[status])
    if before is not None:
        runs = lookup.page_before(request.auth, before, runs)
    rows = list(runs.newest_first()[: limit + 1])
    if len(rows) > limit:
        response["X-Next-Cursor"] = str(rows[limit - 1].uid)
    return [run_item(run) for run in rows[:limit]]


@router.post("/runs/{run_id}:cancel")
def cancel_run(request: ApiRequest, run_id: UUID, payload: CancelIn | None = None) -> JSON:
    """Stop the run; again, or after its end, is fine."""
    run = lookup.get_run(request.auth, uid=run_id)
    endings.stop_run(request.auth, run, seen=payload.last_seen_seq if payload else None)
    return {"ok": True}


@router.post("/runs/{run_id}/cancel", include_in_schema=False)
def cancel_run_alias(request: ApiRequest, run_id: UUID, payload: CancelIn | None = None) -> JSON:
    return cancel_run(request, run_id=run_id, payload=payload)


@router.post("/runs/{run_id}/input")
def submit_input(request: ApiRequest, run_id: UUID, payload: InputIn) -> JSON:
    """Answer what the run waits for: a question with any text, an approval with a decision."""
    request.auth.require("data.runs.write")
    run = lookup.get_run(request.auth, uid=run_id)
    answers.answer_text(request.auth, run, payload.content)
    return {"ok": True}


@router.get("/runs/{run_id}/events")
def stream_events(
    request: ApiRequest,
    run_id: UUID,
    after_seq: Annotated[int, Field(ge=0)] | None = None,
    follow: bool = True,
) -> Any:
    """Server-sent events: what is stored behind `after_seq`, then live, to the terminal event."""
    request.auth.require("data.runs.read")
    run = lookup.get_run(request.auth, bare=True, uid=run_id)
    plan = StreamPlan(
        run.pk,
        V1Frames(str(run.uid)),
        after=after_seq if after_seq is not None else _last_event_id(request),
        live=follow,
        still_allowed=lambda: _may_read(request, run_id),
    )
    return hand_over(request, plan, {})


@router.get("/runs/{run_id}")
def get_run(request: ApiRequest, run_id: UUID) -> JSON:
    request.auth.require("data.runs.read")
    run = lookup.get_run(request.auth, uid=run_id)
    organization = str(run.organization.uid)
    return {
        "run_id": str(run.uid),
        "org_id": organization,
        "account_id": organization,
        "thread_id": str(run.thread.uid),
        "created_by_user_id": str(by.uid) if (by := _creator(run)) else None,
        "status": wire.V1_STATUS[RunStatus(run.status)],
        "created_at": iso(run.created_at),
        "trace_id": run.trace_id,
    }


def _creator(run: Run) -> User | None:
    """Who asked for it; nobody did where a trigger started it."""
    return None if run.is_triggered else run.created_by


def run_item(run: Run) -> JSON:
    organization = str(run.organization.uid)
    by = _creator(run)
    return {
        "run_id": str(run.uid),
        "org_id": organization,
        "account_id": organization,
        "thread_id": str(run.thread.uid),
        "status": wire.V1_STATUS[RunStatus(run.status)],
        "model": run.model_name or None,
        "persona_id": run.requested_persona or None,
        "total_input_tokens": run.input_tokens,
        "total_output_tokens": run.output_tokens,
        "total_cost_usd": None if run.cost is None else float(run.cost),
        "duration_ms": run.duration_ms,
        "cache_hit_rate": run.cache_hit_rate,
        "credits_used": run.credits_used,
        "created_at": iso(run.created_at),
        "completed_at": iso(run.finished_at) if run.status == "completed" else None,
        "failed_at": iso(run.finished_at) if run.status == "failed" else None,
        "created_by_user_id": str(by.uid) if by else None,
        "created_by_user_name": by.display_name if by else None,
        "created_by_email": by.email if by else None,
    }


def _effort(reasoning_mode: str | None) -> str | None:
    """v1's reasoning modes as efforts; those that only switch thinking choose none."""
    words = {
        "minimal": "low",
        "low": "low",
        "medium": "medium",
        "high": "high",
        "xhigh": "xhigh",
        "max": "max",
    }
    silent = {None, "auto", "enabled", "disabled", "none", "off"}
    if reasoning_mode in silent:
        return None
    if reasoning_mode not in words:
        allowed = sorted(word for word in {*words, *silent} if word)
        raise Invalid(f"reasoning_mode must be one of {', '.join(allowed)}.")
    return words[reasoning_mode]


def _last_event_id(request: ApiRequest) -> int:
    header = request.headers.get("Last-Event-ID", "")
    return int(header) if header.isdecimal() and len(header) < 19 else 0


def _may_read(request: ApiRequest, run_id: UUID) -> bool:
    """Whether the credential of an open stream still reads its run."""
    try:
        lookup.get_run(access_of_request(request), bare=True, uid=run_id)
    except DomainError:
        return False
    return True
