"""A model that makes the same tool calls over and over: it is told, and then a person is asked."""

import json
from collections.abc import Sequence

from teammates.providers.base import ChatMessage, Turn, UserMessage
from teammates.text import read_json

TOLD_AT = 3  # times in a row
ASKED_AT = 5  # and at each further such number
NOTE = (
    "(You have made the same tool call with the same arguments {} times in a row, and its result "
    "will not become another one. Try something else, or say what is missing.)"
)


def count_repeats(conversation: Sequence[ChatMessage]) -> int:
    """How often in a row the model asked for the calls that it asked for last; 0: for none."""
    count, last = 0, None
    for said in reversed(conversation):
        if isinstance(said, UserMessage):
            break
        if isinstance(said, Turn):
            calls = [(one.name, _as_it_means(one.arguments)) for one in said.tool_requests]
            if not calls or (last is not None and calls != last):
                break
            count, last = count + 1, calls
    return count


def with_note(conversation: Sequence[ChatMessage]) -> list[ChatMessage]:
    """What is sent: a note behind it where the model goes in circles. It is not kept."""
    count = count_repeats(conversation)
    note = [UserMessage(NOTE.format(count))] if count >= TOLD_AT else []
    return [*conversation, *note]


def _as_it_means(arguments: str) -> str:
    try:
        return json.dumps(read_json(arguments or "{}"), sort_keys=True)
    except ValueError:
        return arguments
