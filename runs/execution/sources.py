"""The passages of documents that an answer cites."""

import re
from collections.abc import Sequence

from runs.events.payloads import fitting
from teammates.providers.base import ChatMessage, ToolResult
from teammates.quoting import data_of
from teammates.text import read_json
from teammates.tools.documents import SEARCH_DOCUMENTS
from teammates.tools.masking import masked
from teammates.types import JSON

MOST_SOURCES = 20
LONGEST_EXCERPT = 1_500  # bytes in an event
_CITED = re.compile(r"\[(\d{1,4})\](?!\()")


def cited(text: str, conversation: Sequence[ChatMessage]) -> list[JSON]:
    """What of the passages that a run found its answer cites as [number], in that order: number,
    document, place, text, document_id and passage of each."""
    found: dict[int, JSON] = {}
    for said in conversation:
        if isinstance(said, ToolResult) and said.name == SEARCH_DOCUMENTS.name:
            found |= _passages(said)
    numbers = dict.fromkeys(int(number) for number in _CITED.findall(text)) if found else {}
    sources = [found[number] for number in numbers if number in found][:MOST_SOURCES]
    return [one | {"text": fitting(masked(one["text"]), LONGEST_EXCERPT)} for one in sources]


def _passages(said: ToolResult) -> dict[int, JSON]:
    """By their numbers."""
    try:
        return {one["number"]: one for one in read_json(data_of(said.content))["passages"]}
    except (ValueError, KeyError, TypeError):  # of a call that failed, or a result that was cut
        return {}
