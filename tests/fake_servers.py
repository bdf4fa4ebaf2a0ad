"""Servers of tools for tests: a REST API that counts its calls by key, and MCP servers."""

import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Hook = Callable[[str], None]

# An MCP server over stdio; its first argument says how it behaves.
MCP_PROGRAM = Path(__file__).with_name("mcp_program.py")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "FakeShop"

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        if self.path.startswith("/orders/missing"):
            self._answer(404, {"message": "no such order"})
        elif self.path.startswith("/away"):
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/steal")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path.startswith("/huge"):
            self._answer(200, {"rows": ["x" * 100] * 2_000})
        else:
            echoed = self.headers.get("Authorization", "")
            self._answer(200, {"path": self.path, "echo": echoed})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        try:
            self.server.hook("arrived")
            key = self.headers["Idempotency-Key"]
            self.server.counts[key] += 1
            self.server.hook("counted")
            if self.path == "/hang":
                time.sleep(3)
            if self.path == "/drop":
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self._answer(201, {"order": self.server.counts[key], "body": body})
            self.server.hook("answered")
        except (BrokenPipeError, ConnectionResetError):
            pass


class FakeShop(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.counts: Counter[str] = Counter()
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.hook: Hook = lambda point: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serve_shop() -> Iterator[FakeShop]:
    shop = FakeShop()
    thread = threading.Thread(target=shop.serve_forever, daemon=True)
    thread.start()
    try:
        yield shop
    finally:
        shop.shutdown()
        shop.server_close()


OPERATIONS = [
    {"name": "get_order", "method": "GET", "path": "/orders/{id}", "description": "One order."},
    {
        "name": "create_order",
        "method": "POST",
        "path": "/orders",
        "description": "Order something.",
        "parameters": {
            "type": "object",
            "properties": {"item": {"type": "string"}},
            "required": ["item"],
            "additionalProperties": False,
        },
    },
    {"name": "drop", "method": "POST", "path": "/drop"},
    {"name": "huge", "method": "GET", "path": "/huge"},
    {"name": "away", "method": "GET", "path": "/away"},
]


def program(*arguments: str) -> list[str]:
    return [sys.executable, str(MCP_PROGRAM), *arguments]
