"""What a gate's card says. The words are the registry's and the server's, never the model's: what
the teammate itself wrote is marked as such. Secrets are masked.
"""

import json
import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from runs.events.payloads import NewEvent, fitting, fitting_json
from runs.gates import policy
from runs.models import ASKING, Gate, GateKind, Run, Step, StepKind, ToolCall
from teammates.models import ToolSetting
from teammates.providers.base import Turn
from teammates.text import clean, visible
from teammates.tools import ask
from teammates.tools.base import Tool
from teammates.tools.masking import masked
from teammates.types import JSON
from teammates.web.diffs import changed_lines
from threads import files

LONGEST_FIELD = 4000  # characters
LARGEST_DIFFED = 40_000  # bytes; it is compared while the run's row is held
LONGEST_LINE = 400  # characters of a line of a diff
MOST_DIFFED = 120  # lines
# Bytes in an event, which holds 64 KB in all; the gate's row has the whole.
EVENT_REQUEST, EVENT_FIELDS, EVENT_DIFF, EVENT_EDITS = 16_000, 10_000, 8_000, 10_000
EVENT_SCHEMA = 12_000
REMEMBER_SAFELY = ("low",)  # a standing yes is only proposed where little can go wrong


def compose(
    run: Run,
    call: ToolCall,
    tool: Tool,
    arguments: JSON,
    kind: GateKind,
    *,
    why: str = "",
    setting: ToolSetting | None = None,
    outside: bool = False,
) -> Gate:
    """A new gate with its card, not saved. Queries the call's surroundings."""
    request = masked(clean(arguments))
    prompt = visible(tool.say(request))
    if kind == GateKind.UNKNOWN:
        prompt += ": this may or may not have happened."
    can_remember = kind == GateKind.APPROVAL and policy.may_be_remembered(tool, setting)
    card: JSON = {
        "title": tool.title,
        "mate": run.teammate.name,
        "task": None if run.task.is_ad_hoc else run.task.name,
        "why": why,
        "consequence": tool.consequence,
        "risk": tool.risk,
        "preview": tool.preview,
        "fields": [] if kind in ASKING else fields_of(request),
        "endpoint": tool.endpoint,
        "diff": _diff(run, request) if tool.preview == "file" else [],
        "said": fitting(visible(_said_before(call)), 2_000),
        "hidden": hides(request, clean(arguments)),
        "outside": outside,
        "can_remember": can_remember,
        "remember_default": can_remember and tool.risk in REMEMBER_SAFELY,
        "version": tool.version,
    }
    if kind == GateKind.UNKNOWN:
        card["known"] = _known(call)
    return Gate(
        run=run,
        tool_call=call,
        kind=kind,
        prompt=clean(prompt),
        tool_name=tool.name,
        request=request,
        card=clean(card),
        digest=tool.digest(arguments),
        approvals_needed=setting.approvals if setting and kind == GateKind.APPROVAL else 1,
    )


def hides(request: Any, arguments: Any) -> bool:
    """Whether a masked request shows less than what would be done: then whoever allows it must have
    looked at the rest."""
    return bool(request != arguments)


def _diff(run: Run, request: JSON) -> list[list[str]]:
    """Sign and line of what writing a file would change; empty if there is none of that name."""
    file = files.find_file(run.thread, str(request.get("name", "")))
    if file is None or file.size > LARGEST_DIFFED:
        return []
    before = files.read_file(file).decode(errors="replace")
    lines = changed_lines(before, str(request.get("content", "")), around=2)
    shown = [
        [sign, visible(line if len(line) < LONGEST_LINE else line[:LONGEST_LINE] + "… (cut)")]
        for sign, line in lines[:MOST_DIFFED]
    ]
    if len(lines) > MOST_DIFFED:
        shown.append(["…", f"and {len(lines) - MOST_DIFFED} more lines"])
    return shown or [[" ", "Nothing would change."]]


def fields_of(request: Any) -> list[list[str]]:
    """Label and value of each argument, for people."""
    if not isinstance(request, dict):
        return []
    return [[_label(visible(name)), visible(_shown(value))] for name, value in request.items()]


def _label(name: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]+", " ", name).strip()
    return words[:1].upper() + words[1:]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
    return text if len(text) <= LONGEST_FIELD else text[: LONGEST_FIELD - 1] + "…"


