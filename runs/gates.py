"""Gates: a pending human decision is a row; it is decided once, and the run goes on.

Card texts are composed here from the registry, never by the model.
"""

import json
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from runs import lifecycle
from runs.events import NewEvent, called, fitting, fitting_json
from runs.models import CallStatus, Gate, GateKind, GateStatus, Run, RunStatus, ToolCall
from teammates import tools
from teammates.errors import Conflict, Invalid
from teammates.fields import clean
from teammates.models import User
from teammates.tools.base import Tool

LONGEST_ANSWER = 32 * 1024  # bytes of UTF-8
FORMS = (
    "Answer an approval with 'approve', with 'deny' or 'deny: the reason', or with JSON "
    '{"decision": "approve" | "deny", "reason": …, "arguments": …, "request_id": …}. '
    "Where it is not known whether something happened, 'retry' does it again."
)


@dataclass(frozen=True)
class NewGate:
    row: Gate
    events: list[NewEvent]


def approval(call: ToolCall, tool: Tool, arguments: dict[str, Any]) -> NewGate:
    """May the tool do this?"""
    return _gate(call, GateKind.APPROVAL, tool.say(arguments), arguments)


def question(call: ToolCall, tool: Tool, arguments: dict[str, Any]) -> NewGate:
    """The teammate asks something; its call is nothing but the question."""
    call.arguments = clean(arguments)
    asked = _gate(call, GateKind.QUESTION, tool.say(arguments), arguments)
    return NewGate(asked.row, [called(call), *asked.events])


def unknown_effect(call: ToolCall, tool: Tool, arguments: dict[str, Any]) -> NewGate:
    """The worker died during a call that changes something: did it happen?"""
    prompt = f"{tool.say(arguments)}: this may or may not have happened. Did it?"
    return _gate(call, GateKind.UNKNOWN, prompt, arguments)


def _gate(call: ToolCall, kind: GateKind, prompt: str, arguments: dict[str, Any]) -> NewGate:
    request = clean(arguments)
    row = Gate(run_id=call.run_id, tool_call=call, kind=kind, prompt=clean(prompt), request=request)
    data = {
        "request_id": str(row.uid),
        "kind": kind,
        "message": fitting(row.prompt, 8_000),
        "prompt": fitting(row.prompt, 8_000),
        "tool_call_id": call.call_id,
        "tool_name": call.name,
        "arguments": fitting_json(request, 24_000),
    }
    if kind == GateKind.QUESTION:
        data["requested_schema"] = fitting_json(_schema_of(request), 16_000)
    return NewGate(row, [NewEvent("run.waiting_for_input", data)])


def _schema_of(request: dict[str, Any]) -> dict[str, Any]:
    """The questions as a JSON schema, for clients that draw a form."""
    properties = {}
    for asked in request["questions"]:
        one: dict[str, Any] = {"type": "string", "title": asked["question"]}
        if options := [option["label"] for option in asked.get("options", [])]:
            one["examples"] = options
        properties[asked.get("header") or asked["question"]] = one
    return {"type": "object", "properties": properties}


def open_gate(run: Run) -> Gate | None:
    return (
        Gate.objects.filter(run=run, status=GateStatus.PENDING).select_related("tool_call").first()
    )


def answer_text(run: Run, text: str, *, by: User | None) -> Gate:
    """Answer the open gate in words (contract v1: `POST /v1/runs/{id}/input`).

    Raises `Invalid` (empty, over 32 KB, not one of `FORMS`) or `Conflict` (the run does not wait).
    """
    if not text.strip():
        raise Invalid("content must not be empty.")
    if len(text.encode()) > LONGEST_ANSWER:
        raise Invalid(f"content must have at most {LONGEST_ANSWER} bytes.")
    gate = open_gate(run)
    if gate is None or run.status != RunStatus.WAITING:
        raise not_waiting(run)
    if gate.kind == GateKind.QUESTION:
        asked = gate.request["questions"]
        return decide(gate, GateStatus.ALLOWED, by=by, answer={
            "answers": {one["question"]: text for one in asked}
        })  # fmt: skip
    decision, answer = _read_decision(text, gate)
    return decide(gate, decision, by=by, answer=answer)


def answer_questions(
    run: Run, answers: dict[str, str], *, by: User | None, request_id: str | None = None
) -> Gate:
    """Answer the open question; keys are its texts or headers. Raises `Invalid`, `Conflict`."""
    gate = open_gate(run)
    if gate is None or gate.kind != GateKind.QUESTION or request_id not in (None, str(gate.uid)):
        raise not_waiting(run)
    given = {key.strip(): value for key, value in answers.items() if value.strip()}
    if sum(len(value.encode()) for value in given.values()) > LONGEST_ANSWER:
        raise Invalid(f"answers must have at most {LONGEST_ANSWER} bytes.")
    complete = {}
    for one in gate.request["questions"]:
        text = given.get(one["question"]) or given.get(one.get("header", ""))
        if not text:
            raise Invalid(f"answers: {one['question']!r} is not answered.")
        complete[one["question"]] = text
    return decide(gate, GateStatus.ALLOWED, by=by, answer={"answers": complete})


