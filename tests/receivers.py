"""A receiver of webhooks for tests, on loopback: what it answers is in the path."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from runs.webhooks import payloads


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: bytes


class Handler(BaseHTTPRequestHandler):
    server: "Receiver"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append(Request(self.path, dict(self.headers), body))
        getattr(self, self.path.strip("/").partition("/")[0])(body)

    def _answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def ok(self, body: bytes) -> None:
        self._answer(200, b"thanks\x00", Server="a receiver")

    def broken(self, body: bytes) -> None:
        self._answer(500 if self.server.is_broken else 200, b"broken")

    def gone(self, body: bytes) -> None:
        self._answer(410)

    def away(self, body: bytes) -> None:
        self._answer(302, Location=f"{self.server.url}/ok")

    def strict(self, body: bytes) -> None:
        """Knows one secret, and refuses what another signed."""
        sent = self.headers["Webhook-Signature"]
        message = f"{self.headers['Webhook-Id']}.{self.headers['Webhook-Timestamp']}."
        right = payloads.sign(self.server.secret, message + body.decode())
        self._answer(204 if sent == f"v1={right}" else 401)

    def silent(self, body: bytes) -> None:
        self.server.over.wait(20)

    def huge(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while not self.server.over.is_set():
                self.wfile.write(b"x" * 65536)
        except OSError:
            pass

    def drip(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while not self.server.over.wait(0.05):
                self.wfile.write(b".")
        except OSError:
            pass

    def slow(self, body: bytes) -> None:
        time.sleep(0.2)
        self._answer(200)


class Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.seen: list[Request] = []
        self.is_broken = True
        self.secret = ""
        self.over = threading.Event()


@contextmanager
def serve_receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        receiver.shutdown()
        thread.join()
        receiver.server_close()
