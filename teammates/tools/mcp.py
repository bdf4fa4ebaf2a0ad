"""MCP servers, over stdio and streamable HTTP, through the MCP package's own client.

A worker keeps one session per server for its runs and closes those that are idle. A session that
broke is replaced at its next use; what a crash does to a call is told to the run.
"""

import asyncio
import base64
import json
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx2
import pydantic
from mcp import Client, MCPError, types
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from teammates.public_http import BlockedAddress, PublicTransport
from teammates.tools.base import ToolContext, ToolError, UnknownEffect
from teammates.tools.servers import (
    LARGEST_SCHEMA,
    MOST_OPERATIONS,
    Operation,
    ServerConnection,
    ServerError,
)

logger = logging.getLogger("muster.mcp")

CONNECT_SECONDS = 20.0
CALL_SECONDS = 55.0  # a little less than a tool's own limit
IDLE_SECONDS = 120.0
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")


class _Session:
    """A connection in a task of its own: it is opened and closed in the same place."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._uses = 0
        self._last_used = 0.0
        self._task = asyncio.create_task(self._hold(), name="mcp session")

    @property
    def is_alive(self) -> bool:
        return not self._task.done() and not self._closing.is_set()

    async def _hold(self) -> None:
        try:
            async with _connected(self._connection) as client:
                self._ready.set_result(client)
                while not self._closing.is_set():
                    try:
                        async with asyncio.timeout(IDLE_SECONDS):
                            await self._closing.wait()
                    except TimeoutError:
                        loop = asyncio.get_running_loop()
                        if not self._uses and loop.time() - self._last_used >= IDLE_SECONDS:
                            return
        except asyncio.CancelledError:
            if not self._ready.done():
                self._ready.cancel()
            raise
        except Exception as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            else:
                logger.info("An MCP session ended: %s", _reason(error))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        self._uses += 1
        try:
            yield await asyncio.shield(self._ready)
        finally:
            self._uses -= 1
            self._last_used = asyncio.get_running_loop().time()

    def when_over(self, tell: Callable[[], None]) -> None:
        self._task.add_done_callback(lambda _: tell())

    async def close(self) -> None:
        self._closing.set()
        await asyncio.wait([self._task], timeout=3)
        if not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()


_sessions: dict[ServerConnection, _Session] = {}


def _session(connection: ServerConnection) -> _Session:
    known = _sessions.get(connection)
    if known is None or not known.is_alive:
        known = _sessions[connection] = _Session(connection)
        known.when_over(lambda: _forget(connection, known))
    return known


def _forget(connection: ServerConnection, session: "_Session") -> None:
    if _sessions.get(connection) is session:
        del _sessions[connection]


async def _drop(connection: ServerConnection) -> None:
    if session := _sessions.pop(connection, None):
        await session.close()


async def close_sessions() -> None:
    """Close all sessions of this event loop."""
    sessions = list(_sessions.values())
    _sessions.clear()
    await asyncio.gather(*(session.close() for session in sessions))


@asynccontextmanager
async def _connected(connection: ServerConnection) -> AsyncIterator[Client]:
    """A client of the server. Whatever goes wrong on the way is a `ServerError`."""
    if connection.kind == "mcp_stdio":
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
            try:
                async with _opened(stdio_client(_program(connection), errlog=complaints)) as client:
                    yield client
            except ServerError as error:
                complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - 2000))
                said = " ".join(complaints.read().split())[-300:]
                raise ServerError(f"{error} It said: {said}" if said else str(error)) from error
        return
    if connection.kind == "mcp_sse":

        def make(headers: Any = None, timeout: Any = None, auth: Any = None) -> httpx2.AsyncClient:
            return _http_client(connection, headers or {})

        async with _opened(sse_client(connection.url, httpx_client_factory=make)) as client:
            yield client
        return
    http = _http_client(connection, {})
    over_http = streamable_http_client(connection.url, http_client=http)
    async with http, _opened(over_http) as client:
        yield client


def _http_client(connection: ServerConnection, headers: dict[str, str]) -> httpx2.AsyncClient:
    """No redirects: the credential goes to the address that was set up, and nowhere else."""
    return httpx2.AsyncClient(
        headers=headers | connection.headers, params=connection.parameters,
        transport=None if connection.may_be_private else PublicTransport(),
        trust_env=False, follow_redirects=False,
        timeout=httpx2.Timeout(connect=10, read=CALL_SECONDS, write=30, pool=10),
    )  # fmt: skip


@asynccontextmanager
async def _opened(transport: Any) -> AsyncIterator[Client]:
    client = Client(transport, read_timeout_seconds=CALL_SECONDS)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await client.__aenter__()
    except Exception as error:
        raise ServerError(_reason(error)) from error
    try:
        yield client
    finally:
        await client.__aexit__(None, None, None)


def _program(connection: ServerConnection) -> StdioServerParameters:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return StdioServerParameters(
        command=connection.command[0],
        args=list(connection.command[1:]),
        # Nothing else of this process: its environment has keys and the database's address.
        env=kept | dict(connection.environment),
        cwd=tempfile.gettempdir(),
    )


async def discover(connection: ServerConnection) -> list[Operation]:
    """What the server offers. Raises `ServerError` with the reason."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS), _session(connection).client() as client:
            found: list[types.Tool] = []
            cursor = None
            while len(found) <= MOST_OPERATIONS:
                page = await client.list_tools(cursor=cursor, cache_mode="refresh")
                found += page.tools
                cursor = page.next_cursor
                if not cursor:
                    break
    except Exception as error:
        await _drop(connection)
        raise ServerError(_reason(error)) from error
    if len(found) > MOST_OPERATIONS:
        raise ServerError(f"It offers more than {MOST_OPERATIONS} tools.")
    return [_operation(tool) for tool in found]


