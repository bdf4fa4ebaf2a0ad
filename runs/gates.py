"""Gates: a pending human decision is a row; it is decided once, and the run goes on.

Every decision, whoever makes it and wherever, goes through `decide`: under the run's row it is
compared with what is asked, written, applied to the journal of calls, and told as an event.
"""

import json
import logging
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.timesince import timesince

from runs import cards, lifecycle, notices, toolbox
from runs.events import NewEvent, called, fitting_json
from runs.lifecycle import Lease
from runs.models import (
    ASKING,
    CallStatus,
    DecidedVia,
    Gate,
    GateKind,
    GateStatus,
    GateVote,
    Run,
    RunStatus,
    ToolCall,
)
from teammates import permissions
from teammates.access import Access
from teammates.errors import Conflict, DomainError, Forbidden, Invalid, NotFound, TooMany
from teammates.fields import clean, no_number
from teammates.models import PermissionMode, PolicySource, ToolSetting
from teammates.tools import ask
from teammates.tools.base import Tool
from teammates.tools.masking import MASK, masked, unmasked

logger = logging.getLogger("muster.gates")

LONGEST_ANSWER = 32 * 1024  # bytes of UTF-8
FORMS = (
    "Answer an approval with 'approve', with 'deny' or 'deny: the reason', or with JSON "
    '{"decision": "approve" | "deny", "reason": …, "arguments": …, "request_id": …, "remember": …}.'
    " Where it is not known whether something happened, 'retry' does it again."
)


class AlreadyDecided(Conflict):
    """Somebody answered this already."""

    code = "runs.not_active"


@dataclass(frozen=True)
class Decision:
    """What was decided. `remember`: keep a standing permission, True or a pattern of arguments."""

    status: GateStatus
    answer: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] | None = None  # edited
    remember: bool | dict[str, str] = False
    digest: str | None = None  # of what was seen; that of an earlier request is refused


# --- asking -------------------------------------------------------------------------------------


def open_gate(
    lease: Lease,
    pending: list[NewEvent],
    *,
    call: ToolCall,
    tool: Tool,
    arguments: dict[str, Any],
    kind: GateKind,
    mode: str | None = None,
    why: str = "",
    setting: ToolSetting | None = None,
) -> bool:
    """Stop the run at a new gate; the worker's slot is free and the run waits in the database.

    False, and nothing written, if the run's mode is no longer `mode`: then the call is judged anew.
    """
    with lifecycle.holding(lease, pending) as run:
        if mode is not None and run.permission_mode != mode:
            return False
        gate = cards.compose(run, call, tool, arguments, kind, why=why, setting=setting)
        gate.expires_at = _expiry(gate, setting)
        call.arguments, call.title = clean(arguments), tool.title[:200]
        call.summary = clean(tool.say(masked(arguments)))
        call.save(update_fields=["arguments", "title", "summary"])
        data = {
            "request_id": str(gate.uid),
            "tool_call_id": call.call_id,
            "tool_name": call.name,
            **cards.event_data(gate),
        }
        events = [NewEvent("run.waiting_for_input", data)]
        if kind in ASKING:
            data["requested_schema"] = fitting_json(_schema_of(gate.request), 12_000)
            events.insert(0, called(call))  # a question is nothing but its gate
        lifecycle.wait_locked(run, gate, events)
        if gate.pk is not None:
            notices.tell_of_gate(run, gate)
        return True


def ask_outside(access: Access, run: Run, *, tool_name: str, arguments: dict[str, Any]) -> Gate:
    """A gate for a program that asks about a call of its own and polls for the decision (contract
    v2 4.6). The run does not wait for it; in autonomous mode it is allowed at once."""
    access.require("data.runs.write")
    if Gate.objects.filter(run=run, tool_call=None, status=GateStatus.PENDING).count() >= 100:
        raise TooMany("100 requests of this run wait already; decide some first.")
    gate = Gate(
        run=run, kind=GateKind.APPROVAL, prompt=f"Use {tool_name}", tool_name=tool_name[:255],
        request=masked(clean(arguments)),
        card={"title": tool_name[:200], "mate": run.teammate.name, "risk": "medium",
              "preview": "fields", "fields": cards.fields_of(masked(clean(arguments))),
              "can_remember": False, "remember_default": False},
    )  # fmt: skip
    gate.save(force_insert=True)
    if run.permission_mode == PermissionMode.AUTONOMOUS and not run.is_finished:
        return decide(None, gate, Decision(GateStatus.ALLOWED), via=DecidedVia.MODE)
    return gate


