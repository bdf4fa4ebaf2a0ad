"""One run: its page, its stream, and what can be done with it."""

import json
from itertools import pairwise

from django.db.models import Count, Q, Sum
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from runs.creation import retries
from runs.events import log as events_log
from runs.gates import cards
from runs.lifecycle import flags
from runs.models import Run, Step, StepKind
from runs.queries import explain, lookup, timeline
from runs.queries.cost import cost_of
from runs.sharing import links
from runs.streams.frames_page import PageFrames
from runs.streams.sse import StreamPlan, hand_over
from runs.streams.transcript import with_transcripts
from teammates.errors import Forbidden, NotFound
from teammates.models import PermissionMode
from teammates.providers.base import Turn
from teammates.templatetags.parts import Tab
from teammates.types import JSON, Context
from teammates.web.pages import PageRequest, access_of_session, number_of, text_download

EVENTS_SHOWN = 500
MOST_DOWNLOADED = 20_000  # events
ATTEMPT_EVENTS = (
    "run.attempt.started",
    "run.attempt.lost",
    "run.attempt.released",
    "run.llm.retry",
    "run.llm.adjusted",
)


@require_GET
def run_detail(request: PageRequest, run_id: int) -> HttpResponse:
    """A run with one of its tabs; htmx asks for the head (`part`) or the tab alone."""
    run = find_run(request, run_id)
    tab = request.GET.get("tab", "timeline")
    if tab not in PARTS:
        tab = "timeline"
    context: Context = {"run": run, "tab": tab, "is_live": not run.is_finished}
    if request.GET.get("part") == "head":
        return render(request, "run_detail/run_detail.html#head", context | _head(request, run))
    context |= PARTS[tab](request, run)
    if request.headers.get("HX-Request"):
        return render(request, f"run_detail/_{tab}.html", context)
    if run.is_finished:
        flags.mark_viewed(request.access, run)
    return render(
        request,
        "run_detail/run_detail.html",
        context
        | _head(request, run)
        | {
            "tabs": _tabs(run, tab),
            "curl": f"curl {request.build_absolute_uri(f'/api/v2/runs/{run.pk}')} "
            "-H 'Authorization: Bearer YOUR_KEY'",
            "modes": PermissionMode.choices,
            "link": request.build_absolute_uri(path) if (path := links.path_of(run)) else "",
        },
    )


def _head(request: PageRequest, run: Run) -> Context:
    return {
        "reason": explain.reason_of(run),
        "failed_step": explain.failed_step(run),
        "so_far": explain.so_far(run),
        "repeats": [
            call.summary or call.title or call.name for call in retries.actions_of(run)[:20]
        ]
        if run.is_retryable
        else [],
    }


def _tabs(run: Run, current: str) -> list[Tab]:
    counts = lookup.counts_of(run)
    return [
        Tab(name.title(), f"{run.get_absolute_url()}?tab={name}", name == current, counts.get(name))
        for name in PARTS
    ]


@require_GET
def run_peek(request: PageRequest, run_id: int) -> HttpResponse:
    """A run in short, beside the list."""
    run = find_run(request, run_id)
    return render(
        request,
        "run_detail/_peek.html",
        {
            "run": run,
            "reason": explain.reason_of(run),
            "drawn": timeline.draw(run),
        },
    )


@require_GET
def run_cost(request: PageRequest, run_id: int) -> HttpResponse:
    """What each lane of each model took and cost; a part of the run's pages."""
    run = find_run(request, run_id)
    return render(request, "run_detail/_cost.html", {"costs": cost_of(run)})


def _timeline(request: PageRequest, run: Run) -> Context:
    return {"drawn": timeline.draw(run, hide_idle=request.GET.get("idle") != "shown")}


@require_GET
def run_step(request: PageRequest, run_id: int, number: int) -> HttpResponse:
    """What one step was given and gave; what was sent is for admins."""
    run = find_run(request, run_id)
    step = run.steps.prefetch_related("tool_calls").filter(number=number).first()
    if step is None:
        raise NotFound("The run has no such step.", code="runs.not_found")
    return render(
        request,
        "run_detail/_step.html",
        {
            "run": run,
            "step": step,
            "turn": Turn.from_json(step.response) if step.response else None,
            "shown": _shown_to_model(step),
            "sent": step.request if request.access.is_admin else None,
        },
    )


def _shown_to_model(step: Step) -> list[JSON]:
    """The files that went into a model call, as pictures, PDFs or text."""
    said = (step.request or {}).get("conversation", [])
    return [one for kept in said for what in kept.values() for one in what.get("media", [])]


