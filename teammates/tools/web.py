"""Fetch a web page from a public address."""

from html.parser import HTMLParser
from typing import Any

import httpx2

from teammates.public_http import BlockedAddress, public_client
from teammates.tools.base import Text, Tool, ToolContext, ToolError, object_schema

LARGEST_BODY = 2 * 1024 * 1024  # bytes read from the server
LARGEST_TEXT = 40_000  # characters that go back to the model
_SILENT = {"script", "style", "noscript", "template", "svg"}


class _Reader(HTMLParser):
    """The readable text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self._texts: list[str] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in _SILENT or tag == "title":
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            while self._inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if not text:
            return
        if self._inside and self._inside[-1] == "title":
            self.title += text
        elif not self._inside:
            self._texts.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self._texts)


def read_html(html: str) -> tuple[str, str]:
    """The title, and what of it one reads."""
    reader = _Reader()
    try:
        reader.feed(html)
    except AssertionError:  # the parser gives up on some broken markup
        pass
    return reader.title, reader.text


async def _fetch(context: ToolContext, arguments: dict[str, Any]) -> Any:
    try:
        async with public_client() as client, client.stream("GET", arguments["url"]) as response:
            body = b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > LARGEST_BODY:
                    break
            return _result(response, body)
    except BlockedAddress as error:
        raise ToolError(str(error)) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        raise ToolError(f"{arguments['url']} could not be fetched: {error}") from error


def _result(response: httpx2.Response, body: bytes) -> dict[str, Any]:
    kind = response.headers.get("content-type", "")
    text = _decoded(body, response.encoding or "utf-8")
    result = {"url": str(response.url), "status": response.status_code}
    if "html" in kind:
        result["title"], text = read_html(text)
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
