"""MCP servers, over stdio and streamable HTTP, through the MCP package's own client.

A worker keeps one session per server for its runs and closes those that are idle. A session that
broke is replaced at its next use; what a crash does to a call is told to the run.
"""

import asyncio
import logging
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

import httpx2
import pydantic
from mcp import Client, MCPError, types
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from teammates import timebox
from teammates.public_http import BlockedAddress, outside_client
from teammates.tools import schemas
from teammates.tools.base import ToolContext, ToolError, UnknownEffect
from teammates.tools.mcp_results import read_result
from teammates.tools.servers import MOST_OPERATIONS, Operation, ServerConnection, ServerError
from teammates.types import JSON

logger = logging.getLogger("muster.mcp")

CONNECT_SECONDS = 20.0
DESCRIBE_SECONDS = 1  # of work for the schemas of all tools
CALL_SECONDS = 55.0  # a little less than a tool's own limit
IDLE_SECONDS = 120.0
LARGEST_ANSWER = 8 * 1024 * 1024  # bytes of one answer, or of one stream of them
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")


class _Session:
    """A connection in a task of its own: it is opened and closed in the same place."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._uses = 0
        self._is_retired = False
        self._last_used = 0.0
        self.task = asyncio.create_task(self._hold(), name="mcp session")

    @property
    def is_usable(self) -> bool:
        return not self.task.done() and not self._is_retired

    async def _hold(self) -> None:
        try:
            async with _connected(self._connection) as client:
                self._ready.set_result(client)
                await self._until_idle()
        except Exception as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            else:
                logger.info("An MCP session ended: %s", _reason(error))
        finally:
            if not self._ready.done():
                self._ready.set_exception(ServerError("It was closed."))
            if not self._ready.cancelled():
                self._ready.exception()  # perhaps nobody waits for it any more

    async def _until_idle(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing.is_set():
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._closing.wait()
            except TimeoutError:
                if not self._uses and loop.time() - self._last_used >= IDLE_SECONDS:
                    return

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        self._uses += 1
        try:
            yield await asyncio.shield(self._ready)
        finally:
            self._uses -= 1
            self._last_used = asyncio.get_running_loop().time()
            if self._is_retired and not self._uses:
                self._closing.set()

    def retire(self) -> None:
        """Take no new calls; close once those on their way are over."""
        self._is_retired = True
        if not self._uses:
            self._closing.set()

    async def close(self) -> None:
        self._is_retired = True
        self._closing.set()
        await asyncio.wait([self.task], timeout=3)
        if not self.task.done():
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


# Of each event loop its own: a test from a page runs on another one than the worker.
_sessions: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[ServerConnection, _Session]]" = (
    WeakKeyDictionary()
)


def _own_sessions() -> dict[ServerConnection, _Session]:
    return _sessions.setdefault(asyncio.get_running_loop(), {})


def _session(connection: ServerConnection) -> _Session:
    sessions = _own_sessions()
    known = sessions.get(connection)
    if known is not None and known.is_usable:
        return known
    made = sessions[connection] = _Session(connection)

    def forget(_: object) -> None:
        if sessions.get(connection) is made:
            del sessions[connection]

    made.task.add_done_callback(forget)
    return made


async def close_sessions() -> None:
    """Close all sessions of this event loop."""
    sessions = list(_own_sessions().values())
    _own_sessions().clear()
    await asyncio.gather(*(session.close() for session in sessions))


@asynccontextmanager
async def _connected(connection: ServerConnection) -> AsyncIterator[Client]:
    """A client of the server. Whatever goes wrong on the way is a `ServerError`."""
    if connection.refused:
        raise ServerError(connection.refused)
    if connection.kind == "mcp_stdio":
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
            tempfile.TemporaryDirectory(prefix="muster-mcp-", ignore_cleanup_errors=True) as folder,
        ):
            program = _program(connection, folder)
            try:
                async with _opened(stdio_client(program, errlog=complaints)) as client:
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
    return outside_client(
        may_be_private=connection.may_be_private,
        most_bytes=LARGEST_ANSWER,
        headers=headers | connection.headers,
        params=connection.parameters,
        timeout=httpx2.Timeout(connect=10, read=CALL_SECONDS, write=30, pool=10),
    )


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


def _program(connection: ServerConnection, folder: str) -> StdioServerParameters:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return StdioServerParameters(
        command=connection.command[0],
        args=list(connection.command[1:]),
        # Nothing else of this process: its environment has keys and the database's address.
        env=kept | dict(connection.environment),
        # Its own: in one that others write to, `python -m` would load what they put there.
        cwd=folder,
    )


async def discover(connection: ServerConnection) -> list[Operation]:
    """What the server offers. Raises `ServerError` with the reason."""
    session = _session(connection)
    try:
        async with asyncio.timeout(CONNECT_SECONDS), session.client() as client:
            found: list[types.Tool] = []
            cursor = None
            while len(found) <= MOST_OPERATIONS:
                page = await client.list_tools(cursor=cursor, cache_mode="refresh")
                found += page.tools
                cursor = page.next_cursor
                if not cursor:
                    break
    except Exception as error:
        session.retire()
        raise ServerError(_reason(error)) from error
    if len(found) > MOST_OPERATIONS:
        raise ServerError(f"It offers more than {MOST_OPERATIONS} tools.")
    try:
        wrong = await timebox.awaited(
            DESCRIBE_SECONDS, schemas.first_unusable, [tool.input_schema for tool in found]
        )
    except timebox.TooCostly:
        raise ServerError("The schemas of its tools take too long to be read.") from None
    if wrong is not None:
        number, why = wrong
        raise ServerError(f"The schema of its tool {found[number].name[:60]!r} {why}.")
    return [_operation(tool) for tool in found]


def _operation(tool: types.Tool) -> Operation:
    hints = tool.annotations
    reads_only = bool(hints and hints.read_only_hint)
    return Operation(
        name=tool.name[:200],
        title=(tool.title or (hints.title if hints else None) or "")[:100],
        description=(tool.description or "")[:4000],
        schema=tool.input_schema | {"type": "object"},
        reads_only=reads_only,
        may_repeat=reads_only or bool(hints and hints.idempotent_hint),
        destroys=bool(hints and hints.destructive_hint),
    )


async def call(
    connection: ServerConnection,
    operation: Operation,
    context: ToolContext,
    arguments: JSON,
) -> Any:
    """Call a tool. Raises `ToolError`, or `UnknownEffect` if a change was sent and no answer
    came."""
    session = _session(connection)
    try:
        async with session.client() as client:
            given = await client.call_tool(
                operation.name,
                arguments,
                read_timeout_seconds=CALL_SECONDS,
                meta=cast(Any, {"muster/idempotency-key": context.call_key}),
            )
    except ServerError as error:  # it was never reached
        session.retire()
        raise ToolError(f"{error} Nothing was sent.") from error
    except MCPError as error:
        if session.is_usable and not _is_broken(error):
            raise ToolError(f"The server refused: {error}") from error
        session.retire()
        raise _broken(operation, error) from error
    except Exception as error:
        session.retire()
        raise _broken(operation, error) from error
    return await read_result(operation, given, context)


def _is_broken(error: MCPError) -> bool:
    """Whether it is about the connection rather than an answer of the server's."""
    return error.error.code in (types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT)


def _broken(operation: Operation, error: Exception) -> Exception:
    said = f"The server broke off ({_reason(error)})"
    return ToolError(said) if operation.reads_only else UnknownEffect(said)


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
