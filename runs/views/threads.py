"""Threads: the list, a conversation, and saying something in it."""

import hashlib
import secrets
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from django.contrib import messages
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from runs.creation import conversation, idempotency, options
from runs.creation.attachments import Attachment
from runs.events import log
from runs.execution import compaction
from runs.lifecycle import flags
from runs.models import Channel, Run, RunFile, RunStatus, Step, StepKind, StepStatus
from runs.queries import explain, lookup, thread_lists
from runs.queries.search import threads_saying
from runs.streams.transcript import Transcript
from teammates.access import Access
from teammates.errors import DomainError, Forbidden, NotFound
from teammates.models import EndUser, Model, Teammate
from teammates.providers import demo
from teammates.providers.base import Turn
from teammates.roster.lookup import get_teammate
from teammates.types import Context
from teammates.web.pages import PageRequest, number_of, numbers_of
from threads import conversations, files
from threads.models import Message, Thread

SHOWN_RUNS = 50
PAGE_SIZE = 60
SIDE_LIST = 30
MOST_TEAMMATES = 200
MOST_LOOSE = 200
LONGEST_SEARCH = 200  # characters


@require_GET
def thread_list(request: PageRequest) -> HttpResponse:
    """Own threads in groups of their age, or those that say what is sought."""
    if request.headers.get("HX-Request"):
        current = number_of(request.GET.get("at", ""))
        context = {"list": _list(request, limit=SIDE_LIST), "current": current}
        return render(request, "threads/_list.html", context)
    return render(request, "threads/thread_list.html", _list(request))


def _list(request: PageRequest, *, limit: int = PAGE_SIZE) -> Context:
    access = request.access
    sought = request.GET.get("q", "").strip()[:LONGEST_SEARCH]
    if sought:
        own = Thread.objects.visible_to(access).listed().filter(created_by=access.user)
        return {"sought": sought, "found": threads_saying(own, sought, limit=limit)}
    number = number_of(request.GET.get("after", ""))
    last = Thread.objects.visible_to(access).filter(pk=number).first() if number else None
    rows = thread_lists.threads_of(access, after=last, limit=limit + 1)
    shown = rows[:limit]
    return {
        "starred": thread_lists.starred_threads(access) if last is None else [],
        "groups": _by_age([thread for thread in shown if thread.starred_at is None]),
        "newest": "?" if last else None,
        "older": f"?after={shown[-1].pk}" if len(rows) > limit else None,
    }


def _by_age(threads: list[Thread]) -> list[tuple[str, list[Thread]]]:
    """Today, yesterday, the last seven days, then month by month, in the organization's time."""
    today = timezone.localdate()
    groups: dict[str, list[Thread]] = {}
    for thread in threads:
        day = timezone.localtime(thread.updated_at).date()
        age = (today - day).days
        name = (
            "Today"
            if age < 1
            else "Yesterday"
            if age == 1
            else ("Last 7 days" if age < 7 else f"{day:%B %Y}")
        )
        groups.setdefault(name, []).append(thread)
    return list(groups.items())


@require_http_methods(["GET", "POST"])
def thread_new(request: PageRequest) -> HttpResponse:
    """Open a conversation with its first message."""
    access = request.access
    error = ""
    if request.method == "POST":
        try:
            run = _at_most_once(
                request,
                None,
                lambda: conversation.start_thread(
                    access,
                    message=request.POST.get("message", ""),
                    teammate=_chosen(request),
                    options=_options(request),
                    attachments=_attachments(request),
                ),
            )
        except DomainError as refusal:
            error = refusal.message
        else:
            return redirect(run.thread)
    context = composer_of(access)
    wanted = request.POST.get("teammate") or request.GET.get("teammate") or ""
    chosen = number_of(wanted) or context["chosen"]
    return render(
        request,
        "threads/thread_new.html",
        context
        | _list(request, limit=SIDE_LIST)
        | {
            "chosen": chosen,
            "teammate": next((one for one in context["teammates"] if one.pk == chosen), None),
            "examples": demo.EXAMPLES,
            "error": error,
            "message": request.POST.get("message", "") or request.GET.get("message", ""),
        },
        status=422 if error else 200,
    )


