"""v2: runs listed, read, streamed and stopped (the first seed; contract v2 2.1, 3, 4). Asking for
one is in `run_requests`."""

from typing import Annotated, Any, Literal

from django.http import HttpResponse
from ninja import Status
from pydantic import Field

from runs import wire
from runs.api.v2.run_requests import router
from runs.api.v2.shapes import (
    activity_out,
    file_out,
    message_out,
    run_out,
    share_out,
    whole_run_out,
)
from runs.api.v2.shared import (
    find_run,
    find_to_change,
    in_scope,
    open_stream,
)
from runs.lifecycle import endings, flags
from runs.models import Run, RunStatus
from runs.queries import lookup, turns
from runs.sharing import links
from teammates.api.schemas import ApiRequest, Limit, iso, money, page
from teammates.api.scopes import scoped
from teammates.errors import Conflict, Invalid
from teammates.models import Teammate
from teammates.types import JSON
from threads.downloads import file_response

NEEDS_YOU_SHOWN = 5


# --- look ---------------------------------------------------------------------------------------
@router.get("/runs")
def list_runs(
    request: ApiRequest,
    teammate_id: int | None = None,
    task_id: int | None = None,
    user_id: str | None = None,
    status: str | None = None,
    limit: Limit = 20,
    starting_after: int | None = None,
    sort: Literal["created", "priority"] = "created",
    archived: Literal["exclude", "only", "include"] = "exclude",
    include_end_user_runs: bool = False,
    exclude_platform_runs: bool = False,
    fields: Literal["summary"] | None = None,
) -> JSON:
    """Newest first, or what needs somebody first. Account-level runs only, unless `user_id` or
    `include_end_user_runs` says otherwise."""
    runs = in_scope(request, user_id, include_end_user_runs=include_end_user_runs)
    if teammate_id is not None:
        runs = runs.filter(teammate=teammate_id)
    if task_id is not None:
        runs = runs.filter(task=task_id)
    if status == "archived":
        archived = "only"
    elif status is not None:
        if status not in wire.V2_FILTER:
            raise Invalid(f"status must be one of {', '.join(wire.V2_FILTER)}, archived.")
        runs = runs.filter(status__in=wire.V2_FILTER[status])
    if archived != "include":
        runs = runs.filter(archived_at__isnull=archived == "exclude")
    last = None
    if starting_after is not None:
        last = Run.objects.visible_to(request.auth).filter(pk=starting_after).first()
        if last is None:
            raise Invalid("starting_after: there is no such run.")
    runs = runs.for_detail()
    if sort == "priority":
        rows = lookup.awaiting_first(runs, last, limit + 1)
    else:
        rows = list((runs.older_than(last) if last else runs).newest_first()[: limit + 1])
    return page(rows, limit, [run_out(run) for run in rows[:limit]])


@router.get("/runs/check")
def check_runs(request: ApiRequest, user_id: str | None = None) -> JSON:
    """Whether anything changed: counts and times of what `GET /runs` and `/agents` would show."""
    access = scoped(request, user_id)
    shown = in_scope(request, user_id).filter(archived_at=None)
    newest = shown.newest_first().values_list("pk", flat=True).first()
    changed = in_scope(request, user_id).order_by("-updated_at")
    teammates = Teammate.objects.visible_to(access)
    roster = teammates.order_by("-updated_at").values_list("updated_at", flat=True)
    return {
        "total_count": shown.count(),
        "latest_run_id": newest,
        "awaiting_count": shown.awaiting_reply().count(),
        "latest_change_at": iso(changed.values_list("updated_at", flat=True).first()),
        "roster_count": teammates.current().count(),
        "roster_change_at": iso(roster.first()),
        "teams_count": 0,
        "teams_change_at": None,
    }


@router.get("/runs/needs-you")
def list_needing_you(request: ApiRequest, user_id: str | None = None) -> JSON:
    """How many runs wait for a person, and the newest of them. Titles never repeat a prompt."""
    waiting = in_scope(request, user_id).awaiting_reply()
    shown = waiting.select_related("task", "teammate").newest_first()[:NEEDS_YOU_SHOWN]
    return {
        "count": waiting.count(),
        "items": [
            {
                "run_id": run.pk,
                "title": f"{run.teammate.name} needs you" if run.task.is_ad_hoc else run.task.name,
                "mate_name": run.teammate.name,
            }
            for run in shown
        ],
    }


@router.get("/runs/activity")
def list_activity(request: ApiRequest, user_id: str | None = None) -> JSON:
    """Of every teammate: what is under way, and what ended last."""
    runs = in_scope(request, user_id)
    found = lookup.activity(scoped(request, user_id), runs)
    return {
        "data": [
            {"agent_id": teammate, "runs": [activity_out(run) for run in runs]}
            for teammate, runs in found.items()
        ]
    }


@router.get("/runs/{run_id}")
def get_run(request: ApiRequest, run_id: int, user_id: str | None = None) -> JSON:
    return whole_run_out(find_run(scoped(request, user_id), run_id))