def decide_approval(
    run: Run,
    *,
    allow: bool,
    by: User | None,
    reason: str = "",
    retry: bool = False,
    request_id: str | None = None,
) -> Gate:
    """Allow or deny what the open gate asks for. Raises `Conflict` if nothing is asked.

    Where it is asked whether something happened, `allow` says that it did; `retry` does it again.
    """
    gate = open_gate(run)
    if gate is None or gate.kind == GateKind.QUESTION or request_id not in (None, str(gate.uid)):
        raise not_waiting(run)
    decision = GateStatus.ALLOWED if allow else GateStatus.DENIED
    answer: dict[str, Any] = {"reason": reason} if reason else {}
    return decide(gate, decision, by=by, answer=answer | ({"retry": True} if retry else {}))


def not_waiting(run: Run) -> Conflict:
    return Conflict(
        f"The run is not waiting for this (it is {run.get_status_display().lower()}).",
        code="runs.not_active",
    )


def decide(gate: Gate, status: GateStatus, *, by: User | None, answer: dict[str, Any]) -> Gate:
    """Decide a gate once and let its run go on. Of two at once one wins, the other gets `Conflict`.

    Holds the run's row.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update(no_key=True).get(pk=gate.run_id)
        won = Gate.objects.filter(pk=gate.pk, status=GateStatus.PENDING).update(
            status=status, answer=clean(answer), decided_by=by, decided_at=timezone.now()
        )
        if not won or run.status != RunStatus.WAITING:
            raise Conflict("Somebody answered this already.", code="runs.not_active")
        gate.refresh_from_db()
        came_of_it = _apply(gate)
        data = {
            "request_id": str(gate.uid),
            "kind": gate.kind,
            "decision": status,
            "content": fitting(_content(gate)),
            "by": by.display_name if by else None,
        }
        lifecycle.resume_locked(run, NewEvent("run.input_provided", data), *came_of_it)
    return gate


def _apply(gate: Gate) -> list[NewEvent]:
    """Write the decision into the journal of tool calls, where the next attempt finds it."""
    call = gate.tool_call
    answer = gate.answer or {}
    said = {"tool_call_id": call.call_id, "tool_name": call.name}
    events: list[NewEvent] = []
    if gate.kind == GateKind.QUESTION:
        call.status, call.result = CallStatus.DONE, answer
        call.finished_at = timezone.now()
        events.append(NewEvent("tool.result", said | {"result": fitting_json(answer)}))
    elif gate.kind == GateKind.UNKNOWN and answer.get("retry"):
        call.status, call.approved = CallStatus.PENDING, True
    elif gate.kind == GateKind.UNKNOWN:
        happened = gate.status == GateStatus.ALLOWED
        call.status = CallStatus.DONE if happened else CallStatus.FAILED
        said_so = f"A person said that this {'happened' if happened else 'did not happen'}."
        call.result = {"note": said_so + " Its result is not known."} if happened else None
        call.error = "" if happened else said_so
        call.finished_at = timezone.now()
        known = {"result": call.result} if happened else {"error": {"message": said_so}}
        events.append(NewEvent("tool.result", said | known))
    elif gate.status == GateStatus.ALLOWED:
        call.status, call.approved = CallStatus.PENDING, True
        call.arguments = answer.get("arguments", gate.request)
    else:
        call.status = CallStatus.DENIED
        call.result = {"reason": "denied_by_person"}
        reason = answer.get("reason")
        call.error = "A person refused this." + (f" They said: {reason}" if reason else "")
        call.finished_at = timezone.now()
        denied = {"reason": "denied_by_person", "message": call.error}
        events += [called(call), NewEvent("tool.denied", said | denied)]
    call.save()
    return events


def _content(gate: Gate) -> str:
    answer = gate.answer or {}
    if gate.kind == GateKind.QUESTION:
        return "\n".join(answer.get("answers", {}).values())
    word = "approve" if gate.status == GateStatus.ALLOWED else "deny"
    return f"{word}: {answer['reason']}" if answer.get("reason") else word


def _read_decision(text: str, gate: Gate) -> tuple[GateStatus, dict[str, Any]]:
    """A decision in one of the three `FORMS`, and what belongs to it."""
    word, _, reason = text.strip().partition(":")
    answer: dict[str, Any] = {}
    if text.lstrip().startswith("{"):
        try:
            given = json.loads(text)
        except ValueError:
            raise Invalid(FORMS) from None
        if set(given) - {"decision", "reason", "arguments", "request_id"}:
            raise Invalid(FORMS)
        if given.get("request_id") not in (None, str(gate.uid)):
            raise Conflict("This request is not the one that is open.", code="runs.not_active")
        word, reason = str(given.get("decision", "")), str(given.get("reason") or "")
        if given.get("arguments") is not None:
            answer["arguments"] = _checked_arguments(gate, given["arguments"])
    word, reason = word.strip().lower(), reason.strip()
    if reason:
        answer["reason"] = reason
    if word in ("approve", "yes", "allow"):
        return GateStatus.ALLOWED, answer
    if word in ("deny", "no"):
        return GateStatus.DENIED, answer
    if word == "retry" and gate.kind == GateKind.UNKNOWN:
        return GateStatus.ALLOWED, answer | {"retry": True}
    raise Invalid(FORMS)


def _checked_arguments(gate: Gate, arguments: Any) -> dict[str, Any]:
    """Edited arguments that fit the tool. Raises `Invalid`."""
    tool = tools.REGISTRY.get(gate.tool_call.name)
    wrong = tool.check(arguments) if tool else "the tool is gone"
    if gate.kind != GateKind.APPROVAL or wrong:
        raise Invalid(f"arguments: {wrong or 'only an approval takes them'}.")
    checked: dict[str, Any] = clean(arguments)
    return checked