def _expiry(gate: Gate, setting: ToolSetting | None) -> Any:
    now = timezone.now()
    if gate.kind == GateKind.QUESTION and ask.recommended(gate.request):
        at_once = (gate.request.get("metadata") or {}).get("source") == "non-blocking"
        return now if at_once else now + timedelta(seconds=settings.AUTO_CONTINUE_SECONDS)
    if gate.kind == GateKind.APPROVAL and setting and setting.expires_after:
        return now + timedelta(minutes=setting.expires_after)
    return None


def _schema_of(request: dict[str, Any]) -> dict[str, Any]:
    """The questions as a JSON schema, for clients that draw a form."""
    properties = {}
    for asked in request["questions"]:
        one: dict[str, Any] = {"type": "string", "title": asked["question"]}
        if options := [option["label"] for option in asked.get("options", [])]:
            one["examples"] = options
        properties[asked.get("header") or asked["question"]] = one
    return {"type": "object", "properties": properties}


# --- finding ------------------------------------------------------------------------------------


def pending_gate(run: Run) -> Gate | None:
    """What the run waits for."""
    return (
        Gate.objects.filter(run=run, status=GateStatus.PENDING, tool_call__isnull=False)
        .select_related("tool_call")
        .first()
    )


def get_gate(run: Run, request_id: str) -> Gate:
    """Raises `NotFound`."""
    try:
        found = Gate.objects.filter(run=run, uid=uuid.UUID(request_id)).first()
    except ValueError:
        found = None
    if found is None:
        raise NotFound("The run has no such request.", code="gate_not_found")
    return found


def not_waiting(run: Run) -> Conflict:
    return Conflict(
        f"The run is not waiting for this (it is {run.get_status_display().lower()}).",
        code="runs.not_active",
    )


# --- answering ----------------------------------------------------------------------------------


def answer_text(access: Access, run: Run, text: str, *, via: DecidedVia = DecidedVia.API) -> Gate:
    """Answer the open gate in words (contract v1: `POST /v1/runs/{id}/input`).

    Raises `Invalid` (empty, over 32 KB, not one of `FORMS`) or `Conflict` (the run does not wait).
    """
    if not text.strip():
        raise Invalid("content must not be empty.")
    if len(text.encode()) > LONGEST_ANSWER:
        raise Invalid(f"content must have at most {LONGEST_ANSWER} bytes.")
    gate = pending_gate(run)
    if gate is None or run.status != RunStatus.WAITING:
        raise not_waiting(run)
    if gate.asks_in_words:
        if gate.kind == GateKind.PLAN and text.strip().lower() in ("approve", "yes", "allow"):
            text = ask.APPROVE
        answers = {one["question"]: text for one in gate.request["questions"]}
        decision = Decision(GateStatus.ALLOWED, {"answers": answers})
    else:
        decision = _read_decision(text, gate)
    return decide(access, gate, decision, via=via)


