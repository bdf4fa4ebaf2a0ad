"""A model that makes the same tool call over and over: it is told, and then a person is asked."""

import json
from collections import Counter
from collections.abc import Sequence

from teammates.providers.base import ChatMessage, ToolResult, Turn, UserMessage
from teammates.text import read_json

BAD_CALL = "The call was not made: "  # of what does not fit its tool; that is bounded by itself
TOLD_AT = 3  # times
ASKED_AT = 5  # and whenever five more have come
WINDOW = 50  # turns that are looked back
NOTE = (
    "(You have made the same tool call with the same arguments {} times and got the same result "
    "each time. Try something else, or say what is missing.)"
)


def count_repeats(conversation: Sequence[ChatMessage]) -> int:
    """How often the model asked for one of the calls of its last turn, in the turns before it too,
    and was told the same each time; 0 if it asked for none."""
    return max((same for same, _ in _repeats(conversation)), default=0)


def count_to_ask_about(conversation: Sequence[ChatMessage]) -> int:
    """As `count_repeats`, if the calls of the last turn are the next five of one kind; else 0."""
    return max(
        (
            same
            for same, new in _repeats(conversation)
            if same // ASKED_AT > (same - new) // ASKED_AT
        ),
        default=0,
    )


def _repeats(conversation: Sequence[ChatMessage]) -> list[tuple[int, int]]:
    """Of each call in the last turn: how often it was asked for with the same result, and how many
    of those times are in this turn."""
    said = _recent(conversation)
    told = [one for one in said if isinstance(one, ToolResult)]
    if told and told[-1].failed and told[-1].content.startswith(BAD_CALL):
        return []
    results = {one.call_id: one.content for one in told}
    turns = [one for one in said if isinstance(one, Turn)]
    if not turns:
        return []
    made: dict[tuple[str, str], list[str | None]] = {}
    for turn in turns:
        for call in turn.tool_requests:
            key = call.name, _as_it_means(call.arguments)
            made.setdefault(key, []).append(results.get(call.call_id))
    last = Counter((call.name, _as_it_means(call.arguments)) for call in turns[-1].tool_requests)
    return [(_same_at_the_end(made[key]), new) for key, new in last.items()]


def with_note(conversation: Sequence[ChatMessage]) -> list[ChatMessage]:
    """What is sent: a note behind it where the model goes in circles. It is not kept."""
    count = count_repeats(conversation)
    note = [UserMessage(NOTE.format(count))] if count >= TOLD_AT else []
    return [*conversation, *note]


def _recent(conversation: Sequence[ChatMessage]) -> list[ChatMessage]:
    """What came since somebody said something, of the last few turns."""
    recent: list[ChatMessage] = []
    turns = 0
    for said in reversed(conversation):
        turns += isinstance(said, Turn)
        if isinstance(said, UserMessage) or turns > WINDOW:
            break
        recent.append(said)
    return recent[::-1]


def _same_at_the_end(results: list[str | None]) -> int:
    """How many results at the end are the same; calls that have none yet (None) go along."""
    known = [result for result in results if result is not None]
    if not known:
        return len(results)
    other = next((n for n, one in enumerate(reversed(known)) if one != known[-1]), len(known))
    return other + results.count(None)


def _as_it_means(arguments: str) -> str:
    try:
        return json.dumps(read_json(arguments or "{}"), sort_keys=True)
    except ValueError:
        return arguments
