"""uvicorn with the edges that Daphne has: the same limits of bodies, heads that are whole in time,
readers that take what they are sent, and an end that closes every stream.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from config.servers.bodies import DISCARD_SECONDS, BodyRefused, IncomingBody
from teammates.types import JSON

HEAD_SECONDS = 60  # until the head of a request must be whole
LARGEST_HEAD = 64 * 1024  # bytes
STALLED_SECONDS = 60  # how long a reader may take nothing of what waits for it
LARGEST_SOCKET_MESSAGE = 64 * 1024  # bytes; pages say little
END_SECONDS = 3  # in which answers may be finished once the server is told to stop


class Protocol(HttpToolsProtocol):
    """One connection."""

    _head_late: asyncio.TimerHandle | None = None  # while a head is on its way
    _head_size = 0
    _stalled: asyncio.TimerHandle | None = None  # while there is more to read than is taken
    _body: IncomingBody | None = None
    _is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._stalled is not None:
            self._stalled.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        if self._head_late is not None:
            self._head_size += len(data)
            if self._head_size > LARGEST_HEAD and not self.transport.is_closing():
                self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
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
        super().handle_websocket_upgrade()

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

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def shutdown(self) -> None:
        """An answer that nobody knows the end of, a stream's, ends now; others may be finished."""
        super().shutdown()
        if self.cycle is not None and self.cycle.response_started and self.cycle.chunked_encoding:
            self.transport.close()

    # --- what is waited for ---------------------------------------------------------------------
    def _expect_head(self) -> None:
        self._stop_waiting()
        self._head_size = 0
        self._head_late = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _expect_body(self) -> None:
        headers = dict(self.headers)
        length: int | None = None
        if b"transfer-encoding" not in headers:
            length = int(headers.get(b"content-length", 0))  # the parser has refused what is none
        if length != 0:
            path, peer = self.url.decode("latin-1"), self.client[0] if self.client else ""
            self._body = IncomingBody(path, self.headers, peer, give_up=self.transport.abort)
            self._body.announce(length)

    def _expect_reading(self, unsent_before: int | None = None) -> None:
        """Nobody who reads nothing keeps an answer, and what it was made of, for ever."""
        unsent = self.transport.get_write_buffer_size()
        if unsent_before is not None and unsent >= unsent_before:
            self.transport.abort()
        else:
            self._stalled = self.loop.call_later(STALLED_SECONDS, self._expect_reading, unsent)

    def _stop_waiting(self) -> None:
        if self._head_late is not None:
            self._head_late.cancel()
            self._head_late = None
        if self._body is not None:
            self._body.end()

    def _refuse(self, refused: BodyRefused) -> None:
        """Answer now; go on discarding for a moment, so that the answer can be read."""
        self._is_refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started or self.cycle.scope is not self.scope:
                self.transport.abort()  # in the middle of an answer there is no place for another
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self.transport.write(refused.answer)
        self.loop.call_later(DISCARD_SECONDS, self.transport.close)


class Server(uvicorn.Server):
    def __init__(
        self,
        application: Any,
        *,
        listener: socket.socket,
        on_ready: Callable[[], Awaitable[None]],
        on_stop: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                loop="asyncio",
                http=Protocol,
                ws="websockets-sansio",
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
        self._listener = listener
        self._on_ready, self._on_stop = on_ready, on_stop
        self.error: BaseException | None = None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run([self._listener])
        if self.error is not None:
            raise self.error

    def fail(self, error: BaseException) -> None:
        """Stop, and let `run` raise `error`."""
        self.error = error
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        try:
            await self._on_ready()
        except Exception as error:
            self.fail(error)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._on_stop()
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
