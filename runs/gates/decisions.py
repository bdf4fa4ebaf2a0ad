"""Gates: a pending human decision is a row; it is decided once, and the run goes on.

Every decision, whoever makes it and wherever, goes through `decide`: under the run's row it is
compared with what is asked, written, applied to the journal of calls, and told as an event.
"""

import json
import logging
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.timesince import timesince

from runs.events.payloads import NewEvent, called, fitting_json
from runs.gates import cards
from runs.lifecycle import endings, transitions, waiting
from runs.models import (
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
from runs.tools import toolbox
from teammates.access import Access
from teammates.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from teammates.integrations import tool_policies
from teammates.models import PermissionMode, PolicySource
from teammates.text import clean
from teammates.tools import ask
from teammates.tools.masking import MASK, unmasked
from teammates.trust import audit

logger = logging.getLogger("muster.gates")


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
    saw_hidden: bool = False  # whoever decides was shown what the card hides


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


def whole_request(access: Access, gate: Gate) -> Any:
    """The exact arguments of what is asked, for whoever may decide it. Raises `Forbidden`."""
    access.require("data.runs.write")
    return gate.tool_call.arguments if gate.tool_call is not None else gate.request


def not_waiting(run: Run) -> Conflict:
    return Conflict(
        f"The run is not waiting for this (it is {run.get_status_display().lower()}).",
        code="runs.not_active",
    )


def switch_mode(access: Access, run: Run, mode: str) -> Run:
    """Change the mode of a run, live or over (contract v2 4.7); its replies inherit it.

    To autonomous, open approvals of tools are allowed; questions, plans and unknown effects stay.
    Raises `Invalid`.
    """
    access.require("data.runs.write", run)
    if mode not in PermissionMode.values:
        raise Invalid(f"permission_mode must be one of {', '.join(PermissionMode.values)}.")
    with transaction.atomic():
        locked = Run.objects.select_for_update(no_key=True).get(pk=run.pk)
        if locked.permission_mode != mode:
            locked.permission_mode = mode
            if mode != PermissionMode.AUTONOMOUS:
                locked.human_in_the_loop = True
            was = run.permission_mode
            locked.save(update_fields=["permission_mode", "human_in_the_loop", "updated_at"])
            audit.note(access, "run.mode", locked, changes={"permission_mode": [was, mode]})
            if not locked.is_finished:
                by = access.user.display_name if access.user else None
                changed = NewEvent("run.mode_changed", {"permission_mode": mode, "by": by})
                transitions.write(locked, None, [changed])
        if mode == PermissionMode.AUTONOMOUS:
            # What two people must agree to, a change of the mode does not decide; nor what nobody
            # has seen, nor what strangers may be behind, which asks in every mode.
            open_ = Gate.objects.filter(
                run=locked,
                status=GateStatus.PENDING,
                kind=GateKind.APPROVAL,
                approvals_needed=1,
            )
            for gate in open_.order_by("id"):
                if not gate.card.get("hidden") and not gate.card.get("outside"):
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
    with transaction.atomic():
        run = Run.objects.select_for_update(no_key=True).get(pk=gate.run_id)
        if access is not None:
            access.require("data.runs.write", run)
        gate = Gate.objects.select_related("tool_call", "decided_by", "run__teammate").get(
            pk=gate.pk
        )
        if not gate.is_pending:
            raise already_decided(gate)
        if gate.tool_call_id is not None and run.status != RunStatus.WAITING:
            raise not_waiting(run)
        if decision.digest not in (None, "", gate.digest):
            raise Conflict(
                "The request changed since you saw it. Look at it again.", code="gate_changed"
            )
        _refuse_unseen(access, gate, decision)
        if _waits_for_another(access, gate, decision):
            return gate
        answer = clean(decision.answer)
        if decision.arguments is not None:
            answer |= _edited(run, gate, decision.arguments)
        gate.status, gate.answer = decision.status, answer
        gate.decided_by = access.user if access else None
        gate.decided_at, gate.decided_via = timezone.now(), via
        gate.save(update_fields=["status", "answer", "decided_by", "decided_at", "decided_via"])
        if access is not None:
            audit.note(
                access,
                "approval.decide",
                gate,
                changes={
                    "status": [None, gate.status],
                    "tool": [None, gate.tool_name],
                    "via": [None, via],
                    "run": [None, run.pk],
                },
            )
        if decision.remember and decision.status == GateStatus.ALLOWED and access is not None:
            remember(access, gate, decision.remember)
        told = NewEvent("run.input_provided", cards.decision_data(gate))
        if answer.get("stop"):
            # Whether it happened stays unknown; nothing more is done.
            transitions.write(run, None, [told])
            endings.cancel_run(run, by=gate.decided_by)
        elif gate.tool_call is not None:
            waiting.resume_locked(run, told, *_apply(run, gate, gate.tool_call))
    return gate


def approve_among_others(access: Access, gate: Gate, *, seen: str) -> Gate:
    """Allow one of several calls that a person chose in a list. `seen` is the digest of what the
    list showed. Raises as `decide`, and `Forbidden` for what is to be looked at on its own."""
    if gate.card.get("risk") == "high":
        raise Forbidden("It is of high risk; look at it on its own.")
    if gate.run.has_words_from_outside:
        raise Forbidden("Somebody outside had a say in this run; look at it on its own.")
    decision = Decision(GateStatus.ALLOWED, digest=seen or "none was sent")
    return decide(access, gate, decision, via=DecidedVia.PAGE)


def _refuse_unseen(access: Access | None, gate: Gate, decision: Decision) -> None:
    """Nobody allows what they did not see. A no needs no look."""
    is_yes = decision.status == GateStatus.ALLOWED and not gate.asks_in_words
    if is_yes and access is not None and gate.card.get("hidden") and not decision.saw_hidden:
        raise Conflict(
            "Some values of this call are hidden. Look at them under Needs you before you "
            "approve it.",
            code="gate_hidden",
        )


def _waits_for_another(access: Access | None, gate: Gate, decision: Decision) -> bool:
    """Record a first yes where two people must agree. A no needs nobody else."""
    if decision.status != GateStatus.ALLOWED or gate.approvals_needed < 2 or access is None:
        return False
    if access.user is None:
        raise Forbidden("Two people must agree to this, each signed in or with a key of their own.")
    if gate.run.created_by_id == access.user.pk:
        raise Forbidden("You started this run: two others must agree to this.")
    if decision.arguments is not None:
        raise Invalid("arguments: what two people agree to cannot be edited; deny it with a note.")
    try:
        with transaction.atomic():
            GateVote.objects.create(gate=gate, user=access.user)
    except IntegrityError:
        raise Conflict("You agreed already; somebody else must agree too.") from None
    if gate.votes.count() >= gate.approvals_needed:
        return False
    audit.note(access, "approval.agree", gate, changes={"run": [None, gate.run_id]})
    names = [vote.user.display_name for vote in gate.votes.select_related("user").order_by("id")]
    agreed = {
        "request_id": str(gate.uid),
        "by": access.user.display_name,
        "agreed_by": names,
        "agreed": len(names),
        "needed": gate.approvals_needed,
    }
    run = gate.run
    transitions.write(run, None, [NewEvent("run.approval_recorded", agreed)])
    return True


def already_decided(gate: Gate) -> Conflict:
    """Who decided what, for whoever came too late."""
    if gate.auto_resolved:
        return Conflict(
            "Nobody answered in time; the run went on with what was recommended. Send a message "
            "to redirect it.",
            code="auto_continued",
        )
    words = {
        "allowed": "approved",
        "denied": "denied",
        "timeout": "not decided in time",
        "cancelled": "cancelled",
    }
    word = "answered" if gate.asks_in_words else words.get(gate.status, gate.status)
    who = gate.decided_by.display_name if gate.decided_by else ""
    ago = timesince(gate.decided_at) if gate.decided_at else ""
    age = (timezone.now() - gate.decided_at).total_seconds() if gate.decided_at else 0
    when = f"{age:.0f} s ago" if age < 60 else f"{ago} ago"
    said = f"{who} {word} this {when}." if who else f"This was {word} {when}."
    return AlreadyDecided(
        said,
        decided_by=who or None,
        decision=gate.status,
        decided_at=gate.decided_at.isoformat() if gate.decided_at else None,
    )


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
    return {
        "arguments": wanted,
        "edits": cards.edits(call.arguments, wanted),
        "digest": tool.digest(wanted),
    }


def remember(access: Access, gate: Gate, remember: bool | dict[str, str]) -> None:
    """Keep a standing permission, where one would count and the asker may give it."""
    if gate.remembered_id or not gate.card.get("can_remember"):
        return
    run = Run.objects.select_related("end_user", "organization").get(pk=gate.run_id)
    scope = replace(access, organization=run.organization, end_user=run.end_user)
    if not scope.may("data.permissions.manage"):
        return
    pattern = remember if isinstance(remember, dict) else {}
    gate.remembered, _ = tool_policies.allow_tool(
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