def answer_questions(
    access: Access,
    run: Run,
    answers: dict[str, str],
    *,
    request_id: str | None = None,
    digest: str | None = None,
    via: DecidedVia = DecidedVia.API,
) -> Gate:
    """Answer a question or a plan; keys are its texts or headers (contract v2 4.8).

    Raises `Invalid`, `NotFound` (no such request), `Conflict` (decided already, or nothing is
    asked).
    """
    given = {key.strip(): value.strip() for key, value in answers.items() if value.strip()}
    if not given:
        raise Invalid("answers must not be empty.")
    if sum(len(value.encode()) for value in given.values()) > LONGEST_ANSWER:
        raise Invalid(f"answers must have at most {LONGEST_ANSWER} bytes.")
    gate = get_gate(run, request_id) if request_id else pending_gate(run)
    if gate is not None and not gate.is_pending:
        raise _decided(gate)
    if gate is None or run.status != RunStatus.WAITING:
        raise not_waiting(run)
    if not gate.asks_in_words:
        raise Conflict("The run waits for an approval, not for an answer.", code="runs.not_active")
    complete = {}
    for one in gate.request["questions"]:
        text = given.get(one["question"].strip()) or given.get(one.get("header", "").strip())
        if not text:
            raise Invalid(f"answers: {one['question'][:200]!r} is not answered.")
        complete[one["question"]] = text
    decision = Decision(GateStatus.ALLOWED, {"answers": complete}, digest=digest)
    return decide(access, gate, decision, via=via)


def approve(
    access: Access,
    run: Run,
    request_id: str,
    *,
    allow: bool,
    reason: str = "",
    remember: bool = False,
    via: DecidedVia = DecidedVia.API,
) -> tuple[Gate, bool]:
    """v2's approval: the gate, and whether the run went on because of this call.

    The same decision again is fine and may add `remember`. Refusals in the order of contract v2
    4.6: unknown, cancelled, decided otherwise, run over.
    """
    wanted = GateStatus.ALLOWED if allow else GateStatus.DENIED
    for _ in range(2):
        gate = get_gate(run, request_id)
        if gate.status == GateStatus.CANCELLED:
            raise NotFound("The request was cancelled.", code="gate_cancelled")
        if gate.asks_in_words:
            raise Invalid("decision: this is a question; send answers to /answer instead.")
        if gate.status == wanted:
            if remember and allow:
                _remember(access, gate, True)
            return gate, False
        if not gate.is_pending:
            raise NotFound(_decided(gate).message, code="gate_resolved_otherwise")
        if run.is_finished:
            raise Conflict("The run is over.", code="run_not_active")
        answer = {"reason": reason} if reason else {}
        try:
            gate = decide(access, gate, Decision(wanted, answer, remember=remember), via=via)
        except AlreadyDecided:
            run.refresh_from_db()
            continue
        return gate, not gate.is_pending and gate.tool_call_id is not None
    raise Conflict("The run is over.", code="run_not_active")


def switch_mode(access: Access, run: Run, mode: str) -> Run:
    """Change the mode of a run, live or over (contract v2 4.7); its replies inherit it.

    To autonomous, open approvals of tools are allowed; questions, plans and unknown effects stay.
    Raises `Invalid`.
    """
    access.require("data.runs.write")
    if mode not in PermissionMode.values:
        raise Invalid(f"permission_mode must be one of {', '.join(PermissionMode.values)}.")
    with transaction.atomic():
        locked = Run.objects.select_for_update(no_key=True).get(pk=run.pk)
        if locked.permission_mode != mode:
            locked.permission_mode = mode
            if mode != PermissionMode.AUTONOMOUS:
                locked.human_in_the_loop = True
            locked.save(update_fields=["permission_mode", "human_in_the_loop", "updated_at"])
            if not locked.is_finished:
                by = access.user.display_name if access.user else None
                changed = NewEvent("run.mode_changed", {"permission_mode": mode, "by": by})
                lifecycle.write(locked, None, [changed])
        if mode == PermissionMode.AUTONOMOUS:
            # What two people must agree to, a change of the mode does not decide.
            open_ = Gate.objects.filter(
                run=locked, status=GateStatus.PENDING, kind=GateKind.APPROVAL, approvals_needed=1
            ).order_by("id")
            for gate in open_:
                decide(access, gate, Decision(GateStatus.ALLOWED), via=DecidedVia.MODE)
    run.refresh_from_db()
    return run


