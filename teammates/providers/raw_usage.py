"""What a provider sends of a call's usage, as it sends it."""

import json
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel
from pydantic_ai.models import StreamedResponse

from teammates.text import clean
from teammates.types import JSON

LONGEST = 10_000  # characters; what is longer is no usage


class Told:
    """A vendor's chunks as they come; `usage` is what they have told so far, the last word counts.

    Anthropic's first chunk has a message with usage and the Responses API's last one a response;
    the others' have it themselves.
    """

    def __init__(self, chunks: Any) -> None:
        self._chunks = chunks
        self.usage: JSON = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chunks, name)

    def __aiter__(self) -> AsyncIterator[Any]:
        # No generator: a stream that breaks off would leave one more behind, to be closed some day.
        self._iterator = aiter(self._chunks)
        return self

    async def __anext__(self) -> Any:
        chunk = await anext(self._iterator)
        for place in (chunk, getattr(chunk, "message", None), getattr(chunk, "response", None)):
            told = getattr(place, "usage", None) or getattr(place, "usage_metadata", None)
            if isinstance(told, BaseModel):
                self._take(told.model_dump(mode="json", by_alias=True, exclude_unset=True))
        return chunk

    def _take(self, told: JSON) -> None:
        if len(json.dumps(told)) <= LONGEST:
            self.usage |= clean(told)  # it is stored with the answer, and must not take it along


def watch(stream: StreamedResponse) -> Told:
    """Put in front of a stream that has not been read."""
    vendors: Any = stream
    vendors._response = told = Told(vendors._response)
    return told
