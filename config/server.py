"""Daphne with its edges filed (traps 3): a larger backlog, 413 before the body is read, a view of
what a slow reader has not taken yet, and an end that closes every stream and exits with 0.
"""

from daphne.server import Server as DaphneServer  # isort: skip  # first: it installs the reactor

import asyncio
import json
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from daphne.http_protocol import WebRequest
from django.conf import settings
from twisted.internet import defer
from twisted.internet import reactor as twisted_reactor
from twisted.web.http import RESPONSES

from teammates.trust import client
from teammates.types import JSON

reactor: Any = twisted_reactor  # a module that is really an object
# The words behind a status: Twisted knows none for newer ones.
RESPONSES.update({status.value: status.phrase.encode() for status in HTTPStatus})

DISCARD_SECONDS = 5
# How long a body may take to come: a while, and longer the larger it is.
PATIENCE_SECONDS = 60
SLOWEST = 50_000  # bytes a second

# Large bodies on their way at once: until one is there, nobody knows whether its sender may. One
# that does not get on gives its place back.
UPLOADS_OF_ONE, UPLOADS_OF_ALL = 8, 64
PROGRESS_SECONDS, PROGRESS_BYTES = 10, 100_000

REFUSAL = "The request is too large: at most {limit} bytes are taken here."
BUSY = "Too many uploads at this moment; try again."
_uploads: Counter[str] = Counter()  # by household


