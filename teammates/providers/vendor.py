"""The vendors' real models, through pydantic-ai's model classes.

Only providers that need it import this module (`teammates.providers` imports lazily).
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import httpx2
from cachetools import LRUCache
from django.conf import settings as django_settings
from pydantic_ai import messages
from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import ModelHTTPError, UserError
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from teammates.providers.adapting import (
    NO_OUTPUT_FORMAT,
    NO_SYSTEM_ROLE,
    NO_TOOLS,
    REFUSES,
    Profile,
    adapt,
    is_about_form,
    is_for_good,
)
from teammates.providers.base import (
    Delta,
    MediaKind,
    ModelRequest,
    ProviderError,
    Takes,
    TextPart,
    TokenUsage,
    ToolSpec,
    Turn,
)
from teammates.providers.raw_usage import Told, watch
from teammates.providers.vendor_errors import explained, give_errors_a_status, said_by
from teammates.providers.vendor_messages import (
    finish_reason_of,
    from_native,
    raw_arguments,
    takes_of,
    to_native,
    with_own_id,
    without_system_role,
    without_tools,
)
from teammates.public_http import outside_client
from teammates.types import JSON

REFUSED_AS_IT_STANDS = (400, 404, 422)
MOST_KEPT = 500
# How servers end an answer that they could not finish, in small letters.
_FAILED = (
    "error",
    "incomplete",
    "insufficient_system_resource",
    "malformed_function_call",
    "other",
    "too_many_tool_calls",
)
_NATIVE = {"stop": "stop_sequences"}  # sampling settings that pydantic-ai calls otherwise


def make_http_client(*, may_be_private: bool) -> httpx2.AsyncClient:
    first = django_settings.MODEL_FIRST_SECONDS
    return outside_client(
        may_be_private=may_be_private,
        timeout=httpx2.Timeout(connect=10, read=first, write=60, pool=10),
        event_hooks={"response": [_wait_less_from_now_on, give_errors_a_status]},
    )


async def _wait_less_from_now_on(response: httpx2.Response) -> None:
    """A server may take longer until it begins, to load a model, than between two bytes."""
    timeout = response.request.extensions.get("timeout", {})
    timeout["read"] = django_settings.MODEL_SILENCE_SECONDS


class VendorClient:
    """A `ModelClient` over one pydantic-ai model class.

    `make_model` makes the model of a name, with what was learned of its profile; `adapts` tells
    what a refusal teaches that is of this vendor alone; `has_output_format`: its models, where
    they can, close with an answer in a form, and call tools before.
    """

    def __init__(
        self,
        make_model: Callable[[str, Profile], Model],
        label: str,
        http: httpx2.AsyncClient,
        *,
        adapts: Callable[[ModelHTTPError, ModelRequest], Profile] | None = None,
        has_output_format: bool = False,
    ) -> None:
        self._make_model = make_model
        self._adapts = adapts
        self._has_output_format = has_output_format
        self._profiles: dict[str, Profile] = {}  # learned, by model
        self._not_held: LRUCache[tuple[str, str], bool] = LRUCache(MOST_KEPT)  # refused schemas
        self._label = label
        self._http = http

    def takes(self, model: str) -> Takes:
        return takes_of(self._model(model, self._profiles.get(model, {})))

    def _model(self, name: str, profile: Profile) -> Model:
        try:
            return self._make_model(name, profile)
        except UserError as error:  # a name that the provider cannot have
            raise ProviderError("provider.model_not_found", str(error)) from error

    async def close(self) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def call(self, request: ModelRequest) -> AsyncIterator["VendorCall"]:
        async with AsyncExitStack() as stack:
            with explained(self._label, request.model):
                stream = await self._opened(request, stack)
            yield VendorCall(stream, watch(stream), self._label, request.model)

    async def _opened(self, request: ModelRequest, stack: AsyncExitStack) -> StreamedResponse:
        """Open a stream; where the server refuses a word of the request, again without it. Each
        word is changed once."""
        learned: Profile = {}  # of the model
        passing: Profile = {}  # of this request
        while True:
            sent = self._profiles.get(request.model, {}) | learned | passing
            try:
                stream = await stack.enter_async_context(self._opening(request, sent))
            except ModelHTTPError as error:
                said = said_by(error) if error.status_code in REFUSED_AS_IT_STANDS else ""
                wanted = (
                    (self._adapts(error, request) if self._adapts else {})
                    or self._less_exact(said, request, sent)
                    or adapt(
                        said,
                        sampling=request.sampling,
                        media=_shown(request),
                        has_tools=bool(request.tools),
                        sent=sent,
                    )
                )
                is_tried = wanted.keys() & (learned.keys() | passing.keys())
                if not wanted or is_tried or wanted.items() <= sent.items():
                    raise
                if NO_OUTPUT_FORMAT in wanted and not is_for_good(said):
                    self._not_held[_form_key(request)] = True
                (learned if is_for_good(said) else passing).update(wanted)
            else:
                if learned:
                    known = self._profiles.get(request.model, {})
                    self._profiles[request.model] = known | learned
                return stream

    def _opening(
        self, request: ModelRequest, profile: Profile
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        if profile.get(NO_TOOLS):
            request = without_tools(request)
        if profile.get(NO_SYSTEM_ROLE):
            request = without_system_role(request)
        model = self._model(request.model, profile)
        settings = ModelSettings(
            max_tokens=request.max_output_tokens,
            cache=request.caches,
            first_event_timeout=django_settings.MODEL_FIRST_SECONDS,
        )
        if request.effort:
            settings["thinking"] = cast(Any, request.effort)
        for name, value in request.sampling.items():
            if not profile.get(REFUSES + name):
                cast(JSON, settings)[_NATIVE.get(name, name)] = value
        result = self._form_of_answer(request, model, profile)
        parameters = ModelRequestParameters(
            function_tools=[
                ToolDefinition(
                    name=tool.name,
                    description=tool.description,
                    parameters_json_schema=tool.schema,
                )
                for tool in request.tools
                if tool is not result
            ],
            output_mode="native" if result else "text",
            output_object=OutputObjectDefinition(result.schema, name="result", strict=True)
            if result
            else None,
        )
        return model_request_stream(
            model,
            to_native(request, takes_of(model)),
            model_settings=settings,
            model_request_parameters=parameters,
        )

    def _form_of_answer(
        self, request: ModelRequest, model: Model, profile: Profile
    ) -> ToolSpec | None:
        """The tool in place of whose call the model closes with an answer of that form."""
        if not self._has_output_format or profile.get(NO_OUTPUT_FORMAT) or request.retries:
            return None  # what failed once is done in the way that everybody can
        if _form_key(request) in self._not_held:
            return None
        has_both = model.profile.get("google_supports_tool_combination", True)
        if not model.profile.get("supports_json_schema_output") or not has_both:
            return None
        return next((tool for tool in request.tools if tool.can_be_held), None)

    def _less_exact(self, said: str, request: ModelRequest, sent: Profile) -> Profile:
        """Some schemas, and some models, are not held to."""
        if not is_about_form(said):
            return {}
        form = self._form_of_answer(request, self._model(request.model, sent), sent)
        return {NO_OUTPUT_FORMAT: True} if form else {}


class VendorCall:
    def __init__(self, stream: StreamedResponse, told: Told, label: str, model: str) -> None:
        self._stream, self._told = stream, told
        self._label, self._model = label, model

    async def __aiter__(self) -> AsyncIterator[Delta]:
        with explained(self._label, self._model):
            async for delta in self._deltas():
                yield delta
            if refusal := self._refusal:
                yield Delta("text", refusal)
            self._refuse_unfinished()

    async def _deltas(self) -> AsyncIterator[Delta]:
        calls: dict[int, messages.ToolCallPart] = {}
        taken: set[str] = set()
        async for event in self._stream:
            if isinstance(event, messages.PartStartEvent):
                part = event.part
                if isinstance(part, messages.ToolCallPart):
                    calls[event.index] = call = with_own_id(part, taken)
                    raw = raw_arguments(part) if part.args else ""
                    yield Delta("tool", raw, call.tool_call_id, call.tool_name)
                elif isinstance(part, messages.TextPart) and part.content:
                    yield Delta("text", part.content)
                elif isinstance(part, messages.ThinkingPart) and part.content:
                    yield Delta("thinking", part.content)
            elif isinstance(event, messages.PartDeltaEvent):
                delta = event.delta
                if isinstance(delta, messages.TextPartDelta) and delta.content_delta:
                    yield Delta("text", delta.content_delta)
                elif isinstance(delta, messages.ThinkingPartDelta) and delta.content_delta:
                    yield Delta("thinking", delta.content_delta)
                elif isinstance(delta, messages.ToolCallPartDelta) and isinstance(
                    delta.args_delta, str
                ):
                    call = calls[event.index]
                    yield Delta("tool", delta.args_delta, call.tool_call_id, call.tool_name)

    def _refuse_unfinished(self) -> None:
        """A connection that closed cleanly in mid-stream looks like success (traps 5.1)."""
        refused = self._refusal and getattr(self._stream, "has_ended", True)
        is_blocked = "block_reason" in self._details  # Google's, of what was asked
        reason = str(self._details.get("finish_reason") or "").lower()
        has_failed = reason in _FAILED or self._stream.finish_reason == "error"
        if has_failed or (not reason and not refused and not is_blocked):
            raise ProviderError(
                "incomplete_stream",
                "The model's answer broke off in the middle. Try again.",
                is_transient=True,
            )

    @property
    def _details(self) -> JSON:
        return self._stream.provider_details or {}

    @property
    def _refusal(self) -> str:
        """What a model says instead of an answer that it will not give."""
        return str(self._details.get("refusal") or "")

    @property
    def turn(self) -> Turn:
        if self._refusal:
            return Turn([TextPart(self._refusal)], "refusal")
        response, taken = self._stream.get(), set[str]()
        response = replace(
            response,
            parts=[
                with_own_id(part, taken) if isinstance(part, messages.ToolCallPart) else part
                for part in response.parts
            ],
        )
        parts = [part for part in map(from_native, response.parts) if part is not None]
        native = messages.ModelMessagesTypeAdapter.dump_python([response], mode="json")
        return Turn(parts, finish_reason_of(response), native)

    @property
    def usage(self) -> TokenUsage | None:
        used = self._stream.usage
        if not used.input_tokens and not used.output_tokens:
            return None
        cached = used.cache_read_tokens + used.cache_write_tokens
        reasoning = used.details.get("reasoning_tokens", 0)
        return TokenUsage(
            input=max(used.input_tokens, cached),
            output=used.output_tokens + (reasoning if reasoning > used.output_tokens else 0),
            cache_read=used.cache_read_tokens,
            cache_write=used.cache_write_tokens,
            # What is said to be a part of something cannot be more than it: it was beside it.
            estimated=cached > used.input_tokens or reasoning > used.output_tokens,
            details=used.details | ({"raw": told} if (told := self._told.usage) else {}),
        )


def _shown(request: ModelRequest) -> set[MediaKind]:
    """Which kinds of files are in a request."""
    return {one.kind for said in request.conversation for one in said.media if one.content}


def _form_key(request: ModelRequest) -> tuple[str, str]:
    """A model, and the form that a result of it is to have."""
    forms = [json.dumps(tool.schema, sort_keys=True) for tool in request.tools if tool.is_exact]
    return request.model, "".join(forms)
