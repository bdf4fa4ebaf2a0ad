"""v2: runs (the first seed; contract v2 2.1, 3, 4)."""

from typing import Annotated, Any
from urllib.parse import quote

from django.http import HttpResponse
from ninja import Router, Status
from pydantic import Field

from runs import creation, lifecycle, reading
from runs.api.frames_v2 import V2Frames
from runs.consumers import StreamPlan, hand_over
from runs.models import Run, RunStatus
from teammates.access import Access
from teammates.api.bearer import access_of_request
from teammates.api.schemas import ApiRequest, Input, iso, page
from teammates.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from threads import files

router = Router(tags=["runs"])


class RunCreate(Input):
    message: str
    stream: bool = True
    teammate_id: int | None = None
    name: str | None = None
    instructions: str | None = None
    tools: list[str] | None = None
    user_id: str | None = None
    metadata: dict[str, Any] | None = None
    memory: bool | None = None
    history: bool | None = None
    task_setup_tools: bool | None = None
    feedback: bool | None = None
    human_in_the_loop: bool | None = None
    permission_mode: str | None = None
    model: str | None = None
    effort: str | None = None
    email_inbox: bool = False
    output_schema: dict[str, Any] | None = None
    max_turns: int | None = None
    skill: Annotated[str, Field(max_length=100)] | None = None
    email_notifications: bool = False


class RunReply(Input):
    message: str
    stream: bool = True
    tools: list[str] | None = None
    permission_mode: str | None = None
    task_setup_tools: bool | None = None
    feedback: bool | None = None
    human_in_the_loop: bool | None = None
    skill: Annotated[str, Field(max_length=100)] | None = None
    reset_auto_recovery: bool = False


OPTIONS = (
    "model", "effort", "permission_mode", "human_in_the_loop", "tools", "memory", "history",
    "task_setup_tools", "feedback", "metadata", "output_schema", "max_turns", "skill",
    "email_notifications",
)  # fmt: skip


@router.post("/runs", response={200: Any, 201: dict[str, Any]})
def create_run(request: ApiRequest, payload: RunCreate, response: HttpResponse) -> Any:
    """Start a run: a stream of events, or with `stream: false` the run itself to poll."""
    body = payload.dict()
    run, is_replay = creation.once(
        request.auth,
        request.headers.get("Idempotency-Key"),
        ["v2 create", {k: v for k, v in body.items() if k != "stream"}],
        lambda: creation.create_run(
            request.auth,
            message=payload.message,
            options=_options(body),
            teammate_id=payload.teammate_id,
            name=payload.name,
            instructions=payload.instructions,
            user_id=payload.user_id,
            email_inbox=payload.email_inbox,
        ),
    )
    return _answer(request, response, run, stream=payload.stream, is_replay=is_replay)


@router.get("/runs")
def list_runs(
    request: ApiRequest,
    teammate_id: int | None = None,
    task_id: int | None = None,
    user_id: str | None = None,
    status: str | None = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    starting_after: int | None = None,
    sort: str = "created",
    archived: str = "exclude",
    include_end_user_runs: bool = False,
    exclude_platform_runs: bool = False,
    fields: str | None = None,
) -> dict[str, Any]:
    """Newest first. Account-level runs only, unless `user_id` or `include_end_user_runs` says
    otherwise."""
    access = _scoped(request, user_id)
    runs = Run.objects.visible_to(access).with_names().select_related("answer", "route")
    if user_id is None and not include_end_user_runs:
        runs = runs.filter(end_user=None)
    if exclude_platform_runs:
        runs = runs.exclude(channel="app")
    if teammate_id is not None:
        runs = runs.filter(teammate_id=teammate_id)
    if task_id is not None:
        runs = runs.filter(task_id=task_id)
    if archived not in ("exclude", "only", "include"):
        raise Invalid("archived must be exclude, only or include.")
    if sort not in ("created", "priority"):
        raise Invalid("sort must be created or priority.")
    if status == "archived":
        archived = "only"
    elif status is not None:
        if status not in reading.V2_FILTER:
            raise Invalid(f"status must be one of {', '.join(reading.V2_FILTER)}, archived.")
        runs = runs.filter(status__in=reading.V2_FILTER[status])
    if archived != "include":
        runs = runs.filter(archived_at__isnull=archived == "exclude")
    if starting_after is not None:
        last = Run.objects.filter(organization=request.auth.organization, pk=starting_after).first()
        if last is None:
            raise Invalid("starting_after: there is no such run.")
        runs = runs.older_than(last)
    rows = list(runs.newest_first()[: limit + 1])
    return page(rows, limit, [run_out(run) for run in rows])