def expire_due() -> int:
    """Decide what nobody decided in time: a question goes on with what it recommends, an approval
    counts as denied. Returns how many."""
    due = Gate.objects.filter(status=GateStatus.PENDING, expires_at__lte=timezone.now())
    decided = 0
    for gate in due.order_by("expires_at")[:100]:
        if gate.kind == GateKind.QUESTION:
            minutes = round(settings.AUTO_CONTINUE_SECONDS / 60)
            is_at_once = (gate.request.get("metadata") or {}).get("source") == "non-blocking"
            note = "[auto-selected]" if is_at_once else f"[auto-selected after {minutes} minutes]"
            chosen = {
                question: f"{label.removesuffix(ask.RECOMMENDED).strip()} {note}"
                for question, label in ask.recommended(gate.request).items()
            }
            decision = Decision(GateStatus.ALLOWED, {"answers": chosen})
        else:
            decision = Decision(GateStatus.TIMEOUT, {"reason": "nobody decided in time"})
        try:
            decide(None, gate, decision, via=DecidedVia.TIME)
        except Conflict:  # somebody was faster
            continue
        except DomainError:
            logger.exception("Gate %s is due and could not be decided", gate.pk)
            continue
        decided += 1
    return decided


# --- the decision -------------------------------------------------------------------------------


def decide(access: Access | None, gate: Gate, decision: Decision, *, via: DecidedVia) -> Gate:
    """Decide a gate once and let its run go on. Of many at once one wins; the others learn who
    did from `AlreadyDecided`. Where two people must agree, the first leaves it pending.

    Holds the run's row. `access` None: the system itself. Raises `Conflict` if what was seen is no
    longer what is asked, `Forbidden`, `Invalid` (edited arguments that do not fit).
    """
    if access is not None:
        access.require("data.runs.write")
    with transaction.atomic():
        run = Run.objects.select_for_update(no_key=True).get(pk=gate.run_id)
        gate = (
            Gate.objects.select_related("tool_call", "decided_by", "run__teammate").get(pk=gate.pk)
        )  # fmt: skip
        if not gate.is_pending:
            raise _decided(gate)
        if gate.tool_call_id is not None and run.status != RunStatus.WAITING:
            raise not_waiting(run)
        if decision.digest not in (None, "", gate.digest):
            raise Conflict(
                "The request changed since you saw it. Look at it again.", code="gate_changed"
            )
        if _waits_for_another(access, gate, decision):
            return gate
        answer = clean(decision.answer)
        if decision.arguments is not None:
            answer |= _edited(run, gate, decision.arguments)
        gate.status, gate.answer = decision.status, answer
        gate.decided_by = access.user if access else None
        gate.decided_at, gate.decided_via = timezone.now(), via
        gate.save(update_fields=["status", "answer", "decided_by", "decided_at", "decided_via"])
        if decision.remember and decision.status == GateStatus.ALLOWED and access is not None:
            _remember(access, gate, decision.remember)
        told = NewEvent("run.input_provided", cards.decision_data(gate))
        if answer.get("stop"):
            # Whether it happened stays unknown; nothing more is done.
            lifecycle.write(run, None, [told])
            lifecycle.cancel_run(run, by=gate.decided_by)
        elif gate.tool_call is not None:
            lifecycle.resume_locked(run, told, *_apply(run, gate, gate.tool_call))
    return gate


def _waits_for_another(access: Access | None, gate: Gate, decision: Decision) -> bool:
    """Record a first yes where two people must agree. A no needs nobody else."""
    if decision.status != GateStatus.ALLOWED or gate.approvals_needed < 2 or access is None:
        return False
    if access.user is None:
        raise Forbidden("Two people must agree to this, each signed in or with a key of their own.")
    if decision.arguments is not None:
        raise Invalid("arguments: what two people agree to cannot be edited; deny it with a note.")
    try:
        with transaction.atomic():
            GateVote.objects.create(gate=gate, user=access.user)
    except IntegrityError:
        raise Conflict("You agreed already; somebody else must agree too.") from None
    if gate.votes.count() >= gate.approvals_needed:
        return False
    names = [vote.user.display_name for vote in gate.votes.select_related("user").order_by("id")]
    agreed = {"request_id": str(gate.uid), "by": access.user.display_name, "agreed_by": names,
              "agreed": len(names), "needed": gate.approvals_needed}  # fmt: skip
    run = gate.run
    lifecycle.write(run, None, [NewEvent("run.approval_recorded", agreed)])
    return True