def composer_of(access: Access, end_user: EndUser | None = None) -> Context:
    """Whom a message can go to, in a thread of that end user, and what they can think with."""
    mine = Q(end_user=None) | Q(end_user=end_user) if end_user else Q(end_user=None)
    teammates = Teammate.objects.visible_to(access).current().filter(mine).with_version()
    models = Model.objects.filter(organization=access.organization).by_priority()
    return {
        "teammates": list(teammates.order_by("id")[:MOST_TEAMMATES]),
        "chosen": access.organization.default_teammate_id,
        "models": [model for model in models if model.provider.is_ready],
        "once": secrets.token_hex(8),
    }


@require_GET
def thread_detail(request: PageRequest, thread_id: int) -> HttpResponse:
    thread = _thread(request, thread_id)
    runs = list(
        Run.objects.filter(thread=thread)
        .for_list()
        .select_related("answer", "route")
        .order_by("-position")[:SHOWN_RUNS]
    )[::-1]
    before, behind = _without_run(thread, runs)
    flags.mark_thread_viewed(request.access, thread)
    context = composer_of(request.access, thread.end_user)
    known = {teammate.pk for teammate in context["teammates"]}
    return render(
        request,
        "threads/thread_detail.html",
        context
        | _panel(thread)
        | {
            "side": _list(request, limit=SIDE_LIST),
            "current": thread.pk,
            "thread": thread,
            "runs": with_transcripts(runs),
            "said_before": before,
            "loose": behind,
            "has_more": len(runs) == SHOWN_RUNS,
            "chosen": thread.teammate_id if thread.teammate_id in known else context["chosen"],
            "is_live": any(not run.is_finished for run in runs),
            "message": _said_in(thread, request.GET.get("again", "")),
        },
    )


def _said_in(thread: Thread, run: str) -> str:
    """What was asked in a run of the thread, to be edited and asked again."""
    asked = Message.objects.filter(runs=number_of(run) or 0, thread=thread)
    return asked.values_list("content", flat=True).first() or ""


@require_GET
def thread_news(request: PageRequest, thread_id: int) -> HttpResponse:
    """Runs behind `after` without the `known` ones: what was said elsewhere."""
    thread = _thread(request, thread_id)
    after = number_of(request.GET.get("after", "")) or 0
    known = numbers_of(request.GET.get("known", "").split(",")[:MOST_LOOSE])
    runs = Run.objects.filter(thread=thread, pk__gt=after).exclude(pk__in=known).for_list()
    newest = runs.select_related("answer", "route").order_by("-position")[:SHOWN_RUNS]
    return render(request, "threads/_runs.html", {"runs": with_transcripts(list(newest)[::-1])})


@require_GET
def thread_panel(request: PageRequest, thread_id: int) -> HttpResponse:
    """What stands beside a conversation; asked for again when a run of it changes."""
    thread = _thread(request, thread_id)
    if thread.created_by == request.access.user:
        flags.mark_thread_viewed(request.access, thread)
    return render(request, "threads/_panel.html", {"thread": thread} | _panel(thread))


def _panel(thread: Thread) -> Context:
    used = explain.context_use(thread)
    return {
        "files": files.current_files(thread),
        "sums": lookup.sums_of(thread),
        "context_use": used,
        "compacts_at": int(used.size * compaction.TRIGGER) if used else None,
    }


@require_POST
def thread_send(request: PageRequest, thread_id: int) -> HttpResponse:
    """Say something; while a run is busy the new one waits its turn, or the busy one is stopped."""
    thread = _thread(request, thread_id)
    run = _at_most_once(
        request,
        thread,
        lambda: conversation.run_in_thread(
            request.access,
            thread,
            message=request.POST.get("message", ""),
            teammate=_chosen(request),
            options=_options(request),
            channel=Channel.APP,
            attachments=_attachments(request),
        ),
    )
    if request.POST.get("how") == "stop" and run.status == RunStatus.QUEUED:
        conversation.stop_others(request.access, run)
    if not request.headers.get("HX-Request"):
        return redirect(thread)
    run = Run.objects.for_list().get(pk=run.pk)
    (shown,) = with_transcripts([run])
    return render(request, "transcript/_run.html", {"run": shown, "may_edit": True})