@router.get("/runs/{run_id}")
def get_run(request: ApiRequest, run_id: int, user_id: str | None = None) -> dict[str, Any]:
    run = find_run(_scoped(request, user_id), run_id)
    written = [_file_out(file) for file in reading.files_of(run)] if run.is_finished else None
    return run_out(run) | {"files": written}


@router.post("/runs/{run_id}/cancel")
def cancel_run(request: ApiRequest, run_id: int, user_id: str | None = None) -> dict[str, Any]:
    """Stop the run. One that is executing says so once its worker stopped."""
    run = find_run(_scoped(request, user_id), run_id)
    request.auth.require("data.runs.write")
    if run.is_finished:
        raise Conflict(
            f"The run is {reading.V2_STATUS[RunStatus(run.status)]} already.", code="run_not_active"
        )
    return run_out(lifecycle.cancel_run(run, by=request.auth.user))


@router.post("/runs/{run_id}/reply", response={200: Any, 201: dict[str, Any]})
def reply(request: ApiRequest, run_id: int, payload: RunReply, response: HttpResponse) -> Any:
    """A new run with the context of this one, non-interactive unless the body says otherwise."""
    body = payload.dict()
    before = find_run(request.auth, run_id)
    run, is_replay = creation.once(
        request.auth,
        request.headers.get("Idempotency-Key"),
        ["v2 reply", run_id, {k: v for k, v in body.items() if k != "stream"}],
        lambda: creation.reply_to_run(
            request.auth, before, message=payload.message, options=_options(body)
        ),
    )
    return _answer(request, response, run, stream=payload.stream, is_replay=is_replay, status=200)


@router.get("/runs/{run_id}/stream")
def join_stream(request: ApiRequest, run_id: int) -> Any:
    """The run's whole history as frames, then live. 409 once it is over."""
    run = find_run(request.auth, run_id)
    if run.is_finished:
        raise Conflict("The run is over; read it instead of joining it.", code="run_not_active")
    return _stream(request, run, is_join=True)


@router.get("/runs/{run_id}/files")
def list_files(request: ApiRequest, run_id: int) -> list[dict[str, Any]]:
    return [_file_out(file) for file in reading.files_of(find_run(request.auth, run_id))]


@router.get("/runs/{run_id}/files/{name}/download")
def download_file(request: ApiRequest, run_id: int, name: str) -> HttpResponse:
    file = reading.file_of(find_run(request.auth, run_id), name)
    return HttpResponse(
        files.read_file(file),
        content_type=file.content_type,
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name)}"},
    )


# --- shared -------------------------------------------------------------------------------------


def _options(body: dict[str, Any]) -> creation.Options:
    return creation.Options(**{name: body[name] for name in OPTIONS if name in body})


def _scoped(request: ApiRequest, user_id: str | None) -> Access:
    """The access of this request, narrowed to `user_id`. Raises `Invalid` in strict mode."""
    request.auth.require("data.runs.read")
    access = request.auth.for_end_user(user_id)
    if access.api_key:  # the strict mode lets sessions read
        access.require_end_user()
    return access


def find_run(access: Access, run_id: int) -> Run:
    """A run that exists for the caller; what it may not open is as absent (contract v2 1.5)."""
    access.require("data.runs.read")
    try:
        return reading.get_run(access, pk=run_id)
    except Forbidden:
        raise NotFound("There is no such run.", code="runs.not_found") from None


def _answer(
    request: ApiRequest,
    response: HttpResponse,
    run: Run,
    *,
    stream: bool,
    is_replay: bool,
    status: int = 201,
) -> Any:
    """The run as JSON, as a stream, or, for a replayed key, as it is now (contract v2 1.8)."""
    if stream and not is_replay:
        return _stream(request, run)
    run = reading.get_run(access_of_request(request), pk=run.pk)
    if is_replay:
        response["Idempotent-Replay"] = "true"
        return Status(200, run_out(run))
    return Status(status, run_out(run))


def _stream(request: ApiRequest, run: Run, *, is_join: bool = False) -> HttpResponse:
    plan = StreamPlan(
        run.pk,
        V2Frames(run, is_join=is_join) if is_join else V2Frames(run),
        still_allowed=lambda: _may_read(request, run.pk),
    )
    return hand_over(request, plan, {"X-Run-Id": str(run.pk)})


