"""Threads: the list, a conversation, and saying something in it."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from runs import creation, events
from runs.models import Channel, Run
from runs.transcript import Transcript
from teammates import roster
from teammates.errors import DomainError, Forbidden, NotFound
from teammates.models import Teammate
from teammates.pages import PageRequest
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
            teammate = _chosen(request)
            thread = conversations.create_thread(access, teammate=teammate)
            creation.run_in_thread(
                access, thread, message=request.POST.get("message", ""), teammate=teammate,
                channel=Channel.APP,
            )  # fmt: skip
        except DomainError as refusal:
            conversations.delete_thread(access, thread)
            error = refusal.message
        else:
            return redirect(thread)
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
        teammate=_chosen(request), channel=Channel.APP,
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
    """Each run with `transcript`, its blocks up to `last_seq`; one query for all of them."""
    by_run: dict[int, list[events.LoggedEvent]] = {run.pk: [] for run in runs}
    for event in events.read_new(dict.fromkeys(by_run, 0), limit=5000):
        by_run[event.run_id].append(event)
    for run in runs:
        transcript = Transcript(run.pk)
        transcript.add(by_run[run.pk])
        run.transcript = transcript  # type: ignore[attr-defined]
    return runs


def _without_run(thread: Thread, runs: list[Run]) -> list[Any]:
    """Messages that programs posted and that no run has taken up yet."""
    return list(thread.messages.filter(runs=None, role="user").order_by("id")[:20])


def _thread(request: PageRequest, thread_id: int) -> Thread:
    try:
        return conversations.get_thread(request.access, pk=thread_id)
    except Forbidden:
        raise NotFound("There is no such thread.", code="threads.not_found") from None


def _chosen(request: PageRequest) -> Teammate | None:
    chosen = request.POST.get("teammate", "")
    return roster.get_teammate(request.access, int(chosen)) if chosen.isdecimal() else None
