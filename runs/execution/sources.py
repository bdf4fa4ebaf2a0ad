"""The passages of documents that an answer cites."""

import re

from config.database import in_db
from runs.events.payloads import fitting, size_of
from runs.models import CallStatus, Run
from teammates.tools.documents import SEARCH_DOCUMENTS
from teammates.tools.masking import masked
from teammates.types import JSON

LARGEST = 30_000  # bytes of all of them in an event
LONGEST_EXCERPT, LONGEST_NAME = 1_500, 300  # bytes
_CITED = re.compile(r"\[(\d{1,4})\](?!\()")


async def sources_of(run: Run, text: str) -> list[JSON]:
    """What of the passages that a run found its answer cites as [number], in that order: number,
    document, place, text, document_id, passage and digest of each. A query where there are such
    marks."""
    numbers = list(dict.fromkeys(int(number) for number in _CITED.findall(text)))
    return await in_db(_found, run, numbers) if numbers else []


def _found(run: Run, numbers: list[int]) -> list[JSON]:
    calls = run.tool_calls.filter(name=SEARCH_DOCUMENTS.name, status=CallStatus.DONE)
    found: dict[int, JSON] = {}
    for result in calls.values_list("result", flat=True):
        if isinstance(result, dict):  # one that was too large is in a file
            found |= {one["number"]: one for one in result.get("passages", [])}
    sources: list[JSON] = []
    room = LARGEST
    for number in numbers:
        if number in found:
            source = _fitted(found[number])
            room -= size_of(source)
            if room < 0:
                break
            sources.append(source)
    return sources


def _fitted(passage: JSON) -> JSON:
    names = {name: fitting(masked(passage[name]), LONGEST_NAME) for name in ("document", "place")}
    return passage | names | {"text": fitting(masked(passage["text"]), LONGEST_EXCERPT)}