def _decided(gate: Gate) -> Conflict:
    """Who decided what, for whoever came too late."""
    if gate.auto_resolved:
        return Conflict(
            "Nobody answered in time; the run went on with what was recommended. Send a message "
            "to redirect it.",
            code="auto_continued",
        )
    words = {"allowed": "approved", "denied": "denied", "timeout": "not decided in time",
             "cancelled": "cancelled"}  # fmt: skip
    word = "answered" if gate.asks_in_words else words.get(gate.status, gate.status)
    who = gate.decided_by.display_name if gate.decided_by else ""
    ago = timesince(gate.decided_at) if gate.decided_at else ""
    age = (timezone.now() - gate.decided_at).total_seconds() if gate.decided_at else 0
    when = f"{age:.0f} s ago" if age < 60 else f"{ago} ago"
    said = f"{who} {word} this {when}." if who else f"This was {word} {when}."
    return AlreadyDecided(
        said, decided_by=who or None, decision=gate.status,
        decided_at=gate.decided_at.isoformat() if gate.decided_at else None,
    )  # fmt: skip


def _edited(run: Run, gate: Gate, arguments: Any) -> dict[str, Any]:
    """Edited arguments that fit the tool, and what was changed. Raises `Invalid`."""
    call = gate.tool_call
    if call is None or gate.kind != GateKind.APPROVAL:
        raise Invalid("arguments: only an approval takes them.")
    wanted = clean(unmasked(arguments, call.arguments))
    if MASK in json.dumps(wanted, ensure_ascii=False) and MASK not in json.dumps(
        call.arguments, ensure_ascii=False
    ):
        raise Invalid(
            f"arguments: leave what is shown as {MASK} exactly as it is, or replace all of it."
        )
    tool = toolbox.find_tool(run, gate.tool_name)
    wrong = tool.check(wanted) if tool else "the tool is no longer there"
    if wrong or tool is None:
        raise Invalid(f"arguments: {wrong}.")
    return {"arguments": wanted, "edits": cards.edits(call.arguments, wanted),
            "digest": tool.digest(wanted)}  # fmt: skip


def _remember(access: Access, gate: Gate, remember: bool | dict[str, str]) -> None:
    """Keep a standing permission, where one would count and the asker may give it."""
    if gate.remembered_id or not gate.card.get("can_remember"):
        return
    run = Run.objects.select_related("end_user", "organization").get(pk=gate.run_id)
    scope = Access(run.organization, access.role, access.user, access.api_key, run.end_user)
    if not scope.may("data.permissions.manage"):
        return
    pattern = remember if isinstance(remember, dict) else {}
    gate.remembered, _ = permissions.allow_tool(
        scope, gate.tool_name, pattern=pattern, source=PolicySource.RUN_APPROVAL
    )
    gate.save(update_fields=["remembered"])


def _apply(run: Run, gate: Gate, call: ToolCall) -> list[NewEvent]:
    """Write the decision into the journal of tool calls, where the next attempt finds it."""
    answer = gate.answer or {}
    if gate.asks_in_words:
        return _answered(run, gate, call, answer)
    if gate.kind == GateKind.UNKNOWN:
        return _told_what_happened(gate, call, answer)
    if gate.status == GateStatus.ALLOWED:
        call.status = CallStatus.PENDING
        # Bound to exactly this; what is asked later is judged anew.
        call.approved_digest = answer.get("digest", gate.digest)
        call.arguments = answer.get("arguments", call.arguments)
        call.save()
        return []
    expired = gate.status == GateStatus.TIMEOUT
    reason = answer.get("reason", "")
    said = "Nobody decided in time." if expired else "A person refused this."
    if reason and not expired:
        said += f" They said: {reason}"
    word = "expired" if expired else "denied_by_person"
    call.status, call.result, call.error = CallStatus.DENIED, {"reason": word}, said
    call.finished_at = timezone.now()
    call.save()
    denied = _of(call) | {"reason": word, "message": said}
    return [called(call), NewEvent("tool.denied", denied)]


