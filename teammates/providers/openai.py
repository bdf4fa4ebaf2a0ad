"""OpenAI's models, and those of whoever else speaks its chat completions.

Models that reason are asked through the Responses API, where there is one: what they thought goes
back with each step, encrypted, and nothing is kept at the provider.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import httpx2
from openai import AsyncOpenAI
from openai.types.chat.chat_completion_chunk import Choice, ChoiceDelta
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelResponseStreamEvent
from pydantic_ai.models.openai import (
    OpenAIChatModel,
    OpenAIResponsesModel,
    OpenAIResponsesModelSettings,
    OpenAIStreamedResponse,
)
from pydantic_ai.models.openrouter import OpenRouterModel, OpenRouterStreamedResponse
from pydantic_ai.providers import Provider
from pydantic_ai.providers.deepseek import DeepSeekProvider
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.providers.openrouter import OpenRouterProvider
from pydantic_ai.usage import RequestUsage

from teammates.providers import Connection
from teammates.providers.adapting import NO_RESPONSES, NO_SUMMARIES, Profile, native
from teammates.providers.base import ModelRequest
from teammates.providers.call_numbers import CallNumbers
from teammates.providers.kinds import KINDS
from teammates.providers.think_tags import ThinkTags
from teammates.providers.vendor import VendorClient, make_http_client
from teammates.providers.vendor_errors import said_by

WITH_RESPONSES = ("openai", "azure")
# Files are OpenAI's own part of a message; pictures are everybody's, until one refuses them.
_OF_OTHERS = {"supports_document_input": False}
_OF_OPENAI = {"openai_chat_send_back_thinking_parts": False}  # what they thought has no field there
# Nobody says which of their models reason: each is asked to, where somebody wants it.
_MAY_REASON = _OF_OTHERS | {"supports_thinking": True}
_OF_KIND: dict[str, Profile] = {
    **dict.fromkeys(("bedrock", "groq", "ollama", "openai_compatible", "xai"), _MAY_REASON),
    "openai": _OF_OPENAI,
    "azure": _OF_OPENAI,
    "mistral": _OF_OTHERS | {"openai_chat_supports_max_completion_tokens": False},
}
# Of OpenAI's, the ones from before they took pictures, and the small ones that reason.
_TEXT_ONLY = re.compile(r"gpt-3\.5|gpt-4(-32k)?(-\d{4})?$|o[13]-mini|o1-preview")
_TAKES_TEXT = {"supports_image_input": False, "supports_document_input": False}
# What is not there, where a server knows no Responses API.
_NO_SUCH_ADDRESS = (
    r"(?i)^(404\W+)?not found|\b(url|path|route|resource|endpoint)\b|method not allowed|cannot post"
)


def make_client(connection: Connection) -> VendorClient:
    http = make_http_client(may_be_private=connection.may_be_private)
    has_responses = connection.kind in WITH_RESPONSES
    return VendorClient(
        models_of(connection, http),
        _label(connection.kind),
        http,
        adapts=_adapt if has_responses else None,
        has_output_format=has_responses,
    )


def models_of(
    connection: Connection, http: httpx2.AsyncClient
) -> Callable[[str, Profile], OpenAIChatModel | OpenAIResponsesModel]:
    """What makes a model of a name and what is known of it."""
    provider = _provider(connection.kind, _client(connection, http))
    of_kind = _OF_KIND.get(connection.kind, _OF_OTHERS)
    has_responses = connection.kind in WITH_RESPONSES

    def make_model(name: str, profile: Profile) -> OpenAIChatModel | OpenAIResponsesModel:
        of_name = _TAKES_TEXT if has_responses and _TEXT_ONLY.match(name) else {}
        known = cast(Any, of_kind | of_name | native(profile)) or None
        if connection.kind == "openrouter":
            return RouterModel(name, provider=cast(OpenRouterProvider, provider), profile=known)
        if not has_responses or profile.get(NO_RESPONSES):
            return ChatModel(name, provider=provider, profile=known)
        settings = OpenAIResponsesModelSettings(openai_store=False)
        if not profile.get(NO_SUMMARIES):
            settings["openai_reasoning_summary"] = "auto"
        model = OpenAIResponsesModel(name, provider=provider, profile=known, settings=settings)
        if model.profile.get("supports_thinking"):
            return model
        return ChatModel(name, provider=provider, profile=known)

    return make_model


def make_embedding_model(
    connection: Connection, name: str, http: httpx2.AsyncClient
) -> OpenAIEmbeddingModel:
    provider = OpenAIProvider(openai_client=_client(connection, http))
    return OpenAIEmbeddingModel(name, provider=provider)


def _client(connection: Connection, http: httpx2.AsyncClient) -> AsyncOpenAI:
    return AsyncOpenAI(
        api_key=connection.api_key or "none",
        base_url=connection.address,
        http_client=http,
        max_retries=0,  # whoever asks retries, visibly and within a budget
    )


def _adapt(error: ModelHTTPError, request: ModelRequest) -> Profile:
    """What somebody wants who does not take the Responses API, or not all of it."""
    said = said_by(error)
    if re.search(r"(?i)reasoning.?summar", said):  # for organizations that OpenAI has verified
        return {NO_SUMMARIES: True}
    names_address = re.search(_NO_SUCH_ADDRESS, said) or not error.body
    if error.status_code in (404, 405, 501) and names_address:
        return {NO_RESPONSES: True}
    if error.status_code == 400 and re.search(r"(?i)responses api", said):
        return {NO_RESPONSES: True}
    return {}


def _provider(kind: str, client: AsyncOpenAI) -> Provider[AsyncOpenAI]:
    """Whose models they are says what they take."""
    match kind:
        case "deepseek":
            return DeepSeekProvider(openai_client=client)
        case "ollama":
            return OllamaProvider(openai_client=client)
        case "openrouter":
            return OpenRouterProvider(openai_client=client)
        case "xai" | "groq" | "mistral" | "bedrock":
            return OpenAICompatibleProvider(name=kind, openai_client=client)
    return OpenAIProvider(openai_client=client)


def _label(kind: str) -> str:
    """What it is called in sentences."""
    return "The model server" if kind == "openai_compatible" else KINDS[kind].label


class ChatModel(OpenAIChatModel):
    @property
    def _streamed_response_cls(self) -> type[OpenAIStreamedResponse]:
        return ChatStream


class RouterModel(OpenRouterModel):
    """OpenRouter marks what whoever answers may cache, and carries what a model thought, sealed."""

    @property
    def _streamed_response_cls(self) -> type[OpenAIStreamedResponse]:
        return RouterStream


@dataclass
class ChatStream(OpenAIStreamedResponse):
    """Chat completions as other servers stream them too."""

    _tags: ThinkTags = field(default_factory=ThinkTags, init=False)
    _numbers: CallNumbers = field(default_factory=CallNumbers, init=False)

    @property
    def has_ended(self) -> bool:
        return self._has_finish_reason

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        async for event in super()._get_event_iterator():
            yield event
        if rest := self._tags.rest():
            choice = Choice(index=0, delta=ChoiceDelta(content=rest))
            for event in super()._map_text_delta(choice):
                yield event

    def _map_text_delta(self, choice: Choice) -> Iterable[ModelResponseStreamEvent]:
        content: object = choice.delta.content
        if isinstance(content, list):
            yield from self._map_thoughts(content)
        if not isinstance(content, str):
            yield from super()._map_text_delta(choice)
            return
        for piece in self._tags.cut(content):
            choice.delta.content = piece
            yield from super()._map_text_delta(choice)

    def _map_thoughts(self, parts: list[Any]) -> Iterable[ModelResponseStreamEvent]:
        """Mistral's are parts of what is said, with parts of their own."""
        for part in parts:
            thoughts = part.get("thinking") if isinstance(part, dict) else None
            for thought in thoughts if isinstance(thoughts, list) else []:
                if isinstance(thought, dict) and isinstance(thought.get("text"), str):
                    yield from self._parts_manager.handle_thinking_delta(
                        vendor_part_id="thinking", content=thought["text"]
                    )

    def _map_tool_call_delta(self, choice: Choice) -> Iterable[ModelResponseStreamEvent]:
        """`function_call` is what `tool_calls` was called when there was one at most."""
        for piece in choice.delta.tool_calls or []:
            self._numbers.tell_apart(piece)
        yield from super()._map_tool_call_delta(choice)
        if called := choice.delta.function_call:
            yield from self._parts_manager.handle_tool_call_delta_events(
                vendor_part_id="function_call",
                tool_name=called.name,
                args=called.arguments,
                tool_call_id=None,
            )

    def _add_usage(self, usage: RequestUsage, *, reported: bool, **_: object) -> None:
        """What a server tells in the middle of a stream is the sum so far."""
        if reported:
            super()._add_usage(usage, reported=True, cumulative=True)


@dataclass
class RouterStream(ChatStream, OpenRouterStreamedResponse):
    pass
