"""Fetch a web page from a public address."""

from typing import Any

import httpx2

from teammates import timebox
from teammates.html import read_html
from teammates.public_http import BlockedAddress, public_client
from teammates.tools.base import Text, Tool, ToolContext, ToolError, object_schema
from teammates.types import JSON

LARGEST_BODY = 2 * 1024 * 1024  # bytes read from the server
LARGEST_TEXT = 40_000  # characters that go back to the model
READ_SECONDS = 4  # of work for a page


async def _fetch(context: ToolContext, arguments: JSON) -> Any:
    try:
        async with public_client() as client, client.stream("GET", arguments["url"]) as response:
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > LARGEST_BODY:
                    break
            return await _result(response, body)
    except BlockedAddress as error:
        raise ToolError(str(error)) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        raise ToolError(f"{arguments['url']} could not be fetched: {error}") from error


async def _result(response: httpx2.Response, body: bytes) -> JSON:
    kind = response.headers.get("content-type", "")
    text = _decoded(body, response.encoding or "utf-8")
    result = {"url": str(response.url), "status": response.status_code}
    if "html" in kind:
        try:
            result["title"], text = await timebox.awaited(READ_SECONDS, read_html, text)
        except timebox.TooCostly:
            raise ToolError(f"{response.url} is too complicated to be read.") from None
    elif not any(word in kind for word in ("text", "json", "xml", "csv")):
        raise ToolError(f"{response.url} is not text but {kind or 'of an unknown kind'}.")
    result["text"] = text[:LARGEST_TEXT]
    if len(text) > LARGEST_TEXT or len(body) > LARGEST_BODY:
        result["note"] = "cut"
    return result


def _decoded(body: bytes, encoding: str) -> str:
    """Text, also where the page names an encoding that is none."""
    try:
        return body.decode(encoding, errors="replace")
    except LookupError:
        return body.decode(errors="replace")


WEB_FETCH = Tool(
    name="web_fetch",
    title="Fetch a web page",
    description="Fetch a page from a public web address and return its text.",
    schema=object_schema(
        ["url"], url=Text("http:// or https://", 2000, {"pattern": "^https?://"}).schema
    ),
    say=lambda arguments: f"Fetch {arguments['url']}",
    run=_fetch,
    group="web",
    guarded=True,
    gives_data=True,
)
