"""uvicorn with the edges that Daphne has: the same limits of bodies, heads that are whole in time,
readers that take what they are sent, and an end that closes every stream.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import cast

import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from config.servers import Service
from config.servers.bodies import DISCARD_SECONDS, BodyRefused, IncomingBody
from teammates.types import JSON

HEAD_SECONDS = 60  # until the head of a request must be whole
LARGEST_HEAD = 64 * 1024  # bytes
STALLED_SECONDS = 60  # how long a reader may take nothing of what waits for it
LARGEST_SOCKET_MESSAGE = 64 * 1024  # bytes; pages say little
END_SECONDS = 3  # in which answers may be finished once the server is told to stop


class _NeedsReading(asyncio.Protocol):
    """Whoever reads nothing of what waits for them is cut off: nobody keeps an answer, and what it
    was made of, for ever."""

    transport: asyncio.Transport
    _stalled: asyncio.TimerHandle | None = None  # while there is more to read than is taken

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(high=0)  # to be told of the first byte that waits
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch(None)

    def resume_writing(self) -> None:
        self._stop_watching()
        super().resume_writing()

    def _watch(self, unsent_before: int | None) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent_before is not None and unsent >= unsent_before:
            self.transport.abort()
        else:
            loop = asyncio.get_running_loop()
            self._stalled = loop.call_later(STALLED_SECONDS, self._watch, unsent)

    def _stop_watching(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()


class SocketProtocol(_NeedsReading, WebSocketsSansIOProtocol):  # type: ignore[misc]
    """One websocket."""


class Protocol(_NeedsReading, HttpToolsProtocol):
    """One connection. `cycle` is the request that came last; before it is answered, one that came
    earlier may be `_running`."""

    _running: RequestResponseCycle | None = None
    _head_late: asyncio.TimerHandle | None = None  # while a head is on its way
    _head_size = 0
    _body: IncomingBody | None = None
    # Bytes of a chunked body with what is around them; None: it is not chunked
    _packed: int | None = None
    _is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._unanswered is not None:
            _tell_nobody_is_there(self._unanswered)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self.timeout_keep_alive_task is not None:
            self._expect_head()  # what comes now must become one
        goes_on = self._head_late
        if self._packed is not None:
            self._packed += len(data)
        super().data_received(data)
        if self._head_late is not None and self._head_late is goes_on:
            self._head_size += len(data)
            if self._head_size > LARGEST_HEAD:
                self.transport.abort()
        if (
            self._packed is not None
            and self._body is not None
            and self._packed > self._body.received * 9 // 8 + LARGEST_HEAD
        ):
            self.transport.abort()  # next to nothing but trailers, or the edges of chunks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_late is not None:  # else it is a trailer: nobody may say more about a request
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        if self._is_refused:  # what follows a refusal, in the same piece
            return
        self._body = None
        scope = cast(JSON, self.scope)
        scope["muster.unsent"] = self.transport.get_write_buffer_size
        scope["muster.abort"] = self.transport.abort
        try:
            self._expect_body()
        except BodyRefused as refused:
            self._refuse(refused)
        else:
            super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        self._stop_waiting()  # from here on the connection is another protocol's
        if self._unanswered is not None:
            self.transport.abort()  # the answer before it is not whole
            return
        super().handle_websocket_upgrade()
        socket = cast(SocketProtocol, self.transport.get_protocol())
        if not socket.handshake_initiated:  # it is none that can be taken: nobody waits for more
            self.transport.abort()

    def on_body(self, body: bytes) -> None:
        if self._is_refused:
            return
        if self._body is not None:
            try:
                self._body.receive(len(body))
            except BodyRefused as refused:
                self._refuse(refused)
                return
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stop_waiting()
        if not self._is_refused:
            super().on_message_complete()

    def shutdown(self) -> None:
        """An answer that nobody knows the end of, a stream's, ends now; others may be finished."""
        super().shutdown()
        running = self._running
        if running is not None and running.response_started and running.chunked_encoding:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _unanswered(self) -> RequestResponseCycle | None:
        """The running request, until its answer is whole."""
        running = self._running
        return None if running is None or running.response_complete else running

    # --- what is waited for ---------------------------------------------------------------------
    def _expect_head(self) -> None:
        self._stop_waiting()
        self._head_size = 0
        self._head_late = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _expect_body(self) -> None:
        headers = dict(self.headers)
        is_chunked = b"transfer-encoding" in headers
        # The parser has refused what is no number.
        length = None if is_chunked else int(headers.get(b"content-length", 0))
        if length != 0:
            path, peer = self.url.decode("latin-1"), self.client[0] if self.client else ""
            self._body = IncomingBody(path, self.headers, peer, give_up=self.transport.abort)
            self._packed = 0 if is_chunked else None
            self._body.announce(length)

    def _stop_waiting(self) -> None:
        """The head, or the body, is there."""
        if self._head_late is not None:
            self._head_late.cancel()
            self._head_late = None
        if self._body is not None:
            self._body.end()
        self._packed = None

    def _refuse(self, refused: BodyRefused) -> None:
        """Answer now; go on discarding for a moment, so that the answer can be read."""
        self._is_refused = True
        self._stop_waiting()
        if (running := self._unanswered) is not None:
            if running.response_started or running.scope is not self.scope:
                self.transport.abort()  # in the middle of an answer there is no place for another
                return
            _tell_nobody_is_there(running)
        self.flow.resume_reading()
        self.transport.write(refused.answer)
        self.loop.call_later(DISCARD_SECONDS, self.transport.abort)


def _tell_nobody_is_there(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()


class Server(uvicorn.Server):
    def __init__(self, service: Service) -> None:
        super().__init__(
            uvicorn.Config(
                service.application,
                loop="asyncio",
                http=Protocol,
                ws=SocketProtocol,
                ws_max_size=LARGEST_SOCKET_MESSAGE,
                interface="asgi3",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # the application knows whom to believe
                server_header=False,
                headers=[("server", "muster")],
                timeout_graceful_shutdown=END_SECONDS,
            )
        )
        self._service = service
        self.error: BaseException | None = None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run([self._service.listener])
        if self.error is not None:
            raise self.error

    def fail(self, error: BaseException) -> None:
        """Stop, and let `run` raise `error`."""
        self.error = error
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        try:
            await self._service.on_ready()
        except Exception as error:
            self.fail(error)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._service.on_stop()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, but without raising them once more at the end."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