def _said_before(call: ToolCall) -> str:
    """What the teammate said in the turn that makes this call, in its own words."""
    turn = (
        Step.objects.filter(run_id=call.run_id, kind=StepKind.MODEL, number__lt=call.step.number)
        .only("response")
        .order_by("-number")
        .first()
    )
    return Turn.from_json(turn.response).text.strip() if turn and turn.response else ""


def _known(call: ToolCall) -> list[str]:
    """What is known of a call that broke off."""
    known = []
    if call.started_at:
        known.append(f"It was begun at {call.started_at:%H:%M:%S} UTC on {call.started_at:%-d %b}.")
    if call.error:
        known.append(call.error)
    else:
        known.append("The worker that made it went away before it had an answer.")
    known.append("It was not repeated.")
    return known


@dataclass(frozen=True)
class GateCard:
    """A gate as pages show it: in a thread and under *Needs you* alike."""

    id: str
    run_id: int
    request_id: str
    kind: str
    prompt: str
    request: Any
    card: JSON
    digest: str
    is_open: bool
    decision: str = ""
    by: str = ""
    via: str = ""
    content: str = ""
    reason: str = ""
    retry: bool = False
    edits: tuple[dict[str, str], ...] = ()
    is_cut: bool = False  # too large for an event: decided on the page that reads the row
    goes_on_at: datetime | None = None
    goes_on_with: str = ""
    approvals_needed: int = 1
    agreed: tuple[str, ...] = ()
    whole: Any = None  # the exact arguments, for whoever decides and wants to see what is hidden
    template: str = "gates/_card.html"

    @property
    def mate(self) -> str:
        return str(self.card.get("mate") or "The teammate")

    @property
    def is_high_risk(self) -> bool:
        return self.card.get("risk") == "high"

    @property
    def asks_in_words(self) -> bool:
        return self.kind in ASKING

    @property
    def label(self) -> str:
        return {
            "question": "Question",
            "plan": "Plan",
            "budget": "Budget",
            "loop": "In circles",
        }.get(self.kind, "Approval")

    @property
    def note_hint(self) -> str:
        return f"A note to the teammate{', needed to deny' if self.is_high_risk else ' (optional)'}"


def shown_event(run_id: int, element: str, data: JSON) -> GateCard:
    """The card of a `run.waiting_for_input` event."""
    at = data.get("goes_on_at")
    return GateCard(
        id=element,
        run_id=run_id,
        request_id=data["request_id"],
        kind=data["kind"],
        prompt=data["prompt"],
        request=data["arguments"],
        card=data.get("card") or {"fields": fields_of(data["arguments"])},
        digest=data.get("digest", ""),
        is_open=True,
        is_cut=data.get("is_cut", False),
        goes_on_at=datetime.fromisoformat(at) if at else None,
        goes_on_with=data.get("goes_on_with", ""),
        approvals_needed=data.get("approvals_needed", 1),
    )


def shown_gate(gate: Gate, element: str, *, whole: Any = None) -> GateCard:
    """The card of a gate's row, with the `whole` of its arguments for whoever asked to see what is
    hidden. Queries its votes if two people must agree."""
    uncut = {
        "arguments": masked(gate.request),
        "prompt": gate.prompt,
        "card": gate.card,
        "is_cut": False,
    }
    data = event_data(gate) | uncut | {"request_id": str(gate.uid)}
    shown = replace(shown_event(gate.run_id, element, data), whole=whole)
    if gate.approvals_needed > 1:
        agreed = tuple(vote.user.display_name for vote in gate.votes.select_related("user"))
        shown = replace(shown, agreed=agreed)
    return shown if gate.is_pending else decided(shown, decision_data(gate))


def decided(shown: GateCard, data: JSON) -> GateCard:
    """The card behind the `run.input_provided` event with this data."""
    return replace(
        shown,
        is_open=False,
        decision=data["decision"],
        by=data.get("by") or "",
        via=data.get("via") or "",
        content=data.get("content") or "",
        reason=data.get("reason") or "",
        retry=bool(data.get("retry")),
        edits=tuple(data.get("edits") or ()),
    )


