"""The page *Needs you*: what waits for a person, and the request that is looked at."""

from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import F, Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from runs.gates import cards, decisions
from runs.models import Gate, GateKind, GateStatus, GateVisit, Run, RunStatus
from teammates.access import Access
from teammates.errors import Conflict, DomainError, Invalid, NotFound
from teammates.models import Teammate
from teammates.templatetags.muster import tool_title
from teammates.templatetags.parts import Tab
from teammates.types import Context
from teammates.web.pages import PageRequest, number_of, numbers_of, page_of

TABS = [("mine", "Mine"), ("team", "Team"), ("snoozed", "Snoozed"), ("done", "Done")]
PAGE_SIZE = 50
MOST_BESIDES = 10
LOOKING_SECONDS = 60
SNOOZES = {"1h": timedelta(hours=1), "4h": timedelta(hours=4), "1d": timedelta(days=1)}


# --- the page -----------------------------------------------------------------------------------


@require_GET
def needs_you(request: PageRequest) -> HttpResponse:
    """What waits for a person: a list, and beside it the one that is looked at."""
    access = request.access
    tab = request.GET.get("tab", "")
    if tab not in dict(TABS):
        tab = "mine"
    listed = _listed(access, tab, request.GET)
    page = None
    if tab == "done":
        page = page_of(request, listed, "-decided_at", "-pk", size=PAGE_SIZE)
    rows = page.rows if page else list(listed[:PAGE_SIZE])
    chosen = _chosen(access, request.GET.get("gate", ""), rows)
    context = {
        "may_remember": access.may("data.permissions.manage"),
        "tab": tab,
        "tabs": [
            Tab(
                label,
                f"?tab={name}",
                name == tab,
                len(rows) if name == tab and name != "done" else None,
            )
            for name, label in TABS
            if access.is_admin or name != "team"
        ],
        **(_besides(access) if tab == "mine" else {}),
        "rows": _with_visitors(rows, access),
        "chosen": chosen,
        "page": page,
        "filters": _filters(request),
        "last_decided": _of(access).filter(decided_by=access.user).order_by("-decided_at").first()
        if not rows
        else None,
    } | _pane(access, chosen, is_whole=bool(request.GET.get("whole")))
    if request.headers.get("HX-Request") and request.headers.get("HX-Target") == "gate-list":
        return render(request, "needs_you/needs_you.html#gate-list", context)
    return render(request, "needs_you/needs_you.html", context)


def _besides(access: Access) -> Context:
    """Own runs that wait for somebody without a gate: their answer asks back, or they pause."""
    own = Run.objects.visible_to(access).filter(created_by=access.user).for_list()
    asking = own.awaiting_reply().filter(asks_back=True).select_related("answer")
    return {
        "asking_back": asking.newest_first()[:MOST_BESIDES],
        "paused": own.filter(status=RunStatus.PAUSED).newest_first()[:MOST_BESIDES],
    }


def _of(access: Access) -> "QuerySet[Gate]":
    """The gates of the runs that the asker sees, with what a row shows."""
    return Gate.objects.filter(run__in=Run.objects.visible_to(access)).select_related(
        "run__teammate",
        "run__created_by",
        "run__end_user",
        "run__thread",
        "run__task",
        "run__prompt",
        "decided_by",
        "tool_call",
    )


def _listed(access: Access, tab: str, query: Any) -> "QuerySet[Gate]":
    rows = _of(access)
    snoozed = GateVisit.objects.filter(user=access.user, snoozed_until__gt=timezone.now())
    is_awake = ~Q(pk__in=snoozed.values("gate"))
    if tab == "done":
        rows = rows.filter(decided_at__isnull=False).exclude(status=GateStatus.CANCELLED)
    else:
        rows = rows.filter(status=GateStatus.PENDING)
        rows = rows.exclude(is_awake) if tab == "snoozed" else rows.filter(is_awake)
        if tab == "mine" and access.is_admin:
            rows = rows.filter(Q(run__created_by=access.user) | Q(run__created_by=None))
        elif tab == "team":
            rows = rows.exclude(run__created_by=access.user).exclude(run__created_by=None)
        # What expires comes first, then what waits longest.
        rows = rows.order_by(F("expires_at").asc(nulls_last=True), "created_at")
    if teammate := query.get("teammate", ""):
        rows = rows.filter(run__teammate_id=number_of(teammate) or 0)
    if tool := query.get("tool", ""):
        rows = rows.filter(tool_name=tool)
    return rows


def _filters(request: PageRequest) -> list[tuple[str, str]]:
    """The active filters, each with the query that removes it."""
    shown = []
    for name in ("teammate", "tool"):
        if request.GET.get(name):
            query = request.GET.copy()
            del query[name]
            wanted = request.GET[name]
            if name == "tool":
                said = tool_title(wanted)
            else:
                mine = Teammate.objects.visible_to(request.access)
                teammate = mine.filter(pk=number_of(wanted) or 0).first()
                said = teammate.name if teammate else "Another teammate"
            shown.append((said, query.urlencode()))
    return shown