def _may_read(request: ApiRequest, run_id: int) -> bool:
    try:
        find_run(access_of_request(request), run_id)
    except DomainError:
        return False
    return True


def _file_out(file: Any) -> dict[str, Any]:
    return {"name": file.name, "size": file.size, "label": None}


def run_out(run: Run) -> dict[str, Any]:
    """A run with every key of contract v2 2.1; null where there is nothing to say."""
    over = run.is_finished
    failed = run.status == RunStatus.FAILED
    answer = run.answer.content if run.answer else None
    shown: dict[str, Any] = {
        "id": run.pk,
        "teammate_id": run.teammate_id,
        "task_id": run.task_id,
        "task_name": run.task.name,
        "user_id": run.end_user.external_id if run.end_user else None,
        "metadata": run.metadata,
        "description": run.title,
        "status": reading.V2_STATUS[RunStatus(run.status)],
        "output": "The run failed." if failed else answer,
        "output_data": run.output_data,
        "error": run.error_message or None,
        "error_code": run.error_class.rpartition(".")[2] or None,
        "failure_kind": _failure_kind(run),
        "stop_reason": run.stop_reason or None,
        "is_expired": False,
        "permission_mode": run.permission_mode,
        "human_in_the_loop": run.human_in_the_loop,
        "run_mode": run.permission_mode,
        "sandbox_state": None,
        "trigger_source": "api" if run.channel == "api" else "manual",
        "channel": run.channel,
        "billing_surface": "api" if run.end_user_id else "platform",
        "auth_method": "api_key" if run.api_key_id else "session",
        "auth_provider": None,
        "started_by": {"run_id": run.started_by_id, "teammate_id": run.teammate_id}
        if run.started_by_id
        else None,
        "email_address": run.teammate.email_address,
        "model": run.route.alias if run.route else None,
        "effort": run.effort or None,
        "tools": run.tools,
        "memory": run.memory,
        "history": run.history,
        "task_setup_tools": run.task_setup_tools,
        "feedback": run.feedback,
        "output_schema": run.output_schema,
        "max_turns": run.max_turns,
        "skill": run.skill or None,
        "email_notifications": run.email_notifications,
        "created_at": iso(run.created_at),
        "updated_at": iso(run.updated_at),
        "started_at": iso(run.started_at),
        "turn_started_at": iso(run.started_at),
        "last_activity_at": iso(run.finished_at or run.updated_at),
        "last_viewed_at": iso(run.last_viewed_at),
        "notified_at": None,
        "notified_channel": None,
        "retryable": False,
        "can_continue": failed or run.status == RunStatus.CANCELLED,
        "retry_of_run_id": None,
        "retry_count": 0,
        "auto_retry_count": run.lost_attempts,
        "auto_recovery_attempt_count": None,
        "next_retry_at": iso(run.next_retry_at),
        "retried_by_run_id": None,
        "retried_at": None,
        "retry_blocked_reason": None,
        "retry_blocked_message": None,
        "repeats_actions": None,
        "recovery_repeats_actions": None,
        "archived": run.archived_at is not None,
        "share_token": None,
        "retention_mode": "standard",
        "closing_preview": answer[:200] if answer and over else None,
        "latest_message_preview": answer[:200] if answer else None,
        "files": None,
        "needs_reply": run.status == RunStatus.WAITING,
        "needs_me": False,
        "needs_me_run": False,
        "needs_me_message_ids": [],
        "delivery": None,
        "queued_message_id": None,
        "pending_queued_message_ids": [],
        "cancelled_queued_message_ids": [],
        "usage": _usage_out(run),
    }
    return shown


def _failure_kind(run: Run) -> str | None:
    if run.status != RunStatus.FAILED:
        return None
    limits = ("rate_limited", "quota_exceeded", "max_turns")
    return "limit" if run.error_class.endswith(limits) else "error"


def _usage_out(run: Run) -> dict[str, Any] | None:
    if run.input_tokens is None:
        return None
    return {
        "input_tokens": run.input_tokens,
        "output_tokens": run.output_tokens,
        "cache_read_tokens": run.cache_read_tokens,
        "cache_creation_tokens": run.cache_write_tokens,
        "total_tokens": run.total_tokens,
        "cost_usd": None if run.cost is None else f"{run.cost.normalize():f}",
    }
