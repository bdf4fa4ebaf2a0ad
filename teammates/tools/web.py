"""Fetch a web page from a public address."""

from typing import Any

import httpx2

from teammates import file_text
from teammates.public_http import BlockedAddress, public_client
from teammates.tools.base import Text, Tool, ToolContext, ToolError, object_schema
from teammates.tools.reading import LARGEST_READ, read
from teammates.types import JSON

LARGEST_BODY = 2 * 1024 * 1024  # bytes read from the server
LARGEST_PDF = 20 * 1024 * 1024


async def _fetch(context: ToolContext, arguments: JSON) -> Any:
    try:
        async with public_client() as client, client.stream("GET", arguments["url"]) as response:
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if _is_cut(body):
                    break
            return await _result(response, body)
    except BlockedAddress as error:
        raise ToolError(str(error)) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        raise ToolError(f"{arguments['url']} could not be fetched: {error}") from error


async def _result(response: httpx2.Response, body: bytes) -> JSON:
    kind, url = response.headers.get("content-type", ""), str(response.url)
    result = {"url": url, "status": response.status_code}
    if body.startswith(file_text.PDF):
        text = await read(url, file_text.text_of, url, body)
    elif "html" in kind:
        html = _decoded(body, response.encoding or "utf-8")
        result["title"], text = await read(url, file_text.page_of, html, url)
    elif any(word in kind for word in ("text", "json", "xml", "csv")):
        text = _decoded(body, response.encoding or "utf-8")
    else:
        raise ToolError(f"{url} is not text but {kind or 'of an unknown kind'}.")
    result["text"] = text[:LARGEST_READ]
    if len(text) > LARGEST_READ or _is_cut(body):
        result["note"] = "cut"
    return result


def _is_cut(body: bytes) -> bool:
    return len(body) > (LARGEST_PDF if body.startswith(file_text.PDF) else LARGEST_BODY)


def _decoded(body: bytes, encoding: str) -> str:
    """Text, also where the page names an encoding that is none."""
    try:
        return body.decode(encoding, errors="replace")
    except LookupError:
        return body.decode(errors="replace")


WEB_FETCH = Tool(
    name="web_fetch",
    title="Fetch a web page",
    description="Fetch a page or a PDF from a public web address and return what one reads of it, "
    "with its links.",
    schema=object_schema(
        ["url"], url=Text("http:// or https://", 2000, {"pattern": "^https?://"}).schema
    ),
    say=lambda arguments: f"Fetch {arguments['url']}",
    run=_fetch,
    group="web",
    guarded=True,
    gives_data=True,
)