def _messages(request: PageRequest, run: Run) -> Context:
    with_transcripts([run])
    return {}


def _approvals(request: PageRequest, run: Run) -> Context:
    gates = run.gates.select_related("decided_by", "tool_call", "run").order_by("id")
    return {
        "gates": [
            {
                "gate": gate,
                "shown": cards.shown_gate(gate, f"gate-{gate.pk}"),
                "waited_ms": int((gate.decided_at - gate.created_at).total_seconds() * 1000)
                if gate.decided_at
                else None,
            }
            for gate in gates
        ]
    }


def _context(request: PageRequest, run: Run) -> Context:
    """What was put into the run besides the conversation; prompts are for admins."""
    step = run.steps.filter(kind=StepKind.MODEL).order_by("-number").first()
    sent = (step.request or {}) if step else {}
    return {
        "told": run.told or {},
        "tools": sent.get("tools", []),
        "instructions": sent.get("instructions", "") if request.access.is_admin else "",
    }


def _events(request: PageRequest, run: Run) -> Context:
    start = number_of(request.GET.get("after_seq", "")) or 0
    rows = events_log.read(run.pk, after=start, limit=EVENTS_SHOWN)
    kind = request.GET.get("type", "")
    shown = [row for row in rows if not kind or row.type == kind]
    delays = [
        None,
        *(
            int((row.created_at - before.created_at).total_seconds() * 1000)
            for before, row in pairwise(shown)
        ),
    ]
    return {
        "events": list(zip(shown, delays, strict=False)),
        "types": sorted({row.type for row in rows}),
        "type": kind,
        "after_seq": start,
        "next_seq": rows[-1].seq if len(rows) == EVENTS_SHOWN else None,
    }


@require_GET
def run_events(request: PageRequest, run_id: int) -> HttpResponse:
    """The log as JSON lines."""
    run = find_run(request, run_id)
    lines: list[str] = []
    after = 0
    while len(lines) < MOST_DOWNLOADED:
        rows = events_log.read(run.pk, after=after, limit=EVENTS_SHOWN)
        lines += [
            json.dumps(
                {
                    "seq": row.seq,
                    "type": row.type,
                    "data": row.data,
                    "created_at": row.created_at.isoformat(),
                },
                ensure_ascii=False,
            )
            for row in rows
        ]
        if len(rows) < EVENTS_SHOWN:
            break
        after = rows[-1].seq
    return text_download(
        "\n".join(lines) + "\n", kind="application/x-ndjson", name=f"run-{run.pk}-events.jsonl"
    )


def _files(request: PageRequest, run: Run) -> Context:
    return {"files": lookup.files_of(run)}


def _attempts(request: PageRequest, run: Run) -> Context:
    log = run.events.filter(type__in=ATTEMPT_EVENTS).order_by("seq")
    return {"attempts": log[:200]}


def _children(request: PageRequest, run: Run) -> Context:
    """The runs that this one's teammate started, and the tries of the same."""
    family = Run.objects.visible_to(request.access).for_list()
    started = list(family.filter(started_by=run).order_by("pk")[:100])
    tries = family.filter(Q(retry_of=run) | Q(pk=run.retry_of_id or 0)).order_by("pk")
    whole = Run.objects.filter(Q(root=run) | Q(pk=run.pk)).aggregate(
        unpriced=lookup.UNPRICED, cost=Sum("cost"), runs=Count("pk")
    )
    return {"started": started, "tries": tries[:100], "whole": whole}


PARTS = {
    "timeline": _timeline,
    "messages": _messages,
    "events": _events,
    "files": _files,
    "approvals": _approvals,
    "context": _context,
    "attempts": _attempts,
    "children": _children,
}


@require_GET
def run_stream(request: PageRequest, run_id: int) -> HttpResponse:
    """The run as fragments, behind `Last-Event-ID` or `after`."""
    run = find_run(request, run_id)
    after = request.headers.get("Last-Event-ID") or request.GET.get("after", "0")
    user = request.access.user

    def may_read() -> bool:
        assert user is not None
        user.refresh_from_db()
        access = access_of_session(user, request.session) if user.is_active else None
        return access is not None and Run.objects.visible_to(access).filter(pk=run.pk).exists()

    plan = StreamPlan(
        run.pk,
        PageFrames(run.teammate.name, request.access.organization.timezone),
        after=number_of(after) or 0,
        still_allowed=may_read,
    )
    return hand_over(request, plan, {})


def find_run(request: PageRequest, run_id: int) -> Run:
    try:
        return lookup.get_run(request.access, pk=run_id)
    except Forbidden:
        raise NotFound("There is no such run.", code="runs.not_found") from None
