"""Deciding: from a card, from the page *Needs you*, from a link in an e-mail."""

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from runs.gates import answers, cards, decisions
from runs.gates.decisions import Decision
from runs.models import ASKING, DecidedVia, Gate, GateKind, GateStatus, Run
from runs.notifications import decision_links
from runs.views.runs import find_run
from teammates.access import Access, access_of_member
from teammates.errors import Conflict, DomainError, Invalid, NotFound
from teammates.text import read_json
from teammates.tools.ask import APPROVE, PLAN_HEADER, REVISE
from teammates.tools.masking import MASK
from teammates.types import Context
from teammates.web.pages import PageRequest, public

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
        return render(request, "gates/_refused.html", context)
    said = _thanks(gate, wanted_more=bool(request.POST.get("remember")))
    if not is_fragment:
        messages.success(request, said)
        return redirect(request.headers.get("Referer") or run.get_absolute_url())
    response = render(request, "gates/_decided.html", {"message": said})
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
    answer: Context = {"reason": reason} if reason else {}
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


def _only_with(arguments: Context, name: str) -> str:
    """An argument's text as a pattern for exactly itself."""
    text = arguments.get(name)
    if not isinstance(text, str) or "*" in text or MASK in text:
        raise Invalid(f"{name} cannot be what a permission depends on; choose another argument.")
    return text


def _edits(given: Any, gate: Gate) -> Context | None:
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
    return f"{text} The run goes on." if gate.is_waited_at else text


# --- the link in an e-mail ----------------------------------------------------------------------


@public
@require_http_methods(["GET", "POST"])
def gate_link(request: HttpRequest, token: str) -> HttpResponse:
    """Decide without signing in. GET only shows: mail scanners open links. POST decides, once."""
    try:
        notice = decision_links.find_link(token)
    except NotFound as error:
        return render(request, "gates/decision_link.html", {"gone": error.message}, status=404)
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
            request,
            "gates/decision_link.html",
            {"gone": "This link is no longer yours."},
            status=404,
        )
    context: Context = {
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
                "gates/decision_link.html",
                context | {"error": error.message},
                status=409 if isinstance(error, Conflict) else 422,
            )
        return render(
            request,
            "gates/decision_link.html",
            {
                "done": _thanks(decided),
                "gate": decided,
                "notice": notice,
            },
        )
    return render(request, "gates/decision_link.html", context)
