"""What is said to a model and what it says, as pydantic-ai has it and as ours."""

import json
from collections.abc import Sequence
from dataclasses import replace

from pydantic_ai import messages
from pydantic_ai.models import Model

from teammates.providers.base import (
    Media,
    ModelRequest,
    Part,
    Takes,
    TextPart,
    Thinking,
    ToolRequest,
    ToolResult,
    Turn,
    UserMessage,
)

# A run may start on a thread as it stands; vendors refuse an empty message.
NOTHING_NEW = "(There is no new message. Go on if something is left to do.)"
PDF = "application/pdf"
UNSEEN = "[{}: this model cannot be shown it.]"


def finish_reason_of(response: messages.ModelResponse) -> str:
    if response.state == "suspended":  # Anthropic's pause_turn: it would go on if it were asked
        return "pause_turn"
    return str(response.finish_reason or "stop")


def with_own_id(call: messages.ToolCallPart, taken: set[str]) -> messages.ToolCallPart:
    """A call as it is kept and sent back: some servers give two calls of an answer one id, or null
    for no arguments, and others refuse to be sent that."""
    own = call.tool_call_id
    while own in taken:
        own += "_2"
    taken.add(own)
    if isinstance(call.args, str) and call.args.strip() == "null":
        return replace(call, tool_call_id=own, args="{}")
    return replace(call, tool_call_id=own)


def raw_arguments(part: messages.ToolCallPart) -> str:
    """The arguments as the model wrote them: malformed JSON must stay malformed (traps 5.4)."""
    if isinstance(part.args, str):
        return part.args
    return json.dumps(part.args or {})


def from_native(part: messages.ModelResponsePart) -> Part | None:
    if isinstance(part, messages.TextPart):
        return TextPart(part.content)
    if isinstance(part, messages.ThinkingPart):
        return Thinking(part.content)
    if isinstance(part, messages.ToolCallPart):
        return ToolRequest(part.tool_call_id, part.tool_name, raw_arguments(part))
    return None


def takes_of(model: Model) -> Takes:
    profile = model.profile
    documents = profile.get("supported_document_media_types", {PDF})
    return Takes(
        pictures=profile.get("supports_image_input", True),
        pdfs=profile.get("supports_document_input", True) and PDF in documents,
    )


def to_native(request: ModelRequest, takes: Takes) -> Sequence[messages.ModelMessage]:
    """Consecutive things that are said to the model become one request message."""
    native: list[messages.ModelMessage] = []
    waiting: list[messages.ModelRequestPart] = []

    def flush() -> None:
        if waiting:
            native.append(
                messages.ModelRequest(
                    parts=list(waiting), instructions=request.instructions or None
                )
            )
            waiting.clear()

    for said in request.conversation:
        if isinstance(said, UserMessage):
            text = said.text or NOTHING_NEW
            waiting.append(messages.UserPromptPart(_with_media(text, said.media, takes)))
        elif isinstance(said, ToolResult):
            waiting.append(
                messages.ToolReturnPart(
                    tool_name=said.name,
                    content=_with_media(said.content, said.media, takes),
                    tool_call_id=said.call_id,
                    outcome="failed" if said.failed else "success",
                )
            )
        else:
            flush()
            native.extend(_native_turn(said))
    flush()
    return native


def _with_media(
    text: str, media: Sequence[Media], takes: Takes
) -> str | list[messages.UserContent]:
    """A text with what the model is shown behind it, each under its name."""
    read = [one.text or UNSEEN.format(one.name) for one in media if not takes.shows(one)]
    text = "\n\n".join([text, *read])
    shown: list[messages.UserContent] = []
    for one in media:
        if takes.shows(one):
            content = messages.BinaryContent(
                one.content, media_type=one.media_type, identifier=one.name
            )
            shown += [f"{one.name}:", content]
    return [text, *shown] if shown else text


def _native_turn(turn: Turn) -> list[messages.ModelMessage]:
    if turn.native:
        return messages.ModelMessagesTypeAdapter.validate_python(turn.native)
    parts: list[messages.ModelResponsePart] = []
    for part in turn.parts:
        if isinstance(part, TextPart) and part.text:
            parts.append(messages.TextPart(part.text))
        elif isinstance(part, ToolRequest):
            parts.append(messages.ToolCallPart(part.name, part.arguments, part.call_id))
    return [messages.ModelResponse(parts=parts)] if parts else []


NO_TOOLS_HERE = (
    "You cannot call tools here: this model takes none. If the work needs one, say which, and that "
    "another model is to be chosen for it."
)


def without_tools(request: ModelRequest) -> ModelRequest:
    """For a model that takes none; it is told, so that it does not pretend."""
    instructions = f"{request.instructions}\n\n{NO_TOOLS_HERE}"
    return replace(request, instructions=instructions, tools=[])


def without_system_role(request: ModelRequest) -> ModelRequest:
    first, *rest = request.conversation
    assert isinstance(first, UserMessage)
    told = replace(first, text=f"{request.instructions}\n\n{first.text or NOTHING_NEW}")
    return replace(request, instructions="", conversation=[told, *rest])