@require_POST
def thread_rename(request: PageRequest, thread_id: int) -> HttpResponse:
    thread = _thread(request, thread_id)
    conversations.rename_thread(request.access, thread, title=request.POST.get("title"))
    return redirect(thread)


@require_POST
def thread_star(request: PageRequest, thread_id: int) -> HttpResponse:
    thread = _thread(request, thread_id)
    starred = request.POST.get("starred") == "1"
    conversations.star_thread(request.access, thread, starred=starred)
    return redirect(thread)


@require_POST
def thread_delete(request: PageRequest, thread_id: int) -> HttpResponse:
    thread = _thread(request, thread_id)
    conversations.delete_thread(request.access, thread)
    messages.success(
        request, f"“{thread}” is deleted, with its runs and links. What they cost stays on record."
    )
    return redirect("runs:thread_list")


def _at_most_once(request: PageRequest, thread: Thread | None, make: Callable[[], Run]) -> Run:
    """The run of a form that was sent twice is made once. Another text is another message."""
    token = request.POST.get("once", "")
    if not token:
        return make()
    said = hashlib.sha256(request.POST.get("message", "").encode()).hexdigest()[:16]
    where = thread.pk if thread else "new"
    key = f"page:{request.user.pk}:{where}:{token[:64]}:{said}"
    return idempotency.create_idempotently(request.access, key, {"message": said}, make)[0]


def with_transcripts(runs: list[Run]) -> list[Run]:
    """Each run with `transcript`, its blocks up to the run's `last_seq`.

    Four queries for all of them: what happened, what finished model calls said (from their
    steps: the log has it in pieces), the pieces of the calls that are still speaking, and the
    files that came with the messages.
    """
    by_id = {run.pk: Transcript(run.pk) for run in runs}
    ends = {run.pk: run.last_seq for run in runs}
    steps = list(
        Step.objects.filter(run_id__in=by_id, kind=StepKind.MODEL)
        .exclude(status=StepStatus.STOPPED, response=None)
        .defer("request")
    )
    speaking = {step.run_id: step.first_seq for step in steps if step.status == StepStatus.RUNNING}
    for event in log.read_milestones(ends, speaking):
        by_id[event.run_id].add(event)
    for step in steps:
        if step.response is not None and step.last_seq and step.last_seq <= ends[step.run_id]:
            by_id[step.run_id].complete(step.number, Turn.from_json(step.response))
    attached: dict[int, list[Any]] = {}
    for row in RunFile.objects.filter(run_id__in=by_id, is_attachment=True).select_related("file"):
        attached.setdefault(row.run_id, []).append(row.file)
    for run in runs:
        run.attached = attached.get(run.pk, [])  # type: ignore[attr-defined]
        by_id[run.pk].last_seq = run.last_seq
        run.transcript = by_id[run.pk]  # type: ignore[attr-defined]
    return runs


def _without_run(thread: Thread, runs: list[Run]) -> tuple[list[Message], list[Message]]:
    """Messages of no run: those from before the first shown run (of a fork), and those that
    programs posted since and that no run has taken up yet."""
    first = next((run.prompt_id for run in runs if run.prompt_id), None)
    said = list(thread.messages.filter(runs=None, answered_by=None).order_by("-id")[:MOST_LOOSE])[
        ::-1
    ]
    if first is None:
        return said, []
    return [m for m in said if m.pk < first], [m for m in said if m.pk > first]


def _thread(request: PageRequest, thread_id: int) -> Thread:
    try:
        return conversations.get_thread(request.access, pk=thread_id)
    except Forbidden:
        raise NotFound("There is no such thread.", code="threads.not_found") from None


def _options(request: PageRequest) -> options.Options:
    """What the composer overrides; what is empty is as the teammate has it."""
    given = request.POST
    return options.Options(
        permission_mode=given.get("permission_mode") or None, model=given.get("model") or None
    )


def _attachments(request: PageRequest) -> list[Attachment]:
    """The files of the form; the browser's own folders are none of ours."""
    return [
        Attachment(PurePath(given.name or "file").name, given.read())
        for given in request.FILES.getlist("files")
        if given.name or given.size
    ]


def _chosen(request: PageRequest) -> Teammate | None:
    chosen = number_of(request.POST.get("teammate", ""))
    return None if chosen is None else get_teammate(request.access, chosen)
