"""What an event says: its data, cut to what an event holds, without secrets."""

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from runs.models import ToolCall
from teammates.text import json_text
from teammates.tools.masking import masked, masked_json
from teammates.types import JSON

CUT = " … [cut]"
LARGEST_DATA = 64 * 1024  # bytes of one event's data; larger results become files
LONGEST_ESCAPE = 6  # bytes of one character: \u0001


@dataclass(frozen=True)
class NewEvent:
    type: str
    data: JSON = field(default_factory=dict)


def called(call: ToolCall) -> NewEvent:
    """The `tool.call` event of a call."""
    return NewEvent(
        "tool.call",
        {
            "tool_call_id": call.call_id,
            "tool_name": call.name,
            "display_name": call.title or call.name,
            "summary": fitting(call.summary, 2_000),
            "arguments": fitting_json(shown_arguments(call)),
        },
    )


def shown_arguments(call: ToolCall) -> Any:
    """A call's arguments with secrets masked, also as the model wrote them."""
    arguments = call.arguments or {}
    if not call.title and set(arguments) == {"raw"}:
        return masked_json(arguments["raw"])
    return masked(arguments)


def as_json(data: JSON) -> str:
    text = _encoded(data)
    if len(text) > LARGEST_DATA // 4 and len(text.encode()) > LARGEST_DATA:
        raise ValueError("An event's data must not exceed 64 KB; keep large results in files.")
    return text


def fitting(text: str, limit: int = 48_000) -> str:
    """Text that takes at most `limit` bytes of an event; the whole of it is in the step."""
    if len(text) * LONGEST_ESCAPE <= limit or size_of(text) <= limit:
        return text
    longest = bisect_right(range(limit + 1), limit, key=lambda end: size_of(text[:end])) - 1
    return text[:longest] + CUT


def fitting_json(value: Any, limit: int = 48_000) -> Any:
    """A value that takes at most `limit` bytes of an event; a larger one is cut and says so."""
    text = _encoded(value)
    return value if len(text.encode()) <= limit else {"cut": fitting(text, limit)}


def size_of(value: Any) -> int:
    """Bytes of a value in an event: quotes, and what is not printed, are escaped there."""
    return len(_encoded(value).encode())


def _encoded(value: Any) -> str:
    return json_text(value)
