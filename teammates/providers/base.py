"""What every provider of models speaks: a conversation in, deltas and a finished turn out.

Plain dataclasses: neither the loop that runs teammates nor the built-in demo model loads a
vendor's package.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from teammates.providers.exact import can_be_held
from teammates.types import JSON

# Between what a person wrote and the names of the files that came with it.
ATTACHED = "\n\n(Attached, for read_file: "


# What a run stops for (`Run.stop_reason`) whose model would write more if it were asked.
UNFINISHED = ("max_tokens", "pause_turn")


@dataclass(frozen=True)
class TextPart:
    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Thinking:
    text: str
    kind: Literal["thinking"] = "thinking"


@dataclass(frozen=True)
class ToolRequest:
    call_id: str
    name: str
    arguments: str  # JSON text as the model wrote it; perhaps malformed
    kind: Literal["tool"] = "tool"


Part = TextPart | Thinking | ToolRequest
_PARTS: dict[str, type[Any]] = {"text": TextPart, "thinking": Thinking, "tool": ToolRequest}


MediaKind = Literal["picture", "pdf"]


@dataclass(frozen=True)
class Media:
    """A file that a model is shown as it is. Until it is looked at, it has neither `content` nor
    `text`, which is what a model reads instead that is not shown the content."""

    name: str
    kind: MediaKind
    file_id: int
    content: bytes = field(default=b"", repr=False)
    media_type: str = ""
    text: str = ""
    tokens: int = 1_600  # a rough count

    def to_json(self) -> JSON:
        return {
            "name": self.name,
            "kind": self.kind,
            "file_id": self.file_id,
            "bytes": len(self.content),
            "media_type": self.media_type,
            "text": self.text,
        }


@dataclass(frozen=True)
class Turn:
    """What a model said in one call. `native` is the vendor's own form, fed back unchanged."""

    parts: list[Part]
    finish_reason: str = "stop"
    native: Any = None

    @property
    def media(self) -> Sequence[Media]:
        """A model is shown files; it shows none."""
        return ()

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def tool_requests(self) -> list[ToolRequest]:
        return [part for part in self.parts if isinstance(part, ToolRequest)]

    def to_json(self) -> JSON:
        return {
            "parts": [dict(vars(part)) for part in self.parts],
            "finish_reason": self.finish_reason,
            "native": self.native,
        }

    def without_tool_requests(self, instead: str) -> "Turn":
        """What was said, of a turn whose calls nobody will make; `instead` of nothing."""
        if not self.tool_requests:
            return self
        kept: list[Part] = [part for part in self.parts if not isinstance(part, ToolRequest)]
        return Turn(kept if self.text.strip() else [*kept, TextPart(instead)], self.finish_reason)

    @classmethod
    def from_json(cls, data: JSON) -> "Turn":
        parts = [_PARTS[part["kind"]](**part) for part in data["parts"]]
        return cls(parts, data["finish_reason"], data.get("native"))


@dataclass(frozen=True)
class Takes:
    """What a model may be shown."""

    pictures: bool = True
    pdfs: bool = True

    def shows(self, media: Media) -> bool:
        return bool(media.content) and (self.pictures if media.kind == "picture" else self.pdfs)


@dataclass(frozen=True)
class UserMessage:
    text: str
    media: Sequence[Media] = ()

    def to_json(self) -> JSON:
        return {"text": self.text, **_media_json(self.media)}


@dataclass(frozen=True)
class ToolResult:
    call_id: str
    name: str
    content: str
    failed: bool = False
    media: Sequence[Media] = ()

    def to_json(self) -> JSON:
        said = {"call_id": self.call_id, "name": self.name, "content": self.content}
        return said | {"failed": self.failed, **_media_json(self.media)}


def _media_json(media: Sequence[Media]) -> JSON:
    return {"media": [one.to_json() for one in media]} if media else {}


ChatMessage = UserMessage | Turn | ToolResult


@dataclass(frozen=True)
class ToolSpec:
    """`is_exact`: its arguments have to fit the schema, where a provider can see to that."""

    name: str
    description: str
    schema: JSON
    is_exact: bool = False

    @property
    def can_be_held(self) -> bool:
        """Whether a model can be made to close with these arguments, in place of a call."""
        return self.is_exact and self.schema.get("type") == "object" and can_be_held(self.schema)


