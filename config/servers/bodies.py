"""The body of a request on its way: how large it may be, and how slow."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable
from http import HTTPStatus

from django.conf import settings

from teammates.trust import client
from teammates.types import JSON

DISCARD_SECONDS = 5  # of what goes on coming behind a refusal, so that its sender can read that
# How long a body may take to come: a while, and longer the larger it is.
PATIENCE_SECONDS = 60
SLOWEST = 50_000  # bytes a second

# Large bodies on their way at once: until one is there, nobody knows whether its sender may. One
# that does not get on gives its place back.
UPLOADS_OF_ONE, UPLOADS_OF_ALL = 8, 64
PROGRESS_SECONDS, PROGRESS_BYTES = 10, 100_000

_uploads: Counter[str] = Counter()  # by household


class BodyRefused(Exception):
    """Nothing more of this request is read. `answer` is what its sender is told, whole."""

    def __init__(self, path: str, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        body = json.dumps(_refusal(path, status, code, message)).encode()
        retry = "Retry-After: 5\r\n" if status == HTTPStatus.TOO_MANY_REQUESTS else ""
        self.answer = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            f"Content-Type: application/json; charset=utf-8\r\n{retry}"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )


class IncomingBody:
    """One body, from its announcement to its `end`, which must come however the request ends.

    `headers` have names in lower case; `peer` is who is connected; `give_up` ends the connection.
    Needs a running event loop.
    """

    def __init__(
        self,
        path: str,
        headers: Iterable[tuple[bytes, bytes]],
        peer: str,
        give_up: Callable[[], None],
    ) -> None:
        self._path, self._headers, self._peer = path, list(headers), peer
        self._give_up = give_up
        self.received = 0  # bytes
        self._limit = self._allowed()
        self._waits: dict[str, asyncio.TimerHandle] = {}
        self._sender = ""  # of a large body, while it is on its way

    def announce(self, length: int | None) -> None:
        """So many bytes will come; None: that is not said. Raises `BodyRefused`."""
        loop = asyncio.get_running_loop()
        if length is not None and length > self._limit:
            self._refuse_size()
        if self._limit > settings.MAX_JSON_BYTES and (
            length is None or length > settings.MAX_JSON_BYTES
        ):
            self._take_place()
            self._expect_progress(received_before=-PROGRESS_BYTES)
        patience = PATIENCE_SECONDS + (length or 0) / SLOWEST
        self._waits["late"] = loop.call_later(patience, self._give_up)

    def receive(self, size: int) -> None:
        """Raises `BodyRefused`."""
        self.received += size
        if self.received > self._limit:
            self._refuse_size()

    def end(self) -> None:
        """It is there, or will not come."""
        for wait in self._waits.values():
            wait.cancel()
        if self._sender:
            _uploads.subtract([self._sender])
            if not _uploads[self._sender]:
                del _uploads[self._sender]
            self._sender = ""

    def _allowed(self) -> int:
        """Bytes. Large bodies are for who says who they are; whether it is true, `signed_uploads`
        judges before anything is read of them."""
        is_signed = bool(self._values(b"authorization") or self._values(b"cookie"))
        is_form = [*self._values(b"content-type"), b""][0].startswith(b"multipart/")
        is_upload = (is_signed and is_form) or self._path.startswith("/api/v1/mail/")
        return int(settings.MAX_UPLOAD_BYTES if is_upload else settings.MAX_JSON_BYTES)

    def _values(self, wanted: bytes) -> list[bytes]:
        return [value for name, value in self._headers if name == wanted]

    def _refuse_size(self) -> None:
        self.end()
        raise BodyRefused(
            self._path,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "request_too_large",
            f"The request is too large: at most {self._limit} bytes are taken here.",
        )

    def _take_place(self) -> None:
        forwarded_for = [b"", *self._values(b"x-forwarded-for")][-1].decode("latin-1")
        sender = client.household_of(client.real_address(self._peer, forwarded_for))
        if _uploads[sender] >= UPLOADS_OF_ONE or _uploads.total() >= UPLOADS_OF_ALL:
            raise BodyRefused(
                self._path,
                HTTPStatus.TOO_MANY_REQUESTS,
                "request_rate_limited",
                "Too many uploads at this moment; try again.",
            )
        _uploads[sender] += 1
        self._sender = sender

    def _expect_progress(self, received_before: int) -> None:
        if self.received - received_before < PROGRESS_BYTES:
            self._give_up()
            return
        loop = asyncio.get_running_loop()
        self._waits["progress"] = loop.call_later(
            PROGRESS_SECONDS, self._expect_progress, self.received
        )


def _refusal(path: str, status: HTTPStatus, code: str, message: str) -> JSON:
    if path.startswith("/v1"):
        named = f"http.{code}"
        return {"code": named, "error": named, "message": message, "trace_id": ""}
    is_rate = status == HTTPStatus.TOO_MANY_REQUESTS
    error = {
        "type": "rate_limit_error" if is_rate else "invalid_request_error",
        "message": message,
        "code": status.value,
    }
    return {"error": error | {"error_code": code, "details": {"error_code": code}}}
