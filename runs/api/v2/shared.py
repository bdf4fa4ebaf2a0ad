"""What v2's routes of runs share: finding one, and answering with it as JSON or as a stream."""

import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from django.http import HttpResponse
from ninja import Router, Status

from runs.api.v2.shapes import run_out
from runs.creation import options
from runs.models import Run
from runs.queries import lookup
from runs.streams.frames_v2 import V2Frames
from runs.streams.sse import StreamPlan, hand_over
from teammates.access import Access
from teammates.api.bearer import access_of_request
from teammates.api.schemas import ApiRequest, Input
from teammates.api.scopes import exact_scope, scoped
from teammates.errors import DomainError, Forbidden, NotFound
from teammates.types import JSON

OPTIONS = {one.name for one in fields(options.Options)} - {"route"}


class RunOptionsIn(Input):
    """What every body that starts a run of its own may say."""

    stream: bool = True
    user_id: str | None = None
    metadata: JSON | None = None
    memory: bool | None = None
    history: bool | None = None
    task_setup_tools: bool | None = None
    feedback: bool | None = None
    human_in_the_loop: bool | None = None
    permission_mode: str | None = None
    model: str | None = None
    effort: str | None = None
    max_turns: int | None = None


# What a route that makes a run may answer.
MADE = {200: Any, 201: JSON}


def options_of(body: JSON) -> options.Options:
    return options.Options(**{name: body[name] for name in OPTIONS if name in body})


def in_scope(
    request: ApiRequest, user_id: str | None, *, include_end_user_runs: bool = False
) -> Any:
    """The runs of an end user, or the account's own (contract v2 1.9)."""
    runs = Run.objects.visible_to(scoped(request, user_id))
    if user_id is None and not include_end_user_runs:
        runs = runs.filter(end_user=None)
    return runs


def find_to_change(request: ApiRequest, run_id: int, user_id: str | None) -> Run:
    request.auth.require("data.runs.write")
    return find_run(request.auth.for_end_user(user_id), run_id)


def find_run(access: Access, run_id: int) -> Run:
    """A run that exists for the caller; what it may not open is as absent (contract v2 1.5)."""
    access.require("data.runs.read")
    try:
        return lookup.get_run(access, pk=run_id)
    except Forbidden:
        raise NotFound("There is no such run.", code="runs.not_found") from None


def answer(
    request: ApiRequest,
    response: HttpResponse,
    run: Run,
    *,
    stream: bool,
    is_replay: bool,
    status: int = 201,
) -> Any:
    """The run as JSON, as a stream, or, for a replayed key, as it is now (contract v2 1.8)."""
    headers = {}
    if run.starts_left is not None:
        headers["X-RateLimit-Remaining"] = str(run.starts_left)
        headers["X-RateLimit-Reset"] = str(int(time.time()) + 60)
    if stream and not is_replay:
        return open_stream(request, run, headers)
    run = lookup.get_run(access_of_request(request), pk=run.pk)
    if is_replay:
        status, headers["Idempotent-Replay"] = 200, "true"
    for name, value in headers.items():
        response[name] = value
    return Status(status, run_out(run))


def open_stream(
    request: ApiRequest, run: Run, headers: dict[str, str] | None = None, *, is_join: bool = False
) -> HttpResponse:
    plan = StreamPlan(
        run.pk,
        V2Frames(run, is_join=is_join) if is_join else V2Frames(run),
        still_allowed=lambda: _may_read(request, run.pk),
    )
    return hand_over(request, plan, {"X-Run-Id": str(run.pk)} | (headers or {}))


def _may_read(request: ApiRequest, run_id: int) -> bool:
    try:
        find_run(access_of_request(request), run_id)
    except DomainError:
        return False
    return True


def own_scope(request: ApiRequest, user_id: str | None) -> Access:
    return exact_scope(request, user_id, is_strict=False)


F = TypeVar("F", bound=Callable[..., Any])


def under_both_names(router: Router) -> Callable[..., Callable[[F], F]]:
    """Registers routes of teammates under both of their permanent names; the first is the
    documented one."""

    def both(method: str, path: str = "", **options: Any) -> Callable[[F], F]:
        def add(view: F) -> F:
            register = getattr(router, method)
            view = register(f"/agents{path}", **options)(view)
            register(f"/teammates{path}", include_in_schema=False, **options)(view)
            return view

        return add

    return both
