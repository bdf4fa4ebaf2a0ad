"""Threads: the list, a conversation, and saying something in it."""

import hashlib
import secrets
from collections.abc import Callable
from pathlib import PurePath

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from config.compiled import Hole, compiled
from runs.creation import conversation, idempotency, options
from runs.creation.attachments import Attachment
from runs.execution import compaction
from runs.lifecycle import flags
from runs.models import Channel, Run, RunStatus
from runs.models.run_query import RunQuerySet
from runs.queries import explain, lookup, thread_lists
from runs.queries.search import threads_saying
from runs.streams.transcript import with_transcripts
from teammates.access import Access
from teammates.errors import DomainError, Forbidden, NotFound
from teammates.llm.catalog import ready_models
from teammates.models import EndUser, Model, Teammate
from teammates.providers import demo
from teammates.roster.lookup import get_teammate, teammates_to_ask
from teammates.types import Context
from teammates.web.pages import PageRequest, number_of, numbers_of
from threads import conversations, files
from threads.models import Message, Thread

SHOWN_RUNS = 50
MOST_LOOSE = 200
LONGEST_SEARCH = 200  # characters


@require_GET
def thread_list(request: PageRequest) -> HttpResponse:
    """Own threads in groups of their age, or those that say what is sought."""
    if request.headers.get("HX-Request"):
        current = number_of(request.GET.get("at", ""))
        context = {"list": _beside(request), "current": current}
        return render(request, "threads/_list.html", context)
    return render(request, "threads/thread_list.html", _list(request))


def _list(request: PageRequest) -> Context:
    """A page of threads, or what is found."""
    access = request.access
    if found := _found(request, limit=thread_lists.PAGE_SIZE):
        return found
    number = number_of(request.GET.get("after", ""))
    last = Thread.objects.visible_to(access).filter(pk=number).first() if number else None
    shown, has_more = thread_lists.page(access, after=last)
    return {
        "starred": thread_lists.starred(access) if last is None else [],
        "groups": _by_age(shown),
        "newest": "?" if last else None,
        "older": f"?after={shown[-1].pk}" if has_more else None,
    }


def _beside(request: PageRequest) -> Context:
    """The list beside a conversation, which has no pages."""
    access = request.access
    return _found(request, limit=thread_lists.MOST_BESIDE) or {
        "starred": thread_lists.starred(access),
        "groups": _by_age(thread_lists.newest(access)),
    }


def _found(request: PageRequest, *, limit: int) -> Context:
    """The person's own threads that say what is sought; empty where nothing is."""
    access = request.access
    sought = request.GET.get("q", "").strip()[:LONGEST_SEARCH]
    if not sought:
        return {}
    return {"sought": sought, "found": threads_saying(access.own(), sought, limit=limit)}


def _by_age(threads: list[Thread]) -> list[tuple[str, list[Thread]]]:
    """Today, yesterday, the last seven days, then month by month, in the organization's time."""
    today = timezone.localdate()
    groups: dict[str, list[Thread]] = {}
    for thread in threads:
        if thread.starred_at is not None:  # stands above
            continue
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
        | {
            "chosen": chosen,
            "teammate": next((one for one in context["teammates"] if one.pk == chosen), None),
            "examples": demo.EXAMPLES if _answers_as_demo(context["models"]) else (),
            "error": error,
            "message": request.POST.get("message", "") or request.GET.get("message", ""),
        },
        status=422 if error else 200,
    )


def _answers_as_demo(models: list[Model]) -> bool:
    """Whether the demo model is the one that is used where none is named."""
    return bool(models) and models[0].provider.kind == "demo"


def composer_of(access: Access, end_user: EndUser | None = None) -> Context:
    """Whom a message can go to, in a thread of that end user, and what they can think with."""
    return {
        "teammates": teammates_to_ask(access, end_user),
        "chosen": access.organization.default_teammate_id,
        "models": ready_models(access.organization),
        "once": secrets.token_hex(8),
    }


def _newest(runs: RunQuerySet) -> RunQuerySet:
    shown = runs.for_list().select_related("answer", "route")
    return shown.order_by("-position")[:SHOWN_RUNS]


@compiled
def _newest_runs(thread_id: Hole) -> RunQuerySet:
    return _newest(Run.objects.filter(thread=thread_id))


@require_GET
def thread_detail(request: PageRequest, thread_id: int) -> HttpResponse:
    thread = _thread(request, thread_id)
    runs = _newest_runs.all(thread_id=thread.pk)[::-1]
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
            "side": _beside(request),
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
    if (number := number_of(run)) is None:
        return ""
    asked = Message.objects.filter(runs=number, thread=thread)
    return asked.values_list("content", flat=True).first() or ""


@require_GET
def thread_news(request: PageRequest, thread_id: int) -> HttpResponse:
    """Runs behind `after` without the `known` ones: what was said elsewhere."""
    thread = _thread(request, thread_id)
    after = number_of(request.GET.get("after", "")) or 0
    known = numbers_of(request.GET.get("known", "").split(",")[:MOST_LOOSE])
    newest = _newest(Run.objects.filter(thread=thread, pk__gt=after).exclude(pk__in=known))
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
        "under_way": explain.under_way(thread),
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


def _without_run(thread: Thread, runs: list[Run]) -> tuple[list[Message], list[Message]]:
    """Messages of no run: those from before the first shown run (of a fork), and those that
    programs posted since and that no run has taken up yet."""
    first = next((run.prompt_id for run in runs if run.prompt_id), None)
    said = _loose.all(thread_id=thread.pk)[::-1]
    if first is None:
        return said, []
    return [m for m in said if m.pk < first], [m for m in said if m.pk > first]


@compiled
def _loose(thread_id: Hole) -> "QuerySet[Message]":
    messages = Message.objects.filter(thread=thread_id, runs=None, answered_by=None)
    return messages.order_by("-id")[:MOST_LOOSE]


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