@router.get("/runs/{run_id}/stream")
def join_stream(request: ApiRequest, run_id: int, user_id: str | None = None) -> Any:
    """The run's whole history as frames, then live. 409 once it is over."""
    run = find_run(request.auth.for_end_user(user_id), run_id)
    if run.is_finished:
        raise Conflict("The run is over; read it instead of joining it.", code="run_not_active")
    return open_stream(request, run, is_join=True)


@router.get("/runs/{run_id}/messages")
def list_messages(
    request: ApiRequest,
    run_id: int,
    after_sequence: Annotated[int | None, Field(ge=0)] = None,
    before_sequence: Annotated[int | None, Field(ge=0)] = None,
    tail: bool = False,
    include_trace: bool = False,
    limit: Annotated[int, Field(ge=1, le=1000)] = 500,
    user_id: str | None = None,
) -> list[JSON]:
    """The run's turns, oldest first: from the start, behind or before one, or the newest."""
    run = find_run(request.auth.for_end_user(user_id), run_id)
    found = turns.messages_of(
        run,
        after=after_sequence,
        before=before_sequence,
        tail=tail,
        limit=limit,
        with_trace=include_trace,
    )
    return [message_out(run, one) for one in found]


@router.get("/runs/{run_id}/outcome")
def get_outcome(request: ApiRequest, run_id: int, user_id: str | None = None) -> JSON:
    """What came of the run."""
    run = find_run(request.auth.for_end_user(user_id), run_id)
    return {
        "run_id": run.pk,
        "status": wire.V2_STATUS[RunStatus(run.status)],
        "summary": wire.summary_of(run),
        "headline": wire.headline_of(run),
        "needs_reply": run.needs_somebody,
        "needs_reply_count": int(run.needs_somebody),
        "delivery_channel": "email" if run.is_mailed else "none",
        "output_data": run.output_data,
        "message_count": turns.count_of(run),
        "input_tokens": run.input_tokens or 0,
        "output_tokens": run.output_tokens or 0,
        "total_tokens": run.total_tokens or 0,
        "cost_usd": None if run.cost is None else money(run.cost),
    }


@router.get("/runs/{run_id}/files")
def list_files(request: ApiRequest, run_id: int, user_id: str | None = None) -> list[JSON]:
    """What the run wrote, and what came with its message."""
    run = find_run(request.auth.for_end_user(user_id), run_id)
    return [file_out(file) for file in lookup.files_of(run)]


@router.get("/runs/{run_id}/files/{name}/download")
def download_file(
    request: ApiRequest, run_id: int, name: str, user_id: str | None = None
) -> HttpResponse:
    run = find_run(request.auth.for_end_user(user_id), run_id)
    return file_response(lookup.file_of(run, name))


# --- change -------------------------------------------------------------------------------------
@router.post("/runs/{run_id}/cancel")
def cancel_run(request: ApiRequest, run_id: int, user_id: str | None = None) -> JSON:
    """Stop the run. One that is executing says so once its worker stopped."""
    run = find_run(scoped(request, user_id), run_id)
    request.auth.require("data.runs.write")
    if run.is_finished:
        raise Conflict(
            f"The run is {wire.V2_STATUS[RunStatus(run.status)]} already.", code="run_not_active"
        )
    endings.stop_run(request.auth, run)
    return run_out(find_run(request.auth, run.pk))


@router.post("/runs/{run_id}/archive")
def archive_run(request: ApiRequest, run_id: int, user_id: str | None = None) -> JSON:
    """Take the run out of the lists; again is fine."""
    run = find_to_change(request, run_id, user_id)
    return run_out(flags.set_archived(request.auth, run, archived=True))


@router.post("/runs/{run_id}/unarchive")
def unarchive_run(request: ApiRequest, run_id: int, user_id: str | None = None) -> JSON:
    run = find_to_change(request, run_id, user_id)
    return run_out(flags.set_archived(request.auth, run, archived=False))


@router.post("/runs/{run_id}/view")
def view_run(request: ApiRequest, run_id: int, user_id: str | None = None) -> JSON:
    """Mark the run as viewed."""
    run = find_run(scoped(request, user_id), run_id)
    return run_out(flags.mark_viewed(request.auth, run))


@router.post("/runs/{run_id}/share")
def share_run(request: ApiRequest, run_id: int, user_id: str | None = None) -> JSON:
    """A public link to a read-only page; again is the same link."""
    return share_out(
        request, links.share(request.auth, find_run(request.auth.for_end_user(user_id), run_id))
    )


@router.delete("/runs/{run_id}/share", response={204: None})
def unshare_run(request: ApiRequest, run_id: int, user_id: str | None = None) -> Status[None]:
    """Revoke the link; the next one is another."""
    links.unshare(request.auth, find_run(request.auth.for_end_user(user_id), run_id))
    return Status(204, None)