def _operation(tool: types.Tool) -> Operation:
    schema = tool.input_schema
    if not isinstance(schema, dict) or len(json.dumps(schema, default=str)) > LARGEST_SCHEMA:
        raise ServerError(f"The schema of its tool {tool.name[:60]!r} cannot be used.")
    hints = tool.annotations
    reads_only = bool(hints and hints.read_only_hint)
    return Operation(
        name=tool.name[:200],
        title=(tool.title or (hints.title if hints else None) or "")[:100],
        description=(tool.description or "")[:4000],
        schema=schema | {"type": "object"},
        reads_only=reads_only,
        may_repeat=reads_only or bool(hints and hints.idempotent_hint),
        destroys=bool(hints and hints.destructive_hint),
    )


async def call(
    connection: ServerConnection,
    operation: Operation,
    context: ToolContext,
    arguments: dict[str, Any],
) -> Any:
    """Call a tool. Raises `ToolError`, or `UnknownEffect` if a change was sent and no answer
    came."""
    session = _session(connection)
    try:
        async with session.client() as client:
            given = await client.call_tool(
                operation.name, arguments,
                read_timeout_seconds=CALL_SECONDS,
                meta=cast(Any, {"muster/idempotency-key": context.call_key}),
            )  # fmt: skip
    except ServerError as error:  # it was never reached
        await _drop(connection)
        raise ToolError(f"{error} Nothing was sent.") from error
    except MCPError as error:
        if session.is_alive and not _is_broken(error):
            raise ToolError(f"The server refused: {error}") from error
        await _drop(connection)
        raise _broken(operation, error) from error
    except Exception as error:
        await _drop(connection)
        raise _broken(operation, error) from error
    return await _result(operation, given, context)


def _is_broken(error: MCPError) -> bool:
    """Whether it is about the connection rather than an answer of the server's."""
    return error.error.code in (types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT)


def _broken(operation: Operation, error: Exception) -> Exception:
    said = f"The server broke off ({_reason(error)})"
    return ToolError(said) if operation.reads_only else UnknownEffect(said)


async def _result(operation: Operation, given: types.CallToolResult, context: ToolContext) -> Any:
    texts: list[str] = []
    for number, part in enumerate(given.content):
        if isinstance(part, types.TextContent):
            texts.append(part.text)
        elif isinstance(part, types.ImageContent | types.AudioContent):
            ending = part.mime_type.rpartition("/")[2].split("+")[0][:10]
            name = f"{operation.name[:60]}-{context.call_key[-6:]}-{number}.{ending}"
            await context.write_file(name, base64.b64decode(part.data))
            texts.append(f"[{part.type} in the file {name}]")
        else:
            texts.append(json.dumps(part.model_dump(mode="json"), ensure_ascii=False)[:20_000])
    text = "\n".join(texts)
    if given.is_error:
        raise ToolError(text or "The tool failed without a word.")
    return given.structured_content if given.structured_content is not None else text


def _reason(error: BaseException) -> str:
    """One sentence about what is wrong with a server."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ServerError | BlockedAddress):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"It did not answer within {CONNECT_SECONDS:g} seconds."
    if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError):
        return f"The program could not be started ({error.strerror or error})."
    if isinstance(error, httpx2.HTTPStatusError):
        return f"It answered {error.response.status_code}."
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return "It could not be reached."
    if isinstance(error, pydantic.ValidationError | ValueError):
        return "It answered with something that is not MCP."
    said = " ".join(str(error).split())[:200]
    return f"{said or type(error).__name__}."
