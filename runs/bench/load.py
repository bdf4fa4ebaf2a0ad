"""A small load client: keep-alive HTTP/1.1 over asyncio streams, cheap enough not to be measured.

It speaks only what the benchmark needs: JSON requests with a Content-Length, and event streams.
"""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


class LoadConnection:
    """One keep-alive connection; opened on first use."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self._reader, self._writer

    async def _send(
        self, method: str, path: str, body: Any, kind: str = "application/json"
    ) -> asyncio.StreamReader:
        """`body` is JSON, or text of another `kind`."""
        reader, writer = await self._open()
        text = body if isinstance(body, str) else json.dumps(body)
        content = b"" if body is None else text.encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        return reader

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and decoded JSON (None if there is none)."""
        reader = await self._send(method, path, body)
        status, headers = await _head(reader)
        length = int(headers.get("content-length", "0"))
        content = await reader.readexactly(length) if length else b""
        if "chunked" in headers.get("transfer-encoding", ""):
            content = b"".join([chunk async for chunk in _chunks(reader)])
        return status, json.loads(content) if content else None

    async def status_of(self, path: str) -> int:
        """The status of a GET; the connection ends with it."""
        status, _ = await _head(await self._send("GET", path, None))
        self.close()
        return status

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json"
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The chunks of an event stream; the connection ends with it."""
        reader = await self._send(method, path, body, kind)
        try:
            status, _ = await _head(reader)
            if status != 200:
                raise ConnectionError(f"{method} {path} answered {status}")
            yield _chunks(reader)
        finally:
            self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines[1:] if line)
    return int(lines[0].split()[1]), {name.lower(): value for name, _, value in pairs}


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readline()
    await reader.readline()


@dataclass
class Sample:
    """Durations in milliseconds and what went wrong."""

    milliseconds: list[float] = field(default_factory=list)
    failures: int = 0

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        began = time.perf_counter()
        try:
            yield
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
            self.failures += 1
        else:
            self.milliseconds.append((time.perf_counter() - began) * 1000)

    @property
    def ok_share(self) -> float:
        total = len(self.milliseconds) + self.failures
        return len(self.milliseconds) / total if total else 0.0

    def percentile(self, share: float) -> float:
        """By nearest rank; 0 where nothing was measured."""
        if not self.milliseconds:
            return 0.0
        ordered = sorted(self.milliseconds)
        return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def require(condition: bool) -> None:
    """Count an answer that is not the expected one as a failure of its sample."""
    if not condition:
        raise ValueError("unexpected answer")
