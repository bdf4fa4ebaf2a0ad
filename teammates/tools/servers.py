"""Tools from outside: what a server offers as `Tool`s, and how each is called.

A server is known by its `ServerConnection`, a value without the database. REST APIs are called by
`tools/rest.py`, MCP servers by `tools/mcp.py`, which is imported when the first one is used.
"""

import hashlib
import importlib
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from teammates.tools.base import Runner, Tool, ToolContext
from teammates.types import JSON

MOST_OPERATIONS = 128
LONGEST_NAME = 64  # what vendors take as the name of a tool
Auth = Literal["none", "bearer", "custom_header", "api_key_in_url", "oauth_token"]


class ServerError(Exception):
    """The server cannot be used; the message is a sentence for a person."""


@dataclass(frozen=True)
class ServerConnection:
    """Where a server is and the credential for it."""

    kind: str
    url: str = ""
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    auth_type: str = "none"
    auth_name: str = ""  # of the header or the query parameter
    secret: str = field(default="", repr=False)
    may_be_private: bool = False
    refused: str = ""  # why a program may not run here
    owner: int = 0  # the server's id: what is open for one is used for no other

    @property
    def headers(self) -> dict[str, str]:
        if not self.secret:
            return {}
        if self.auth_type in ("bearer", "oauth_token"):
            return {"Authorization": f"Bearer {self.secret}"}
        if self.auth_type == "custom_header":
            return {self.auth_name: self.secret}
        return {}

    @property
    def parameters(self) -> dict[str, str]:
        in_url = self.auth_type == "api_key_in_url" and self.secret
        return {self.auth_name or "api_key": self.secret} if in_url else {}


@dataclass(frozen=True)
class Operation:
    """One thing that a server does, as it describes it. `method` and `path` are of REST APIs."""

    name: str
    description: str = ""
    title: str = ""
    schema: JSON = field(default_factory=lambda: {"type": "object"})
    reads_only: bool = False
    may_repeat: bool = False
    destroys: bool = False
    method: str = ""
    path: str = ""

    def to_json(self) -> JSON:
        return asdict(self)

    @classmethod
    def from_json(cls, data: JSON) -> "Operation":
        return cls(**data)


def tool_name(slug: str, operation: str) -> str:
    """`slug__operation`, as vendors take it: ASCII, short, unique."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", operation)
    name = f"{slug.replace('-', '_')}__{plain}"
    if len(name) <= LONGEST_NAME and plain == operation:
        return name
    mark = hashlib.sha256(operation.encode()).hexdigest()[:6]
    return f"{name[: LONGEST_NAME - 7]}_{mark}"


def tools_of(
    slug: str,
    label: str,
    connection: ServerConnection,
    operations: list[Operation],
    *,
    is_trusted: bool,
) -> list[Tool]:
    """A server's operations as tools. What changes something on one that is not trusted asks in
    every mode."""
    return [_tool(slug, label, connection, one, is_trusted=is_trusted) for one in operations]


def _tool(
    slug: str, label: str, connection: ServerConnection, operation: Operation, *, is_trusted: bool
) -> Tool:
    title = operation.title or operation.name.replace("_", " ").replace("-", " ")
    is_rest = connection.kind == "rest_api"
    # What an MCP server says of itself counts once people trust it; of a REST API, people said it.
    is_believed = is_rest or is_trusted
    reads_only = operation.reads_only and is_believed

    def say(arguments: JSON) -> str:
        told = ", ".join(f"{name}: {_brief(value)}" for name, value in arguments.items())
        return f"{label}: {title}" + (f" ({told})" if told else "")

    return Tool(
        name=tool_name(slug, operation.name),
        title=f"{label}: {title}",
        description=operation.description or title,
        schema=operation.schema,
        say=say,
        run=_runner(connection, operation),
        group="servers",
        changes=not reads_only,
        may_repeat=reads_only or (operation.may_repeat and is_believed),
        approval="by_mode" if is_trusted or reads_only else "always",
        risk="low" if operation.reads_only else "high" if operation.destroys else "medium",
        consequence="" if operation.reads_only else f"{label} acts at once, outside of Muster.",
        preview="request" if is_rest else "fields",
        server=slug,
        endpoint=f"{operation.method} {urlsplit(connection.url).hostname}{operation.path}"
        if is_rest
        else "",
    )


def _brief(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:59] + "…"


def _runner(connection: ServerConnection, operation: Operation) -> Runner:
    async def run(context: ToolContext, arguments: JSON) -> Any:
        return await _client(connection.kind).call(connection, operation, context, arguments)

    return run


def _client(kind: str) -> Any:
    """The module that speaks to servers of a kind; the MCP package takes a second to import."""
    return importlib.import_module(
        "teammates.tools.rest" if kind == "rest_api" else "teammates.tools.mcp"
    )


async def discover(connection: ServerConnection) -> list[Operation]:
    """Ask an MCP server what it offers. Raises `ServerError`."""
    found: list[Operation] = await _client(connection.kind).discover(connection)
    return found


async def close_sessions() -> None:
    """Close what calls left open on this event loop."""
    import sys

    if mcp := sys.modules.get("teammates.tools.mcp"):
        await mcp.close_sessions()
