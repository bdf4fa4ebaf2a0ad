"""Search the web, through whichever engine the organization set up."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2

from teammates.public_http import BlockedAddress, outside_client
from teammates.tools.base import Text, Tool, ToolContext, ToolError, object_schema
from teammates.types import JSON

SECONDS = 20.0
MOST_RESULTS, USUAL_RESULTS = 20, 8
LONGEST_TEXT = 600  # characters of a result
LARGEST_ANSWER = 4 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class SearchConnection:
    """Where searches are made, with which key."""

    kind: str
    api_key: str = ""
    address: str = ""
    may_be_private: bool = False  # else only public addresses are reached


@dataclass(frozen=True)
class Engine:
    """`asks` makes the arguments of a request of `httpx2`'s from address, key, query and number of
    results; `found` gets the results out of the answer, each with url, title and text."""

    label: str
    asks: Callable[[str, str, str, int], JSON]
    found: Callable[[JSON], list[JSON]]
    address: str = ""  # empty: somebody says where it is
    needs_key: bool = True


def _brave(address: str, key: str, query: str, count: int) -> JSON:
    return {
        "method": "GET",
        "url": f"{address}/res/v1/web/search",
        "params": {"q": query, "count": count},
        "headers": {"X-Subscription-Token": key, "Accept": "application/json"},
    }


def _tavily(address: str, key: str, query: str, count: int) -> JSON:
    return {
        "method": "POST",
        "url": f"{address}/search",
        "json": {"query": query, "max_results": count},
        "headers": {"Authorization": f"Bearer {key}"},
    }


def _searxng(address: str, key: str, query: str, count: int) -> JSON:
    return {
        "method": "GET",
        "url": f"{address}/search",
        "params": {"q": query, "format": "json"},
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
    }


def _results(rows: list[JSON], text: str) -> list[JSON]:
    return [
        {"title": str(row.get("title") or ""), "url": str(row["url"]), "text": row.get(text) or ""}
        for row in rows
    ]


ENGINES = {
    "brave": Engine(
        "Brave",
        _brave,
        lambda answer: _results(answer.get("web", {}).get("results", []), "description"),
        "https://api.search.brave.com",
    ),
    "tavily": Engine(
        "Tavily",
        _tavily,
        lambda answer: _results(answer["results"], "content"),
        "https://api.tavily.com",
    ),
    "searxng": Engine(
        "SearXNG",
        _searxng,
        lambda answer: _results(answer["results"], "content"),
        needs_key=False,
    ),
}


async def search(connection: SearchConnection, query: str, count: int) -> list[JSON]:
    """Up to `count` results, best first: title, url, text. Raises `ToolError`."""
    engine = ENGINES[connection.kind]
    address = (connection.address or engine.address).rstrip("/")
    asked = engine.asks(address, connection.api_key, query, count)
    client = outside_client(
        may_be_private=connection.may_be_private, timeout=SECONDS, most_bytes=LARGEST_ANSWER
    )
    try:
        async with asyncio.timeout(SECONDS), client:
            answer = await client.request(**asked)
    except (httpx2.HTTPError, httpx2.InvalidURL, BlockedAddress, TimeoutError) as error:
        raise ToolError(f"{engine.label} could not be reached. Try again later.") from error
    _refuse(engine, answer)
    try:
        found = engine.found(answer.json())[:count]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ToolError(f"{engine.label} answered with something that is no results.") from None
    return [one | {"text": str(one["text"])[:LONGEST_TEXT]} for one in found]


def _refuse(engine: Engine, answer: httpx2.Response) -> None:
    """Raises `ToolError` for an answer without results."""
    if answer.status_code in (401, 403):
        raise ToolError(
            f"{engine.label} refused the search: whoever manages Muster checks its key, or whether "
            "it gives out JSON, under Settings, Tools."
        )
    if answer.status_code in (402, 429, 432):
        raise ToolError(f"{engine.label} allows no more searches right now.")
    if answer.status_code >= 400:
        raise ToolError(f"{engine.label} answered {answer.status_code}.")


async def _run(context: ToolContext, arguments: JSON) -> Any:
    connection = context.search_connection
    if connection is None:
        raise ToolError("Web search is not set up any more.")
    count = arguments.get("count", USUAL_RESULTS)
    results = await search(connection, arguments["query"], count)
    return {"results": results} if results else {"results": [], "note": "Nothing was found."}


WEB_SEARCH = Tool(
    name="web_search",
    title="Search the web",
    description="Search the web: titles, addresses and a few words of each result, best first. "
    "web_fetch reads one.",
    schema=object_schema(
        ["query"],
        query=Text("What to search for.", 400).schema,
        count={
            "type": "integer",
            "minimum": 1,
            "maximum": MOST_RESULTS,
            "description": f"How many results; {USUAL_RESULTS} if it is not said.",
        },
    ),
    say=lambda arguments: f"Search the web for {arguments['query']}",
    run=_run,
    group="web",
    guarded=True,
    gives_data=True,
)
