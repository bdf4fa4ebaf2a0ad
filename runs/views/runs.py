"""Runs: the list, one run, its stream, its stop, and its gates."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from runs import cards, events, gates, lifecycle, reading
from runs.consumers import StreamPlan, hand_over
from runs.fragments import PageFrames
from runs.models import Run, RunStatus, StepKind
from runs.views.threads import with_transcripts
from teammates.errors import Forbidden, NotFound
from teammates.models import PermissionMode
from teammates.pages import PageRequest, access_of_session

PAGE_SIZE = 40
EVENTS_SHOWN = 500


def run_list(request: PageRequest) -> HttpResponse:
    """Newest first, by status if asked."""
    status = request.GET.get("status", "")
    runs = Run.objects.visible_to(request.access).with_names()
    states = {"active": [RunStatus.QUEUED, RunStatus.RUNNING], "waiting": [RunStatus.WAITING,
              RunStatus.PAUSED], "completed": [RunStatus.COMPLETED], "failed": [RunStatus.FAILED],
              "cancelled": [RunStatus.CANCELLED, RunStatus.CLOSED]}  # fmt: skip
    if status in states:
        runs = runs.filter(status__in=states[status])
    after = request.GET.get("after", "")
    if after.isdecimal() and (
        last := Run.objects.visible_to(request.access).filter(pk=after).first()
    ):
        runs = runs.older_than(last)
    rows = list(runs.newest_first()[: PAGE_SIZE + 1])
    return render(request, "runs/run_list.html", {
        "runs": rows[:PAGE_SIZE],
        "last": rows[PAGE_SIZE - 1] if len(rows) > PAGE_SIZE else None,
        "is_first": not after,
        "status": status if status in states else "",
        "filters": [("", "All"), ("active", "Running"), ("waiting", "Needs you"),
                    ("completed", "Completed"), ("failed", "Failed"), ("cancelled", "Cancelled")],
    })  # fmt: skip


def run_detail(request: PageRequest, run_id: int) -> HttpResponse:
    """A run with one of its tabs; htmx asks for the tab alone."""
    run = find_run(request, run_id)
    tab = request.GET.get("tab", "timeline")
    if tab not in PARTS:
        tab = "timeline"
    context: dict[str, Any] = {
        "run": run, "tab": tab, "tabs": list(PARTS), "is_live": not run.is_finished,
        "modes": PermissionMode.choices,
    }  # fmt: skip
    context |= PARTS[tab](request, run)
    if request.headers.get("HX-Request"):
        return render(request, f"runs/_{tab}.html", context | {"is_fragment": True})
    return render(request, "runs/run_detail.html", context)


def _timeline(request: PageRequest, run: Run) -> dict[str, Any]:
    """Steps with their calls, as bars on one axis (in thousandths of the run's length)."""
    from django.utils import timezone

    steps = list(run.steps.prefetch_related("tool_calls").order_by("number"))
    begins = run.started_at or run.created_at
    ends = run.finished_at or timezone.now()
    length = max((ends - begins).total_seconds(), 0.001)

    def bar(started: Any, finished: Any) -> dict[str, Any]:
        left = max((started - begins).total_seconds() / length * 1000, 0) if started else 0
        until = finished or ends
        width = (until - started).total_seconds() / length * 1000 if started else 0
        ms = int((until - started).total_seconds() * 1000) if started else None
        return {"x": round(left, 1), "width": round(max(width, 3), 1), "ms": ms}

    rows: list[dict[str, Any]] = []
    for step in steps:
        rows.append({"step": step, **bar(step.started_at, step.finished_at)})
        if step.kind == StepKind.TOOLS:
            rows.extend(
                {"call": call, **bar(call.started_at, call.finished_at)}
                for call in step.tool_calls.all()
            )
    return {"rows": rows}


def _messages(request: PageRequest, run: Run) -> dict[str, Any]:
    with_transcripts([run])
    return {}


def _approvals(request: PageRequest, run: Run) -> dict[str, Any]:
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


def _context(request: PageRequest, run: Run) -> dict[str, Any]:
    """What was put into the run besides the conversation; prompts are for admins."""
    step = run.steps.filter(kind=StepKind.MODEL).order_by("-number").first()
    sent = (step.request or {}) if step else {}
    return {
        "told": run.told or {},
        "tools": sent.get("tools", []),
        "instructions": sent.get("instructions", "") if request.access.is_admin else "",
    }


def _events(request: PageRequest, run: Run) -> dict[str, Any]:
    after = request.GET.get("after_seq", "0")
    rows = events.read(run.pk, after=int(after) if after.isdecimal() else 0, limit=EVENTS_SHOWN)
    return {"events": rows, "next_seq": rows[-1].seq if len(rows) == EVENTS_SHOWN else None}


def _files(request: PageRequest, run: Run) -> dict[str, Any]:
    return {"files": reading.files_of(run)}


PARTS = {
    "timeline": _timeline, "messages": _messages, "approvals": _approvals, "context": _context,
    "events": _events, "files": _files,
}  # fmt: skip


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
        PageFrames(run.teammate.name),
        after=int(after) if after.isdecimal() else 0,
        still_allowed=may_read,
    )
    return hand_over(request, plan, {})


@require_POST
def run_mode(request: PageRequest, run_id: int) -> HttpResponse:
    """Change how a run asks; to autonomous, what waits for an approval is allowed."""
    run = find_run(request, run_id)
    gates.switch_mode(request.access, run, request.POST.get("permission_mode", ""))
    messages.success(request, f"The run's mode: {run.get_permission_mode_display().lower()}.")
    return redirect(run)


@require_POST
def run_cancel(request: PageRequest, run_id: int) -> HttpResponse:
    request.access.require("data.runs.write")
    run = find_run(request, run_id)
    lifecycle.cancel_run(run, by=request.access.user)
    if request.headers.get("HX-Request"):
        return HttpResponse('<span class="chip">Stopping…</span>')
    return redirect(request.headers.get("Referer") or run.get_absolute_url())


def find_run(request: PageRequest, run_id: int) -> Run:
    try:
        return reading.get_run(request.access, pk=run_id)
    except Forbidden:
        raise NotFound("There is no such run.", code="runs.not_found") from None
