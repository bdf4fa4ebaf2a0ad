"""v2: what waits for a person (contract v2 2.1 R19 to R22, 4.5 to 4.8)."""

from typing import Annotated, Literal

from ninja import Router
from pydantic import Field

from runs.api.v2.shared import find_run
from runs.gates import answers, cards, decisions, opening
from runs.models import Gate, GateStatus, Run
from teammates.access import Access
from teammates.api.schemas import ApiRequest, Input, iso
from teammates.tools.ask import ASK_USER
from teammates.tools.masking import masked
from teammates.types import JSON

router = Router(tags=["approvals"])
# The hook by which a program of its own asks about a call (contract v2 4.6).
hook = Router(tags=["approvals"])
INFORMATIVE_TIMEOUT = 55  # seconds; a late decision stays valid


class ModeIn(Input):
    permission_mode: str


class ApproveIn(Input):
    request_id: str
    decision: Literal["allow", "deny"]
    remember: bool = False
    reason: Annotated[str, Field(max_length=10_000)] | None = None


class AnswerIn(Input):
    answers: Annotated[dict[str, str], Field(min_length=1)]
    request_id: str | None = None


class PermissionRequestIn(Input):
    tool_name: Annotated[str, Field(min_length=1, max_length=255)]
    tool_input: JSON = Field(default_factory=dict)


@router.patch("/runs/{run_id}/permission-mode")
def switch_mode(request: ApiRequest, run_id: int, payload: ModeIn) -> JSON:
    """Change the mode of a run. To autonomous: what waits for an approval is allowed."""
    run = decisions.switch_mode(
        request.auth, find_run(request.auth, run_id), payload.permission_mode
    )
    return {"permission_mode": run.permission_mode}


@router.get("/runs/{run_id}/permissions")
def list_permission_requests(request: ApiRequest, run_id: int) -> list[JSON]:
    """All requests of the run, the oldest first."""
    run = find_run(request.auth, run_id)
    rows = Gate.objects.filter(run=run).select_related("tool_call").order_by("id")
    return [request_out(gate, request.auth) for gate in rows]


@router.post("/runs/{run_id}/approve")
def approve(request: ApiRequest, run_id: int, payload: ApproveIn) -> JSON:
    """Allow or deny a tool call. The same decision again is fine."""
    run = _find_to_decide(request.auth, run_id)
    gate, resumed = answers.approve(
        request.auth,
        run,
        payload.request_id,
        allow=payload.decision == "allow",
        reason=payload.reason or "",
        remember=payload.remember,
    )
    return request_out(gate, request.auth) | {
        "resumed": resumed,
        "remembered": gate.remembered_id is not None,
    }


@router.post("/runs/{run_id}/answer")
def answer(request: ApiRequest, run_id: int, payload: AnswerIn) -> JSON:
    """Answer a question or a plan: question text, or header, to answer."""
    run = _find_to_decide(request.auth, run_id)
    answers.answer_questions(request.auth, run, payload.answers, request_id=payload.request_id)
    return {"status": "ok", "resumed": True}


@hook.post("/runs/{run_id}/permission-request")
def ask_permission(request: ApiRequest, run_id: int, payload: PermissionRequestIn) -> JSON:
    """Ask about a call that a program makes by itself; it polls for the decision."""
    run = _find_to_decide(request.auth, run_id)
    gate = opening.ask_outside(
        request.auth, run, tool_name=payload.tool_name, arguments=payload.tool_input
    )
    return {"request_id": str(gate.uid)}


def _find_to_decide(access: Access, run_id: int) -> Run:
    access.require("data.runs.write")
    return find_run(access, run_id)


def request_out(gate: Gate, access: Access) -> JSON:
    """A PermissionRequest (contract v2 2.1); its words are the server's."""
    card, answer = gate.card, gate.answer or {}
    # A control that would be ignored is not offered: not every role gives standing permissions.
    can_remember = bool(card.get("can_remember")) and access.may("data.permissions.manage")
    may_decide = gate.is_pending and access.may("data.runs.write")
    shown = decisions.whole_request(access, gate) if may_decide else masked(gate.request)
    is_unmasked = may_decide and card.get("hidden")
    if gate.asks_in_words and "answers" in answer:
        shown = shown | {"answers": answer["answers"]}
    return {
        "request_id": str(gate.uid),
        "tool_name": gate.tool_name or ASK_USER.name,
        "tool_input": shown,
        "status": gate.status,
        "created_at": iso(gate.created_at),
        "resolved_at": iso(gate.decided_at),
        "tool_use_id": gate.tool_call.call_id if gate.tool_call else None,
        "auto_resolved": gate.auto_resolved,
        "resumed": None,
        "remembered": None if gate.status != GateStatus.ALLOWED else gate.remembered_id is not None,
        "agent_type": None,
        "display_name": card.get("title") or gate.tool_name,
        "mate_name": card.get("mate"),
        "task_name": card.get("task"),
        "consequence": card.get("consequence") or "",
        "fields": cards.fields_of(shown) if is_unmasked else card.get("fields"),
        "prose": (card.get("said") or None) if gate.is_pending else None,
        "can_remember": can_remember,
        "remember_default": can_remember and bool(card.get("remember_default")),
        "timeout_seconds": INFORMATIVE_TIMEOUT,
        "script": None,
        "ask_reason": _ask_reason(gate),
        "surface": "question" if gate.asks_in_words else "command",
        "surface_label": None,
    }


def _ask_reason(gate: Gate) -> str:
    if gate.kind == "unknown":
        return (
            "This call broke off: it may or may not have happened. allow says that it did, deny "
            "that it did not; nothing is repeated."
        )
    return str(gate.card.get("why") or "")
