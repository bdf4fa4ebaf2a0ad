"""What a tool of an MCP server gave back, as a model is told it."""

import base64
import json
from typing import Any, cast

from mcp import types

from teammates.errors import DomainError
from teammates.tools.base import ToolContext, ToolError
from teammates.tools.servers import Operation
from teammates.types import JSON

SHORTEST_FILE = 64  # characters of base64: less could be anything else


async def read_result(
    operation: Operation, given: types.CallToolResult, context: ToolContext
) -> Any:
    """What a model is told of a result; files in it are kept. Raises `ToolError`."""
    texts: list[str] = []
    stored: dict[str, str] = {}  # what is said in place of a base64
    for number, part in enumerate(given.content):
        if isinstance(part, types.TextContent):
            texts.append(part.text)
        elif binary := _binary(part):
            what, mime_type, data = binary
            ending = mime_type.rpartition("/")[2].split("+")[0][:10]
            name = f"{operation.name[:60]}-{context.call_key[-6:]}-{number}.{ending}"
            stored[data] = await _kept(context, what, name, data)
            texts.append(stored[data])
        else:
            texts.append(json.dumps(part.model_dump(mode="json"), ensure_ascii=False)[:20_000])
    text = "\n".join(texts)
    if given.is_error:
        raise ToolError(text or "The tool failed without a word.")
    if given.structured_content is None:
        return text
    return _without(stored, given.structured_content)


def _without(stored: dict[str, str], structured: JSON) -> JSON:
    """What a server says in a form, without the files that it has in it once more."""
    if not stored:
        return structured
    text = json.dumps(structured)
    for data, said in stored.items():
        if len(data) >= SHORTEST_FILE:
            text = text.replace(data, json.dumps(said)[1:-1])
    return cast(JSON, json.loads(text))


def _binary(part: types.ContentBlock) -> tuple[str, str, str] | None:
    """What it is, its media type and its base64, of a part that is no text."""
    if isinstance(part, types.ImageContent | types.AudioContent):
        return part.type, part.mime_type, part.data
    resource = part.resource if isinstance(part, types.EmbeddedResource) else None
    if isinstance(resource, types.BlobResourceContents):
        return "file", resource.mime_type or "application/bin", resource.blob
    return None


async def _kept(context: ToolContext, what: str, name: str, data: str) -> str:
    """Store a picture, a sound or a file. The call was made, whatever becomes of what it gave
    back."""
    try:
        await context.write_file(name, base64.b64decode(data, validate=True))
    except (ValueError, DomainError) as error:
        return f"[{what} that could not be stored: {error}]"
    await context.show_file(name)
    return f"[{what} in the file {name}]"
