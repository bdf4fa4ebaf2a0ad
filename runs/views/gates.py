"""Deciding: from a card, from the page *Needs you*, from a link in an e-mail."""

from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from runs.gates import answers, cards, decisions
from runs.gates.decisions import Decision
from runs.models import ASKING, DecidedVia, Gate, GateKind, GateStatus, GateVisit, Run, RunStatus
from runs.notifications import decision_links
from runs.views.runs import find_run
from teammates.access import Access, access_of_member
from teammates.errors import Conflict, DomainError, Invalid, NotFound
from teammates.models import Teammate
from teammates.templatetags.muster import tool_title
from teammates.templatetags.parts import Tab
from teammates.text import read_json
from teammates.tools.ask import APPROVE, PLAN_HEADER, REVISE
from teammates.tools.masking import MASK
from teammates.web.pages import PageRequest, number_of, numbers_of, page_of, public

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
        return render(request, "runs/_gate_list.html", context)
    return render(request, "runs/needs_you.html", context)


def _besides(access: Access) -> dict[str, Any]:
    """Own runs that wait for somebody without a gate: their answer asks back, or they pause."""
    own = Run.objects.visible_to(access).filter(created_by=access.user).with_names()
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
    """The filters in force, each with the query that takes it away."""
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
                mate = mine.filter(pk=number_of(wanted) or 0).first()
                said = mate.name if mate else "Another teammate"
            shown.append((said, query.urlencode()))
    return shown


def _with_visitors(rows: list[Gate], access: Access) -> list[dict[str, Any]]:
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


def _pane(access: Access, gate: Gate | None, *, is_whole: bool = False) -> dict[str, Any]:
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
    return render(request, "runs/_looking.html", _pane(request.access, gate) | {"chosen": gate})


@require_POST
def gate_snooze(request: PageRequest, gate_id: int) -> HttpResponse:
    """Put a gate aside for a while, or take it back at once."""
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


# --- the card -----------------------------------------------------------------------------------


@require_POST
def gate_decide(request: PageRequest, run_id: int) -> HttpResponse:
    """Decide the gate of a card, wherever the card is shown."""
    request.access.require("data.runs.write")
    run = find_run(request, run_id)
    is_fragment = bool(request.headers.get("HX-Request"))
    try:
        gate = _decide(request.access, run, request, DecidedVia.PAGE)
    except DomainError as error:
        if not is_fragment:
            raise
        is_too_late = isinstance(error, decisions.AlreadyDecided)
        context = {"message": error.message, "is_too_late": is_too_late}
        return render(request, "runs/_refused.html", context)
    said = _thanks(gate, wanted_more=bool(request.POST.get("remember")))
    if not is_fragment:
        messages.success(request, said)
        return redirect(request.headers.get("Referer") or run.get_absolute_url())
    response = render(request, "runs/_sent.html", {"message": said})
    response["HX-Trigger"] = "muster:decided"
    return response


def _decide(access: Access, run: Run, request: HttpRequest, via: DecidedVia) -> Gate:
    """What the card's form says, as a decision."""
    given = request.POST
    gate = decisions.get_gate(run, given.get("request_id", ""))
    digest = given.get("digest") or None
    if given.get("plan") and gate.kind == GateKind.PLAN:
        return answers.answer_questions(
            access,
            run,
            {PLAN_HEADER: _plan_answer(given)},
            request_id=str(gate.uid),
            digest=digest,
            via=via,
        )
    if gate.kind in ASKING:
        return answers.answer_questions(
            access, run, _answers(given, gate), request_id=str(gate.uid), digest=digest, via=via
        )
    word, reason = given.get("decision", ""), given.get("reason", "").strip()
    if len(reason.encode()) > answers.LONGEST_ANSWER:
        raise Invalid(f"The note must have at most {answers.LONGEST_ANSWER} bytes.")
    answer: dict[str, Any] = {"reason": reason} if reason else {}
    if word == "deny" and gate.card.get("risk") == "high" and not reason:
        raise Invalid("Say why, so that the teammate can do better: this is of high risk.")
    # Whatever button is pressed, what is approved is what the fields say.
    edits = _edits(given, gate) if word == "approve" and gate.kind == GateKind.APPROVAL else None
    if word in ("retry", "stop") and gate.kind == GateKind.UNKNOWN:
        answer[word] = True
    elif word not in ("approve", "deny"):
        raise Invalid("Choose one of the answers.")
    allowed = word in ("approve", "retry")
    status = GateStatus.ALLOWED if allowed else GateStatus.DENIED
    remember: bool | dict[str, str] = bool(given.get("remember"))
    if remember and (name := given.get("only", "")):
        remember = {name: _only_with(edits or gate.request, name)}
    decision = Decision(
        status,
        answer,
        arguments=edits,
        remember=remember,
        digest=digest,
        saw_hidden=bool(given.get("saw_hidden")) and via == DecidedVia.PAGE,
    )
    return decisions.decide(access, gate, decision, via=via)