def decision_data(gate: Gate) -> JSON:
    """What `run.input_provided` says of a decided gate."""
    return {
        "request_id": str(gate.uid),
        "kind": gate.kind,
        "decision": gate.status,
        "content": fitting(_in_words(gate)),
        "reason": fitting((gate.answer or {}).get("reason", "")),
        "retry": bool((gate.answer or {}).get("retry")),
        "by": gate.decided_by.display_name if gate.decided_by else None,
        "via": gate.decided_via,
        "edits": _fitting_edits((gate.answer or {}).get("edits", [])),
        "remembered": gate.remembered_id is not None,
    }


def _fitting_rows(rows: list[list[str]], budget: int) -> list[list[str]]:
    """As many rows as fit, and a last one that says so."""
    kept: list[list[str]] = []
    for row in rows:
        budget -= len(json.dumps(row, ensure_ascii=False).encode())
        if budget < 0:
            return [*kept, ["…", f"and {len(rows) - len(kept)} more"]]
        kept.append(row)
    return kept


def _fitting_edits(changed: list[dict[str, str]]) -> list[dict[str, str]]:
    budget = EVENT_EDITS // max(2 * len(changed), 1)
    return [
        one | {side: fitting(one[side], budget) for side in ("before", "after")}
        for one in changed[:100]
    ]


def _in_words(gate: Gate) -> str:
    answer = gate.answer or {}
    if gate.asks_in_words:
        return "\n".join(answer.get("answers", {}).values())
    words = {"allowed": "approve", "denied": "deny", "timeout": "expired"}
    word = "retry" if answer.get("retry") else words.get(gate.status, gate.status)
    return f"{word}: {answer['reason']}" if answer.get("reason") else word


def edits(before: Any, after: JSON) -> list[dict[str, str]]:
    """What a person changed in a call's arguments, both sides masked."""
    before = before or {}
    names = [*before, *(name for name in after if name not in before)]
    old, new = masked(before), masked(after)
    return [
        {"name": _label(name), "before": _side(old, name), "after": _side(new, name)}
        for name in names
        if before.get(name) != after.get(name)
    ]


def _side(arguments: JSON, name: str) -> str:
    return _shown(arguments[name])[:2000] if name in arguments else ""


def asked_in_words(gate: Gate) -> NewEvent:
    """The `run.waiting_for_input` event of a gate that no tool call opened."""
    # Programs know questions by the name of this tool (contract v2 4.5).
    about = {
        "request_id": str(gate.uid),
        "tool_call_id": str(gate.uid),
        "tool_name": ask.ASK_USER.name,
        "requested_schema": schema_of(gate.request),
    }
    return NewEvent("run.waiting_for_input", about | event_data(gate))


def schema_of(request: JSON) -> Any:
    """The questions as a JSON schema, for clients that draw a form."""
    properties = {}
    for asked in request["questions"]:
        one: JSON = {"type": "string", "title": asked["question"]}
        if options := [option["label"] for option in asked.get("options", [])]:
            one["examples"] = options
        properties[asked.get("header") or asked["question"]] = one
    return fitting_json({"type": "object", "properties": properties}, EVENT_SCHEMA)


def event_data(gate: Gate) -> JSON:
    """What `run.waiting_for_input` says of a gate: its card, as far as an event holds it."""
    whole = masked(gate.request)
    request = fitting_json(whole, EVENT_REQUEST)
    card = gate.card | {
        "fields": _fitting_rows(gate.card.get("fields", []), EVENT_FIELDS),
        "diff": _fitting_rows(gate.card.get("diff", []), EVENT_DIFF),
    }
    goes_on = ask.recommended(gate.request) if gate.kind == GateKind.QUESTION else {}
    return {
        "kind": gate.kind,
        "prompt": fitting(gate.prompt, 4_000),
        "message": fitting(gate.prompt, 4_000),
        "arguments": request,
        "is_cut": request is not whole,
        "card": card,
        "digest": gate.digest,
        "approvals_needed": gate.approvals_needed,
        "goes_on_at": gate.expires_at.isoformat() if gate.expires_at else None,
        "goes_on_with": ", ".join(
            label.removesuffix(ask.RECOMMENDED).strip() for label in goes_on.values()
        ),
    }
