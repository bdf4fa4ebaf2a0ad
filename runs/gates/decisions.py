"""Gates: a pending human decision is a row; it is decided once, and the run goes on.

Every decision, whoever makes it and wherever, goes through `decide`: under the run's row it is
compared with what is asked, written, applied to the journal of calls, and told as an event.
"""

import logging
import uuid
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.timesince import timesince

from runs.events.payloads import NewEvent
from runs.gates import budget_gates, cards, loop_gates
from runs.gates.outcomes import edited_arguments, remember, write_outcome
from runs.lifecycle import endings, transitions, waiting
from runs.models import (
    WAITED_AT,
    DecidedVia,
    Gate,
    GateKind,
    GateStatus,
    GateVote,
    Run,
    RunStatus,
)
from teammates.access import Access
from teammates.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from teammates.models import PermissionMode
from teammates.text import clean
from teammates.tools import ask
from teammates.trust import audit
from teammates.types import JSON

logger = logging.getLogger("muster.gates")
_BRAKES: dict[str, Any] = {GateKind.BUDGET: budget_gates, GateKind.LOOP: loop_gates}


class AlreadyDecided(Conflict):
    """Somebody answered this already."""

    code = "runs.not_active"


@dataclass(frozen=True)
class Decision:
    """What was decided. `remember`: keep a standing permission, True or a pattern of arguments."""

    status: GateStatus
    answer: JSON = field(default_factory=dict)
    arguments: JSON | None = None  # edited
    remember: bool | dict[str, str] = False
    digest: str | None = None  # of what was seen; that of an earlier request is refused
    saw_hidden: bool = False  # whoever decides was shown what the card hides


# --- finding ------------------------------------------------------------------------------------
def pending_gate(run: Run) -> Gate | None:
    """What the run waits for."""
    return (
        Gate.objects.filter(WAITED_AT, run=run, status=GateStatus.PENDING)
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


def due() -> "QuerySet[Gate]":
    """What nobody decided in time."""
    return Gate.objects.filter(status=GateStatus.PENDING, expires_at__lte=Now())


def expire_due() -> int:
    """Decide what nobody decided in time: a question goes on with what it recommends, an approval
    counts as denied. Returns how many."""
    decided = 0
    for gate in due().order_by("expires_at")[:100]:
        if gate.kind == GateKind.QUESTION:
            minutes = round(settings.AUTO_CONTINUE_SECONDS / 60)
            is_at_once = (gate.request.get("metadata") or {}).get("source") == "non-blocking"
            note = "[auto-selected]" if is_at_once else f"[auto-selected after {minutes} minutes]"
            chosen = {
                question: f"{label.removesuffix(ask.RECOMMENDED).strip()} {note}"
                for question, label in ask.recommended(gate.request).items()
            }
            decision = Decision(GateStatus.ALLOWED, {"answers": chosen})
        elif gate.kind == GateKind.BUDGET:
            decision = Decision(GateStatus.ALLOWED, budget_gates.allows_again(gate))
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
        if gate.is_waited_at and run.status != RunStatus.WAITING:
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
            answer |= edited_arguments(run, gate, decision.arguments)
        brake = _BRAKES.get(gate.kind)
        if brake is not None and access is not None:
            answer = brake.read_answer(access, gate, answer)
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
        elif brake is not None:
            brake.go_on(access, run, gate, answer)
            waiting.resume_locked(run, told)
        elif gate.tool_call is not None:
            waiting.resume_locked(run, told, *write_outcome(run, gate, gate.tool_call))
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