def _plan_answer(given: Any) -> str:
    """A plan is approved, or sent back with what should change."""
    remark = given.get("reason", "").strip()
    if given["plan"] == "approve":
        return f"{APPROVE}: {remark}" if remark else APPROVE
    if not remark:
        raise Invalid("Say what should change.")
    return f"{REVISE}: {remark}"


def _only_with(arguments: dict[str, Any], name: str) -> str:
    """An argument's text as a pattern for exactly itself."""
    text = arguments.get(name)
    if not isinstance(text, str) or "*" in text or MASK in text:
        raise Invalid(f"{name} cannot be what a permission depends on; choose another argument.")
    return text


def _edits(given: Any, gate: Gate) -> dict[str, Any] | None:
    """The call's arguments as the card's inputs have them, None if nothing was changed. Texts are
    as they are, the rest is JSON. A call that a program makes itself cannot be edited."""
    if gate.tool_call_id is None:
        return None
    edited = dict(gate.request)
    for name, before in gate.request.items():
        if (text := given.get(f"edit-{name}")) is None:
            continue
        text = _lines(text)
        if isinstance(before, str):
            edited[name] = before if text == _lines(before) else text
            continue
        try:
            value = read_json(text)
        except ValueError:
            raise Invalid(f"{name}: this is not valid JSON.") from None
        edited[name] = before if value == before else value
    return edited if edited != gate.request else None


def _lines(text: str) -> str:
    """Text as forms send it back: with one kind of line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _answers(given: Any, gate: Gate) -> dict[str, str]:
    """Each question's chosen options, or what was written instead or besides."""
    answers = {}
    for number, asked in enumerate(gate.request.get("questions", [])):
        written = given.get(f"other-{number}", "").strip()
        chosen = given.getlist(f"answer-{number}")
        if asked.get("multiSelect"):
            answers[asked["question"]] = ", ".join([*chosen, *([written] if written else [])])
        else:
            answers[asked["question"]] = written or ", ".join(chosen)
    if not any(answers.values()):
        raise Invalid("Choose an answer or write one.")
    return answers


def _thanks(gate: Gate, *, wanted_more: bool = False) -> str:
    if gate.is_pending:
        return "Your yes is recorded. Somebody else must agree too."
    said = {GateStatus.ALLOWED: "Approved.", GateStatus.DENIED: "Denied."}
    text = "Answered." if gate.asks_in_words else said.get(GateStatus(gate.status), "Decided.")
    if gate.remembered_id:
        text += " It will not ask for this again; Settings, Permissions takes that back."
    elif wanted_more:
        text += " Once: only owners and admins allow things for good."
    return text if gate.tool_call_id is None else f"{text} The run goes on."


# --- the link in an e-mail ----------------------------------------------------------------------


@public
@require_http_methods(["GET", "POST"])
def gate_link(request: HttpRequest, token: str) -> HttpResponse:
    """Decide without signing in. GET only shows: mail scanners open links. POST decides, once."""
    try:
        notice = decision_links.find_link(token)
    except NotFound as error:
        return render(request, "runs/gate_link.html", {"gone": error.message}, status=404)
    gate = notice.gate
    assert notice.user is not None, "who decides is a member"
    access = access_of_member(notice.user, str(notice.run.organization.uid))
    may_decide = (
        access is not None
        and access.may("data.runs.write")
        and (Run.objects.visible_to(access).filter(pk=notice.run_id).exists())
    )
    if gate is None or access is None or not may_decide:
        return render(
            request, "runs/gate_link.html", {"gone": "This link is no longer yours."}, status=404
        )
    context: dict[str, Any] = {
        "notice": notice,
        "gate": gate,
        "shown": cards.shown_gate(gate, f"gate-{gate.pk}"),
        "action": request.path,
        "is_public_link": True,
    }
    if request.method == "POST":
        try:
            with transaction.atomic():
                decision_links.use_link(notice)
                decided = _decide(access, gate.run, request, DecidedVia.MAIL)
        except DomainError as error:
            return render(
                request,
                "runs/gate_link.html",
                context | {"error": error.message},
                status=409 if isinstance(error, Conflict) else 422,
            )
        return render(
            request,
            "runs/gate_link.html",
            {
                "done": _thanks(decided),
                "gate": decided,
                "notice": notice,
            },
        )
    return render(request, "runs/gate_link.html", context)