def _with_visitors(rows: list[Gate], access: Access) -> list[Context]:
    since = timezone.now() - timedelta(seconds=LOOKING_SECONDS)
    visits = GateVisit.objects.filter(gate__in=rows, seen_at__gt=since).select_related("user")
    looking: dict[int, list[str]] = {}
    for visit in visits.exclude(user=access.user):
        looking.setdefault(visit.gate_id, []).append(visit.user.display_name)
    aside = GateVisit.objects.filter(gate__in=rows, user=access.user).values_list(
        "gate_id", "snoozed_until"
    )
    until = dict(aside)
    return [
        {"gate": gate, "looking": looking.get(gate.pk, []), "snoozed_until": until.get(gate.pk)}
        for gate in rows
    ]


def _chosen(access: Access, gate_id: str, rows: list[Gate]) -> Gate | None:
    if (number := number_of(gate_id)) is not None:
        return _of(access).filter(pk=number).first()
    with suppress(ValueError):
        return _of(access).filter(uid=UUID(gate_id)).first()
    return rows[0] if rows else None


def _pane(access: Access, gate: Gate | None, *, is_whole: bool = False) -> Context:
    """The facts around a gate, and a mark that the asker looks at it; with `is_whole`, what its
    card hides."""
    if gate is None:
        return {}
    if gate.is_pending and access.user is not None:
        GateVisit.objects.update_or_create(
            gate=gate, user=access.user, defaults={"seen_at": timezone.now()}
        )
    since = timezone.now() - timedelta(seconds=LOOKING_SECONDS)
    visits = gate.visits.filter(seen_at__gt=since).exclude(user=access.user).select_related("user")
    similar = (
        _of(access)
        .filter(
            tool_name=gate.tool_name,
            kind=gate.kind,
            decided_at__isnull=False,
            decided_by__isnull=False,
        )
        .exclude(pk=gate.pk)
    )
    return {
        "shown": cards.shown_gate(
            gate,
            f"gate-{gate.pk}",
            whole=decisions.whole_request(access, gate) if is_whole and gate.is_pending else None,
        ),
        "looking": [visit.user.display_name for visit in visits],
        "is_snoozed": gate.visits.filter(
            user=access.user, snoozed_until__gt=timezone.now()
        ).exists(),
        "similar": similar.order_by("-decided_at")[:3],
        "snoozes": [("1h", "1 hour"), ("4h", "4 hours"), ("1d", "1 day")],
    }


@require_GET
def gate_presence(request: PageRequest, gate_id: int) -> HttpResponse:
    """Who else looks at a gate; asked for again while its pane is open."""
    gate = _find(request.access, gate_id)
    return render(
        request, "needs_you/needs_you.html#visitors", _pane(request.access, gate) | {"chosen": gate}
    )


@require_POST
def gate_snooze(request: PageRequest, gate_id: int) -> HttpResponse:
    """Snooze a gate, or stop snoozing it."""
    request.access.require("data.runs.write")
    gate = _find(request.access, gate_id)
    if not gate.is_pending:
        raise Conflict("This is decided already.")
    wanted = request.POST.get("for", "")
    until = timezone.now() + SNOOZES[wanted] if wanted in SNOOZES else None
    GateVisit.objects.update_or_create(
        gate=gate, user=request.access.user, defaults={"snoozed_until": until}
    )
    return redirect("runs:needs_you")


@require_POST
def gates_approve(request: PageRequest) -> HttpResponse:
    """Approve several calls of the same tool at once; nothing of high risk."""
    access = request.access
    wanted = numbers_of(request.POST.getlist("gate"))[:PAGE_SIZE]
    rows = list(_of(access).filter(pk__in=wanted, kind=GateKind.APPROVAL).order_by("pk"))
    if len({gate.tool_name for gate in rows}) > 1:
        raise Invalid("Choose approvals of one tool; different ones are decided one by one.")
    done, problems = 0, []
    for gate in rows:
        try:
            decisions.approve_among_others(
                access, gate, seen=request.POST.get(f"digest-{gate.pk}", "")
            )
        except DomainError as error:
            problems.append(f"{gate.prompt}: {error.message}")
        else:
            done += 1
    if done:
        messages.success(request, f"{done} approved." if done > 1 else "Approved.")
    for problem in problems[:5]:
        messages.error(request, problem)
    if not rows:
        messages.error(request, "Choose at least one approval.")
    return redirect("runs:needs_you")


def _find(access: Access, gate_id: int) -> Gate:
    found = _of(access).filter(pk=gate_id).first()
    if found is None:
        raise NotFound("There is no such request.")
    return found