# Under which key the row of a step has what was said.
_KEPT_AS: dict[type, str] = {
    Turn: "turn",
    UserMessage: "UserSaid",
    ToolResult: "ToolReturned",
}


TOKENS_AROUND = 1_000  # that providers add to a request, for tools most


@dataclass(frozen=True)
class ModelRequest:
    model: str
    instructions: str
    conversation: list[ChatMessage]
    tools: list[ToolSpec] = field(default_factory=list)
    max_output_tokens: int = 8192
    effort: str = ""
    sampling: JSON = field(default_factory=dict)  # `teammates/llm/sampling.py`
    caches: bool = False  # what is sent comes again, with more behind it
    retries: int = 0  # how often this very step failed before

    @property
    def tokens_of_media(self) -> int:
        """Of what is shown; what is read instead is text."""
        return sum(one.tokens for said in self.conversation for one in said.media if one.content)

    @property
    def most_input_tokens(self) -> int:
        """No fewer than any model counts: a token is a byte at least, and what is shown counts four
        times as much as estimated."""
        said = [one.to_json() for one in self.conversation]
        tools = [[tool.name, tool.description, tool.schema] for tool in self.tools]
        text = json.dumps([self.instructions, said, tools], ensure_ascii=False)
        size = len(text.encode(errors="replace"))
        return size + 4 * self.tokens_of_media + TOKENS_AROUND

    def to_json(self) -> JSON:
        return {
            "model": self.model,
            "instructions": self.instructions,
            "conversation": [{_KEPT_AS[type(said)]: said.to_json()} for said in self.conversation],
            "tools": [tool.name for tool in self.tools],
            "max_output_tokens": self.max_output_tokens,
            "effort": self.effort,
            "sampling": self.sampling,
            "media_tokens": self.tokens_of_media,
        }


@dataclass(frozen=True)
class Delta:
    """A piece of a turn. For a tool request, `text` is a piece of its JSON arguments."""

    kind: Literal["text", "thinking", "tool"]
    text: str
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True)
class TokenUsage:
    """`input` counts cached tokens too, `output` reasoning. `details`: other numbers that
    the provider told, under the names that the library has for them, and `raw`, its own words."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    estimated: bool = False
    details: JSON = field(default_factory=dict)

    @property
    def lanes(self) -> dict[str, int]:
        """Tokens by the lanes that a price has (`ModelPrice`)."""
        return {
            "uncached_input": max(0, self.input - self.cache_read - self.cache_write),
            "cache_read": self.cache_read,
            "cache_write": self.cache_write,
            "output": self.output,
        }


def estimate_tokens(text: str) -> int:
    """A rough count where the provider told none: four bytes a token."""
    return -(-len(text.encode()) // 4)


class ModelCall(Protocol):
    """One call: iterate its deltas, then read `turn` and `usage`.

    `usage` is None where the provider told nothing (yet); it may be read after a cancel.
    """

    def __aiter__(self) -> AsyncIterator[Delta]: ...

    @property
    def turn(self) -> Turn: ...

    @property
    def usage(self) -> TokenUsage | None: ...


class ModelClient(Protocol):
    def call(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelCall]:
        """Open a streamed call. Raises `ProviderError`, here or while it is iterated."""
        ...

    def takes(self, model: str) -> Takes: ...

    async def close(self) -> None: ...


# With these a provider says no before a model has begun, or was never asked: nothing is billed.
REFUSALS = frozenset(
    {
        "config.missing",
        "provider.context_too_long",
        "provider.model_not_found",
        "provider.output_limit",
        "provider.overloaded",
        "provider.quota_exceeded",
        "provider.rate_limited",
        "provider.rejected",
        "provider.too_large",
        "provider.unauthorized",
    }
)


class ProviderError(Exception):
    """A model call failed. The message is a sentence that says what to do; `limit` is the number of
    tokens that the provider named, if it did."""

    def __init__(
        self,
        error_class: str,
        message: str,
        *,
        is_transient: bool = False,
        retry_after: float | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.is_transient = is_transient
        self.retry_after = retry_after
        self.limit = limit
