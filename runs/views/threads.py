"""Threads: the list, a conversation, and saying something in it."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from runs import creation, events
from runs.models import Channel, Run, Step, StepKind, StepStatus
from runs.transcript import Transcript
from teammates import roster
from teammates.errors import DomainError, Forbidden, NotFound
from teammates.models import Teammate
from teammates.pages import PageRequest
from teammates.providers.base import Turn
from threads import conversations
from threads.models import Thread

SHOWN_RUNS = 50
PAGE_SIZE = 30


def thread_list(request: PageRequest) -> HttpResponse:
    """Own threads, newest first."""
    before = None
    if last := request.GET.get("after", ""):
        found = Thread.objects.visible_to(request.access).filter(pk=last).first() if (
            last.isdecimal()
        ) else None  # fmt: skip
        before = (found.updated_at, found.uid) if found else None
    threads = conversations.list_threads(request.access, limit=PAGE_SIZE + 1, before=before)
    return render(request, "threads/thread_list.html", {
        "threads": threads[:PAGE_SIZE],
        "last": threads[PAGE_SIZE - 1] if len(threads) > PAGE_SIZE else None,
        "is_first": before is None,
    })  # fmt: skip


@require_http_methods(["GET", "POST"])
def thread_new(request: PageRequest) -> HttpResponse:
    """Open a conversation with its first message."""
    access = request.access
    error = ""
    if request.method == "POST":
        try:
            run = creation.start_thread(
                access,
                message=request.POST.get("message", ""),
                teammate=_chosen(request),
                options=_options(request),
            )
        except DomainError as refusal:
            error = refusal.message
        else:
            return redirect(run.thread)
    teammates = Teammate.objects.visible_to(access).current().with_version()
    chosen = request.POST.get("teammate") or request.GET.get("teammate") or ""
    return render(request, "threads/thread_new.html", {
        "teammates": teammates.order_by("id")[:200],
        "chosen": int(chosen) if chosen.isdecimal() else access.organization.default_teammate_id,
        "error": error,
        "message": request.POST.get("message", ""),
    }, status=422 if error else 200)  # fmt: skip


def thread_detail(request: PageRequest, thread_id: int) -> HttpResponse:
    thread = _thread(request, thread_id)
    runs = list(
        Run.objects.filter(thread=thread).with_names().select_related("answer", "route")
        .order_by("-position")[:SHOWN_RUNS]
    )[::-1]  # fmt: skip
    teammates = Teammate.objects.visible_to(request.access).current().with_version()
    return render(request, "threads/thread_detail.html", {
        "thread": thread,
        "runs": with_transcripts(runs),
        "loose": _without_run(thread, runs),
        "has_more": len(runs) == SHOWN_RUNS,
        "teammates": teammates.order_by("id")[:200],
        "chosen": thread.teammate_id or request.access.organization.default_teammate_id,
        "is_live": any(not run.is_finished for run in runs),
    })  # fmt: skip


@require_POST
def thread_send(request: PageRequest, thread_id: int) -> HttpResponse:
    """Say something; while a run is busy the new one waits its turn."""
    thread = _thread(request, thread_id)
    run = creation.run_in_thread(
        request.access, thread, message=request.POST.get("message", ""),
        teammate=_chosen(request), options=_options(request), channel=Channel.APP,
    )  # fmt: skip
    if not request.headers.get("HX-Request"):
        return redirect(thread)
    run = Run.objects.with_names().get(pk=run.pk)
    (shown,) = with_transcripts([run])
    return render(request, "runs/_run.html", {"run": shown})


@require_POST
def thread_rename(request: PageRequest, thread_id: int) -> HttpResponse:
    thread = _thread(request, thread_id)
    conversations.rename_thread(request.access, thread, title=request.POST.get("title"))
    return redirect(thread)


@require_POST
def thread_delete(request: PageRequest, thread_id: int) -> HttpResponse:
    conversations.delete_thread(request.access, _thread(request, thread_id))
    return redirect("runs:thread_list")


def with_transcripts(runs: list[Run]) -> list[Run]:
    """Each run with `transcript`, its blocks up to the run's `last_seq`.

    Three queries for all of them: what happened, what finished model calls said (from their
    steps: the log has it in pieces), and the pieces of the calls that are still speaking.
    """
    by_id = {run.pk: Transcript(run.pk) for run in runs}
    ends = {run.pk: run.last_seq for run in runs}
    steps = list(
        Step.objects.filter(run_id__in=by_id, kind=StepKind.MODEL)
        .exclude(status=StepStatus.STOPPED, response=None)
        .defer("request")
    )
    speaking = {step.run_id: step.first_seq for step in steps if step.status == StepStatus.RUNNING}
    for event in events.read_milestones(ends, speaking):
        by_id[event.run_id].add(event)
    for step in steps:
        if step.response is not None and step.last_seq and step.last_seq <= ends[step.run_id]:
            by_id[step.run_id].complete(step.number, Turn.from_json(step.response))
    for run in runs:
        by_id[run.pk].last_seq = run.last_seq
        run.transcript = by_id[run.pk]  # type: ignore[attr-defined]
    return runs


def _without_run(thread: Thread, runs: list[Run]) -> list[Any]:
    """Messages that programs posted and that no run has taken up yet."""
    return list(thread.messages.filter(runs=None, role="user").order_by("id")[:20])


def _thread(request: PageRequest, thread_id: int) -> Thread:
    try:
        return conversations.get_thread(request.access, pk=thread_id)
    except Forbidden:
        raise NotFound("There is no such thread.", code="threads.not_found") from None


def _options(request: PageRequest) -> creation.Options:
    """What the composer overrides; an empty mode is the teammate's own."""
    return creation.Options(permission_mode=request.POST.get("permission_mode") or None)


def _chosen(request: PageRequest) -> Teammate | None:
    chosen = request.POST.get("teammate", "")
    return roster.get_teammate(request.access, int(chosen)) if chosen.isdecimal() else None
