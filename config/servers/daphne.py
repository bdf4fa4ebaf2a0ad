"""Daphne with its edges filed (traps 3): 413 before the body is read, a view of what a slow reader
has not taken yet, and an end that closes every stream and exits with 0.
"""

import os

# Its compiled parts are for more websockets than there are here, and cost memory.
os.environ.setdefault("AUTOBAHN_USE_NVX", "0")

from daphne.server import Server as DaphneServer  # isort: skip  # first: it installs the reactor

import asyncio
from http import HTTPStatus
from typing import Any

from daphne.http_protocol import WebRequest
from twisted.internet import defer
from twisted.internet import reactor as twisted_reactor
from twisted.web.http import RESPONSES

from config.servers import Service
from config.servers.bodies import DISCARD_SECONDS, BodyRefused, IncomingBody
from teammates.types import JSON

reactor: Any = twisted_reactor  # a module that is really an object
# The words behind a status: Twisted knows none for newer ones.
RESPONSES.update({status.value: status.phrase.encode() for status in HTTPStatus})


class Request(WebRequest):
    """A request that is refused from its Content-Length, before its body fills the disk."""

    _body: IncomingBody | None = None  # where one is announced
    _is_refused = False

    def gotLength(self, length: int | None) -> None:
        if length != 0:
            self._expect_body(length)
        super().gotLength(0 if self._is_refused else length)

    def _expect_body(self, length: int | None) -> None:
        headers = [
            (name.lower(), value)
            for name, values in self.requestHeaders.getAllRawHeaders()
            for value in values
        ]
        transport = self.channel.transport
        self._body = IncomingBody(
            self.channel._path.decode("latin-1"),
            headers,
            getattr(transport.getPeer(), "host", ""),
            give_up=transport.loseConnection,
        )
        try:
            self._body.announce(length)
        except BodyRefused as refused:
            self._refuse(refused)

    def handleContentChunk(self, data: bytes) -> None:
        if self._body is not None and not self._is_refused:
            try:
                self._body.receive(len(data))
            except BodyRefused as refused:
                self._refuse(refused)
        if not self._is_refused:
            super().handleContentChunk(data)

    def process(self) -> Any:
        self._stop_waiting()
        return None if self._is_refused else super().process()

    def connectionLost(self, reason: Any) -> None:
        self._stop_waiting()
        super().connectionLost(reason)

    def _stop_waiting(self) -> None:
        if self._body is not None:
            self._body.end()

    def _refuse(self, refused: BodyRefused) -> None:
        """Answer now; go on discarding for a moment, so that the answer can be read."""
        self._is_refused = True
        self.channel.transport.write(refused.answer)
        reactor.callLater(DISCARD_SECONDS, self.channel.transport.loseConnection)


class Server(DaphneServer):
    def __init__(self, service: Service) -> None:
        super().__init__(
            service.application,
            endpoints=[f"fd:fileno={os.dup(service.listener.fileno())}"],  # it closes the number
            ready_callable=self._ready,
            verbosity=0,
            server_name="muster",
        )
        self._service = service
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
        asyncio.ensure_future(self._service.on_ready()).add_done_callback(self._begun)

    def _begun(self, task: "asyncio.Future[None]") -> None:
        if not task.cancelled() and (error := task.exception()):
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Stop, and let `run` raise `error`."""
        self.error = error
        self.stop()

    def _stop(self) -> Any:
        return defer.Deferred.fromFuture(asyncio.ensure_future(self._service.on_stop()))

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
