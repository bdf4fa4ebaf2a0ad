"""What was said in a run, turn by turn, and what came of it.

A turn's number is that of its step plus one, so it never changes; the request is number 1.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import F

from runs.events import payloads
from runs.models import Run, Step, StepKind, ToolCall
from teammates.errors import Invalid
from teammates.providers.base import TextPart, Thinking, ToolRequest, Turn
from teammates.tools.masking import masked
from teammates.types import JSON


@dataclass
class RunMessage:
    """One turn; `blocks` are parts in the vocabulary of contract v2 2.1."""

    sequence: int
    role: str
    text: str
    created_at: datetime
    blocks: list[JSON] = field(default_factory=list)
    step: Step | None = None
    trace: list[JSON] | None = None


def messages_of(
    run: Run,
    *,
    after: int | None = None,
    before: int | None = None,
    tail: bool = False,
    limit: int = 500,
    with_trace: bool = False,
) -> list[RunMessage]:
    """A page of the run's turns, oldest first: from the start or behind `after`; with `tail` the
    newest, with `before` the newest before that. Raises `Invalid` for two of them at once."""
    if sum((after is not None, before is not None, tail)) > 1:
        raise Invalid("Give one of after_sequence, before_sequence and tail.")
    from_the_end = tail or before is not None
    steps = Step.objects.filter(run=run).turns()
    if after is not None:
        steps = steps.filter(number__gte=after)
    if before is not None:
        steps = steps.filter(number__lt=before - 1)
    order = F("number").desc() if from_the_end else F("number").asc()
    page = list(steps.defer("request").order_by(order)[:limit])
    said = [_of_step(step) for step in (reversed(page) if from_the_end else page)]
    _fill_in_results(run, said)
    if with_trace:
        _fill_in_traces(run, said)
    begins_here = (after or 0) < 1 and (before is None or before > 1)
    if run.prompt is not None and begins_here and not (from_the_end and len(said) == limit):
        text = run.prompt.content
        first = RunMessage(1, "user", text, run.prompt.created_at, [_text(text)])
        said = [first, *said]
    return said[-limit:] if from_the_end else said[:limit]


def _of_step(step: Step) -> RunMessage:
    at = step.finished_at or step.started_at
    if step.kind == StepKind.TOOLS:
        return RunMessage(step.number + 1, "user", "", at, step=step)
    turn = Turn.from_json(step.response or {"parts": [], "finish_reason": ""})
    return RunMessage(
        step.number + 1, "assistant", turn.text, at, [_block(part) for part in turn.parts], step
    )


def _block(part: Any) -> JSON:
    match part:
        case TextPart():
            return _text(part.text)
        case Thinking():
            return {"type": "thinking", "thinking": part.text}
        case ToolRequest():
            return {
                "type": "tool_use",
                "id": part.call_id,
                "name": part.name,
                "input": part.arguments,
            }
    return {"type": "unknown"}


def _text(text: str) -> JSON:
    return {"type": "text", "text": text}


def _fill_in_results(run: Run, said: list[RunMessage]) -> None:
    """Beside each batch of calls, what they gave; and to each request, its arguments as values."""
    wanted = [one.step.pk for one in said if one.step and one.step.kind == StepKind.TOOLS]
    calls = list(ToolCall.objects.filter(run=run, step__in=wanted).order_by("number"))
    by_step: dict[int, list[ToolCall]] = {}
    for call in calls:
        by_step.setdefault(call.step_id, []).append(call)
    arguments = {
        call.call_id: payloads.shown_arguments(call)
        for call in ToolCall.objects.filter(run=run, call_id__in=_requested(said))
    }
    for one in said:
        for block in one.blocks:
            if block["type"] == "tool_use":
                block["input"] = arguments.get(block["id"], {})
        if one.step is not None:
            one.blocks += [_result(call) for call in by_step.get(one.step.pk, [])]


def _requested(said: list[RunMessage]) -> list[str]:
    return [block["id"] for one in said for block in one.blocks if block["type"] == "tool_use"]


def _result(call: ToolCall) -> JSON:
    return {
        "type": "tool_result",
        "tool_use_id": call.call_id,
        "is_error": bool(call.error),
        "content": call.error or masked(call.result),
    }


def _fill_in_traces(run: Run, said: list[RunMessage]) -> None:
    """To each turn the events of its step, in one query."""
    steps = [one.step for one in said if one.step is not None]
    if not steps:
        return
    first = min(step.first_seq for step in steps)
    last = max(step.last_seq or step.first_seq for step in steps)
    rows = list(run.events.filter(seq__gte=first, seq__lte=last).order_by("seq"))
    for one in said:
        if one.step is None:
            continue
        ends = one.step.last_seq or one.step.first_seq
        one.trace = [
            {"seq": row.seq, "type": row.type, "data": row.data}
            for row in rows
            if one.step.first_seq <= row.seq <= ends
        ]


def count_of(run: Run) -> int:
    """How many messages the run has."""
    return Step.objects.filter(run=run).turns().count() + (run.prompt_id is not None)
