"""What a decision changes in its run."""

import json
from dataclasses import replace
from typing import Any

from django.utils import timezone

from runs.events.payloads import NewEvent, called, fitting_json
from runs.gates import cards
from runs.models import (
    CallStatus,
    Gate,
    GateKind,
    GateStatus,
    Run,
    ToolCall,
)
from runs.tools import toolbox
from teammates.access import Access
from teammates.errors import Invalid
from teammates.integrations import tool_policies
from teammates.models import PolicySource
from teammates.text import clean
from teammates.tools import ask
from teammates.tools.masking import MASK, unmasked
from teammates.types import JSON


def edited_arguments(run: Run, gate: Gate, arguments: Any) -> JSON:
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


def write_outcome(run: Run, gate: Gate, call: ToolCall) -> list[NewEvent]:
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
    denied = _call_data(call) | {"reason": word, "message": said}
    return [called(call), NewEvent("tool.denied", denied)]


def _answered(run: Run, gate: Gate, call: ToolCall, answer: JSON) -> list[NewEvent]:
    call.status, call.result = CallStatus.DONE, {"answers": answer["answers"]}
    call.finished_at = timezone.now()
    call.save()
    if gate.kind == GateKind.PLAN and _approves_plan(gate):
        run.plan_approved_at = timezone.now()
        run.save(update_fields=["plan_approved_at"])
    return [NewEvent("tool.result", _call_data(call) | {"result": fitting_json(call.result)})]


def _approves_plan(gate: Gate) -> bool:
    """Only the word itself, perhaps with a remark behind a colon: prose is no approval."""
    given = (gate.answer or {}).get("answers", {})
    asked = next(one for one in gate.request["questions"] if one.get("header") == ask.PLAN_HEADER)
    text = str(given.get(asked["question"], "")).strip().lower()
    return text in ("approve", "approve (recommended)") or text.startswith("approve:")


def _told_what_happened(gate: Gate, call: ToolCall, answer: JSON) -> list[NewEvent]:
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
    return [NewEvent("tool.result", _call_data(call) | known)]


def _call_data(call: ToolCall) -> JSON:
    return {"tool_call_id": call.call_id, "tool_name": call.name}