def _answered(run: Run, gate: Gate, call: ToolCall, answer: dict[str, Any]) -> list[NewEvent]:
    call.status, call.result = CallStatus.DONE, {"answers": answer["answers"]}
    call.finished_at = timezone.now()
    call.save()
    if gate.kind == GateKind.PLAN and _approves_plan(gate):
        run.plan_approved_at = timezone.now()
        run.save(update_fields=["plan_approved_at"])
    return [NewEvent("tool.result", _of(call) | {"result": fitting_json(call.result)})]


def _approves_plan(gate: Gate) -> bool:
    """Only the word itself, perhaps with a remark behind a colon: prose is no approval."""
    given = (gate.answer or {}).get("answers", {})
    asked = next(one for one in gate.request["questions"] if one.get("header") == ask.PLAN_HEADER)
    text = str(given.get(asked["question"], "")).strip().lower()
    return text in ("approve", "approve (recommended)") or text.startswith("approve:")


def _told_what_happened(gate: Gate, call: ToolCall, answer: dict[str, Any]) -> list[NewEvent]:
    """A person said whether a call that broke off had happened, or that it be made again."""
    if answer.get("retry"):
        call.status, call.approved_digest = CallStatus.PENDING, gate.digest
        call.save()
        return []
    happened = gate.status == GateStatus.ALLOWED
    call.status = CallStatus.DONE if happened else CallStatus.FAILED
    said_so = f"A person said that this {'happened' if happened else 'did not happen'}."
    if answer.get("reason"):
        said_so += f" They said: {answer['reason']}"
    call.result = {"note": said_so + " Its result is not known."} if happened else None
    call.error = "" if happened else said_so
    call.finished_at = timezone.now()
    call.save()
    known = {"result": call.result} if happened else {"error": {"message": said_so}}
    return [NewEvent("tool.result", _of(call) | known)]


def _of(call: ToolCall) -> dict[str, Any]:
    return {"tool_call_id": call.call_id, "tool_name": call.name}


# --- v1's words ---------------------------------------------------------------------------------


def _read_decision(text: str, gate: Gate) -> Decision:
    """A decision in one of the three `FORMS`, and what belongs to it."""
    word, _, reason = text.strip().partition(":")
    given: dict[str, Any] = {}
    if text.lstrip().startswith("{"):
        try:
            given = json.loads(text, parse_constant=no_number)
        except ValueError:
            raise Invalid(FORMS) from None
        if not isinstance(given.get("remember", False), bool | dict):
            raise Invalid(FORMS)
        known = {"decision", "reason", "arguments", "request_id", "remember", "digest"}
        if set(given) - known:
            raise Invalid(FORMS)
        if given.get("request_id") not in (None, str(gate.uid)):
            raise Conflict("This request is not the one that is open.", code="runs.not_active")
        word, reason = str(given.get("decision", "")), str(given.get("reason") or "")
    word, reason = word.strip().lower(), reason.strip()
    answer: dict[str, Any] = {"reason": reason} if reason else {}
    if word == "retry" and gate.kind == GateKind.UNKNOWN:
        return Decision(GateStatus.ALLOWED, answer | {"retry": True})
    statuses = {"approve": GateStatus.ALLOWED, "yes": GateStatus.ALLOWED,
                "allow": GateStatus.ALLOWED, "deny": GateStatus.DENIED,
                "no": GateStatus.DENIED}  # fmt: skip
    if word not in statuses:
        raise Invalid(FORMS)
    return Decision(
        statuses[word], answer, arguments=given.get("arguments"),
        remember=given.get("remember", False), digest=given.get("digest"),
    )  # fmt: skip
