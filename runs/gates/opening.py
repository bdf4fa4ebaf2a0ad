"""Asking a person: a gate is opened, and its run waits in the database."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from runs.events.payloads import NewEvent, called
from runs.gates import cards, decisions
from runs.gates.decisions import Decision
from runs.lifecycle import transitions, waiting
from runs.lifecycle.transitions import Lease
from runs.models import ASKING, DecidedVia, Gate, GateKind, GateStatus, Run, ToolCall
from teammates.access import Access
from teammates.errors import TooMany
from teammates.models import PermissionMode, ToolSetting
from teammates.text import clean, visible
from teammates.tools import ask
from teammates.tools.base import Tool
from teammates.tools.masking import masked
from teammates.types import JSON

MOST_OUTSIDE = 100  # open requests of programs, per run


def open_gate(
    lease: Lease,
    pending: list[NewEvent],
    *,
    call: ToolCall,
    tool: Tool,
    arguments: JSON,
    kind: GateKind,
    mode: str | None = None,
    why: str = "",
    setting: ToolSetting | None = None,
    outside: bool = False,
) -> bool:
    """Stop the run at a new gate; the worker's slot is free and the run waits in the database.

    False, and nothing written, if the run's mode is no longer `mode`: then the call is judged anew.
    """
    with transitions.holding(lease, pending) as run:
        if mode is not None and run.permission_mode != mode:
            return False
        gate = cards.compose(
            run, call, tool, arguments, kind, why=why, setting=setting, outside=outside
        )
        gate.expires_at = _expiry(gate, setting)
        call.arguments, call.title = clean(arguments), tool.title[:200]
        call.summary = visible(clean(tool.say(masked(arguments))))
        call.save(update_fields=["arguments", "title", "summary"])
        data = {
            "request_id": str(gate.uid),
            "tool_call_id": call.call_id,
            "tool_name": call.name,
            **cards.event_data(gate),
        }
        events = [NewEvent("run.waiting_for_input", data)]
        if kind in ASKING:
            data["requested_schema"] = cards.schema_of(gate.request)
            events.insert(0, called(call))  # a question is nothing but its gate
        waiting.wait_locked(run, gate, events)
        return True


def ask_outside(access: Access, run: Run, *, tool_name: str, arguments: JSON) -> Gate:
    """A gate for a program that asks about a call of its own and polls for the decision (contract
    v2 4.6). The run does not wait for it; in autonomous mode it is allowed at once."""
    access.require("data.runs.write", run)
    if (
        Gate.objects.filter(run=run, tool_call=None, status=GateStatus.PENDING).count()
        >= MOST_OUTSIDE
    ):
        raise TooMany(f"{MOST_OUTSIDE} requests of this run wait already; decide some first.")
    shown = masked(clean(arguments))
    gate = Gate(
        run=run,
        kind=GateKind.APPROVAL,
        prompt=visible(f"Use {tool_name}"),
        tool_name=tool_name[:255],
        request=clean(arguments),
        card={
            "title": visible(tool_name)[:200],
            "mate": run.teammate.name,
            "risk": "medium",
            "preview": "fields",
            "fields": cards.fields_of(shown),
            "hidden": cards.hides(shown, clean(arguments)),
            "can_edit": False,
            "can_remember": False,
            "remember_default": False,
        },
    )
    gate.save(force_insert=True)
    if run.permission_mode == PermissionMode.AUTONOMOUS and not run.is_finished:
        return decisions.decide(None, gate, Decision(GateStatus.ALLOWED), via=DecidedVia.MODE)
    return gate


def _expiry(gate: Gate, setting: ToolSetting | None) -> Any:
    now = timezone.now()
    if gate.kind == GateKind.QUESTION and ask.recommended(gate.request):
        at_once = (gate.request.get("metadata") or {}).get("source") == "non-blocking"
        return now if at_once else now + timedelta(seconds=settings.AUTO_CONTINUE_SECONDS)
    if gate.kind == GateKind.APPROVAL and setting and setting.expires_after:
        return now + timedelta(minutes=setting.expires_after)
    return None
