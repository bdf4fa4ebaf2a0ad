"""When a conversation nears its model's window, its beginning is replaced by a summary.

A compaction is a step like a model call, with its cost. The request itself and the newest steps
stay as they are. A summary that is no shorter than what it stands for is not used.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Count

from runs.execution import context
from runs.models import Run, Step, StepKind, StepStatus
from teammates.models import Model
from teammates.providers.base import (
    ChatMessage,
    ModelRequest,
    ToolResult,
    Turn,
    UserMessage,
    estimate_tokens,
)
from teammates.tools.base import Tool

TRIGGER = 0.8  # of the window, estimated
SMALL_WINDOW = 32_768  # tokens
KEPT = 0.3  # of the window, for the newest steps
LONGEST_QUOTE = 6_000  # characters of one thing that was said, in what is summarised
SUMMARY_TOKENS = 2_048
INSTRUCTIONS = (
    "Summarise this conversation for yourself, so that you can go on with only the summary: what "
    "was asked, what was decided, what was done with which result, which files and names matter, "
    "and what is left to do. Leave nothing out that the work needs. Answer with the summary alone."
)


@dataclass(frozen=True)
class Plan:
    """What is to be summarised, and which steps the summary will cover."""

    request: ModelRequest
    covers_until: int
    before: int  # estimated tokens of what is replaced


def size_of(instructions: str, conversation: list[ChatMessage]) -> int:
    """Estimated tokens."""
    return estimate_tokens(instructions) + sum(map(_tokens, conversation))


def size_of_request(
    route: Model, instructions: str, conversation: list[ChatMessage], tools: Iterable[Tool]
) -> int:
    """Estimated tokens of what is sent; tools count where they are much of what a model reads."""
    size = size_of(instructions, conversation)
    if route.context_window <= SMALL_WINDOW:
        size += sum(estimate_tokens(f"{tool.description}{tool.schema}") for tool in tools)
    return size


def is_near(route: Model, size: int) -> bool:
    """Whether a request of so many tokens nears the model's window."""
    return size > route.context_window * TRIGGER


def plan(
    run: Run,
    route: Model,
    conversation: list[ChatMessage],
    *,
    keeps_nothing: bool = False,
    window: int | None = None,
) -> Plan | None:
    """What to compact before the next model call; None if there is nothing to replace. The newest
    steps stay as they are, unless `keeps_nothing`. `window`: tokens, if it is known better."""
    window = min(window or route.context_window, route.context_window)
    done = Step.objects.filter(run=run, status=StepStatus.DONE).only("kind", "covers_until")
    done = done.order_by("-number")
    newest_step = done.first()
    is_new = newest_step is None or newest_step.kind != StepKind.COMPACTION
    if not is_new and not keeps_nothing:
        return None  # nothing came since the last attempt
    last = done.filter(kind=StepKind.COMPACTION, covers_until__isnull=False).first()
    begins = last.covers_until or 0 if last else 0
    room = 0 if keeps_nothing else int(window * KEPT)
    until = _boundary(run, conversation, begins, room)
    if last is not None and until <= begins:
        return None
    newest = context.steps_of(run, after=until)
    replaced = conversation[: len(conversation) - len(newest)]
    if len(replaced) < 2:
        return None  # the request alone
    quoted = "\n\n".join(_quote(said) for said in replaced)
    budget = int(window * 0.5) * 4  # bytes
    if len(quoted.encode()) > budget:
        half = budget // 2
        raw = quoted.encode()
        quoted = (
            raw[:half].decode(errors="ignore") + "\n\n[…]\n\n" + raw[-half:].decode(errors="ignore")
        )
    request = ModelRequest(
        model=route.name,
        instructions=INSTRUCTIONS,
        conversation=[UserMessage(quoted)],
        max_output_tokens=min(SUMMARY_TOKENS, route.max_output_tokens),
    )
    return Plan(request, until, sum(map(_tokens, replaced)))


def _boundary(run: Run, conversation: list[ChatMessage], begins: int, room: int) -> int:
    """The last step that is replaced: behind it, no more than `room` tokens, in whole steps (a
    call stays with its result)."""
    steps = Step.objects.filter(run=run, number__gt=begins).turns().order_by("number")
    rows = list(steps.annotate(calls=Count("tool_calls")).values_list("number", "kind", "calls"))
    said = {number: 1 if kind == StepKind.MODEL else calls for number, kind, calls in rows}
    ends = [begins, *(number for number, kind, _ in rows if kind == StepKind.TOOLS)]
    for end in ends:
        behind = sum(count for number, count in said.items() if number > end)
        kept = conversation[len(conversation) - behind :]  # as the model is shown it
        if sum(map(_tokens, kept)) <= room:
            return end
    return ends[-1]


def _tokens(said: ChatMessage) -> int:
    return estimate_tokens(_text(said)) + sum(one.tokens for one in said.media)


def _text(said: ChatMessage) -> str:
    if isinstance(said, UserMessage):
        return said.text
    if isinstance(said, ToolResult):
        return said.content
    return said.text + "".join(request.arguments for request in said.tool_requests)


def _quote(said: ChatMessage) -> str:
    if isinstance(said, Turn):
        calls = "".join(f"\n[calls {r.name} with {r.arguments}]" for r in said.tool_requests)
        text, who = said.text + calls, "You"
    elif isinstance(said, ToolResult):
        text, who = said.content, f"Result of {said.name}"
    else:
        text, who = said.text, "Person"
    shown = "".join(f"\n[{one.name}]" for one in said.media)
    return f"{who}: {text[:LONGEST_QUOTE]}{shown}"