class Request(WebRequest):
    """A request that is refused from its Content-Length, before its body fills the disk."""

    _refused = False
    _received = 0
    _late: Any = None  # what ends the wait for the body
    _stuck: Any = None  # what ends it earlier, where it holds a place
    _sender: str | None = None  # of a large body, while it is on its way

    def gotLength(self, length: int | None) -> None:
        self._limit = self._body_limit()
        may_be_large = self._limit > settings.MAX_JSON_BYTES
        if may_be_large and (length is None or length > settings.MAX_JSON_BYTES):
            self._count_upload()
        if not self._refused and length is not None and length > self._limit:
            self._refuse()
        if not self._refused:
            patience = PATIENCE_SECONDS + (length or 0) / SLOWEST
            self._late = reactor.callLater(patience, self._give_up)
        super().gotLength(0 if self._refused else length)

    def _count_upload(self) -> None:
        peer = getattr(self.channel.transport.getPeer(), "host", "")
        forwarded_for = (self.requestHeaders.getRawHeaders(b"x-forwarded-for") or [b""])[-1]
        sender = client.household_of(client.real_address(peer, forwarded_for.decode("latin-1")))
        if _uploads[sender] >= UPLOADS_OF_ONE or _uploads.total() >= UPLOADS_OF_ALL:
            self._refuse("429 Too Many Requests", "request_rate_limited", BUSY)
            return
        _uploads[sender] += 1
        self._sender = sender
        self._stuck = reactor.callLater(PROGRESS_SECONDS, self._expect_progress, 0)

    def _expect_progress(self, received_before: int) -> None:
        if self._received - received_before < PROGRESS_BYTES:
            self._give_up()
        else:
            self._stuck = reactor.callLater(PROGRESS_SECONDS, self._expect_progress, self._received)

    def _body_limit(self) -> int:
        """Large bodies are for who says who they are; whether it is true, `signed_uploads` judges
        before anything is read of them."""
        headers = self.requestHeaders
        kind = (headers.getRawHeaders(b"content-type") or [b""])[0]
        is_signed = headers.hasHeader(b"authorization") or headers.hasHeader(b"cookie")
        is_mail = self.channel._path.startswith(b"/api/v1/mail/")
        is_upload = is_mail or (is_signed and kind.startswith(b"multipart/"))
        return int(settings.MAX_UPLOAD_BYTES if is_upload else settings.MAX_JSON_BYTES)

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._limit and not self._refused:
            self._refuse()
        if not self._refused:
            super().handleContentChunk(data)

    def process(self) -> Any:
        self._stop_waiting()
        return None if self._refused else super().process()

    def connectionLost(self, reason: Any) -> None:
        self._stop_waiting()
        super().connectionLost(reason)

    def _stop_waiting(self) -> None:
        if self._sender is not None:
            _uploads.subtract([self._sender])
            if not _uploads[self._sender]:
                del _uploads[self._sender]
            self._sender = None
        for call in (self._late, self._stuck):
            if call is not None and call.active():
                call.cancel()

    def _give_up(self) -> None:
        """A body that drips holds a connection for ever."""
        self.channel.transport.loseConnection()

    def _refuse(
        self,
        status: str = "413 Content Too Large",
        code: str = "request_too_large",
        message: str = REFUSAL,
    ) -> None:
        """Answer now; go on discarding for a moment, so that the answer can be read."""
        self._refused = True
        self._stop_waiting()
        path = self.channel._path.decode("latin-1")
        said = _refusal(path, int(status[:3]), code, message.format(limit=self._limit))
        body = json.dumps(said).encode()
        retry = "Retry-After: 5\r\n" if status.startswith("429") else ""
        transport = self.channel.transport
        transport.write(
            f"HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\n{retry}"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        reactor.callLater(DISCARD_SECONDS, transport.loseConnection)


def _refusal(path: str, status: int, code: str, message: str) -> JSON:
    if path.startswith("/v1"):
        named = f"http.{code}"
        return {"code": named, "error": named, "message": message, "trace_id": ""}
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    error = {"type": kind, "message": message, "code": status}
    return {"error": error | {"error_code": code, "details": {"error_code": code}}}


class Server(DaphneServer):
    """Serves what comes to `listener`, a socket that listens already and that several processes
    may share. `on_ready` runs on the event loop; `on_stop` before the streams are ended."""

    def __init__(
        self,
        application: Any,
        *,
        listener: socket.socket,
        on_ready: Callable[[], Awaitable[None]],
        on_stop: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(
            application,
            endpoints=[f"fd:fileno={os.dup(listener.fileno())}"],  # it closes the number
            ready_callable=self._ready,
            verbosity=0,
            server_name="muster",
        )
        self._on_ready = on_ready
        self._on_stop = on_stop
        self.error: BaseException | None = None

    def _ready(self) -> None:
        self.http_factory.buildProtocol = self._build_protocol
        reactor.addSystemEventTrigger("before", "shutdown", self._stop)
        reactor.callWhenRunning(self._begin)

    def _build_protocol(self, address: Any) -> Any:
        protocol = type(self.http_factory).buildProtocol(self.http_factory, address)
        protocol.requestFactory = Request
        return protocol

    def _begin(self) -> None:
        asyncio.ensure_future(self._on_ready()).add_done_callback(self._begun)

    def _begun(self, task: "asyncio.Future[None]") -> None:
        if not task.cancelled() and (error := task.exception()):
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Stop, and let `run` raise `error`."""
        self.error = error
        self.stop()

    def _stop(self) -> Any:
        return defer.Deferred.fromFuture(asyncio.ensure_future(self._on_stop()))

    def create_application(self, protocol: Any, scope: JSON) -> Any:
        if scope["type"] == "http":
            scope["muster.unsent"] = lambda: _unsent_bytes(protocol)
            scope["muster.abort"] = lambda: _abort(protocol)
        return super().create_application(protocol, scope)

    def kill_all_applications(self) -> Any:
        running = [
            instance
            for details in self.connections.values()
            if (instance := details.get("application_instance")) and not instance.done()
        ]
        for instance in running:
            instance.cancel()
        return defer.Deferred.fromFuture(
            asyncio.ensure_future(asyncio.gather(*running, return_exceptions=True))
        )

    def run(self) -> None:
        """Serve until SIGINT, SIGTERM or `stop`; then leave nothing pending on the loop."""
        super().run()
        loop = reactor._asyncioEventloop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        if self.error is not None:
            raise self.error


def _transport(protocol: Any) -> Any:
    channel = getattr(protocol, "channel", None)
    transport = getattr(channel, "transport", None)
    return getattr(transport, "transport", transport)  # behind H1's producer wrapper


def _unsent_bytes(protocol: Any) -> int:
    transport = _transport(protocol)
    if transport is None or not hasattr(transport, "dataBuffer"):
        return 0
    return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)


def _abort(protocol: Any) -> None:
    transport = _transport(protocol)
    if transport is not None:
        transport.abortConnection()
