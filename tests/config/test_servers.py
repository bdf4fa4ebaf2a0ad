"""Each server that can serve the application: what it refuses, gives up and ends."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvicorn

from config import servers
from config.errors import StartError
from tests.api import follow, start_run
from tests.conftest import MakeServer, Server


@pytest.fixture(scope="module", params=servers.NAMES)
def server(request: pytest.FixtureRequest, make_server: MakeServer) -> Iterator[Server]:
    server = make_server("--server", request.param)
    yield server
    server.stop()


@contextmanager
def connected(server: Server, said: bytes, *, timeout: float = 15) -> Iterator[socket.socket]:
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address, timeout=timeout) as connection:
        connection.sendall(said)
        yield connection


@pytest.mark.parametrize("name", servers.NAMES)
def test_sigterm_with_open_streams_ends_cleanly(make_server: MakeServer, name: str) -> None:
    """Trap 3.7."""
    server = make_server("--server", name)
    with server.client() as client:
        run = start_run(client, "slow 2000 20ms")["run_id"]
    streams = []
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=15)
        connection.sendall(
            f"GET /v1/runs/{run}/events HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {server.key}\r\n\r\n".encode()
        )
        assert b"200 OK" in connection.recv(4096)
        streams.append(connection)
    assert server.stop(signal.SIGTERM) == 0
    assert "Traceback" not in server.said
    assert "Stopped." in server.said
    for connection in streams:
        connection.close()


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: Server) -> None:
    """Trap 3.6."""
    for path, field in (("/v1/threads", b'"code"'), ("/api/v2/runs", b'"error"')):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: 3000000000\r\n\r\n{{".encode()
            )
            answer = connection.recv(4096)
        assert b"413" in answer.splitlines()[0]
        assert field in answer


def test_a_chunked_body_over_the_limit_is_refused(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        for _ in range(5):
            connection.sendall(piece)
        assert b"413" in connection.recv(4096)


def test_so_many_large_bodies_of_one_address_are_on_their_way_and_no_more(server: Server) -> None:
    def upload() -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        connection.sendall(
            b"POST /api/v2/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer made-up\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 50000000\r\n\r\nx"
        )
        return connection

    waiting = [upload() for _ in range(8)]
    time.sleep(0.3)
    with upload() as refused:
        answer = refused.recv(4096)
        refused.sendall(b"x" * 6_000_000)  # what comes all the same
    assert b"429" in answer.splitlines()[0]
    assert b"Retry-After" in answer
    assert waiting[0].recv(4096) == b""  # one that does not get on is given up
    for connection in waiting:
        connection.close()
    time.sleep(0.3)
    with upload() as taken:
        taken.settimeout(0.5)
        with pytest.raises(TimeoutError):
            taken.recv(4096)


def test_a_reader_that_reads_nothing_does_not_fill_the_server(server: Server) -> None:
    """Trap 3.5: the replay waits while a reader is a megabyte behind."""
    with server.client() as client:
        run = start_run(client, "slow 1 1ms")["run_id"]
        follow(client, run)
    with psycopg.connect(server.database_url, autocommit=True) as database:
        database.execute(
            "INSERT INTO runs_event (run_id, seq, type, data, created_at) SELECT r.id, 1000 + n, "
            "'message.delta', jsonb_build_object('content', repeat('x', 20000)), now() "
            "FROM runs_run r, generate_series(1, 4000) n WHERE uid = %s",
            [run],
        )
    assert server.process is not None

    def resident() -> int:
        status = Path(f"/proc/{server.process.pid}/status").read_text()  # type: ignore[union-attr]
        return int(status.split("VmRSS:")[1].split()[0]) // 1024

    before = resident()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            f"GET /v1/runs/{run}/events?after_seq=900 HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {server.key}\r\n\r\n".encode()
        )
        time.sleep(3)
        # One batch on its way is 57 to 67 MiB here; the whole replay would be several times that.
        assert resident() - before < 90


def test_a_head_without_an_end_is_refused(server: Server) -> None:
    endless = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 300_000
    with connected(server, endless) as connection:
        try:
            answer = connection.recv(4096)
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or b" 400 " in answer.splitlines()[0]


def test_requests_behind_one_another_are_answered_in_order(server: Server) -> None:
    one = "GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n"
    both = one.format("/healthz", "") + one.format("/nowhere", "Connection: close\r\n")
    with connected(server, both.encode()) as connection:
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.index(b"HTTP/1.1 200") < answer.index(b"HTTP/1.1 404")


def test_a_body_that_comes_with_an_upgrade_leaves_its_place(server: Server) -> None:
    """As many as are taken at once, and one more."""
    for _ in range(9):
        with connected(
            server,
            b"GET /ws/live/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer made-up\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 50000000\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nx",
        ):
            time.sleep(0.1)
    upload = (
        b"POST /api/v2/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer made-up\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 50000000\r\n\r\nx"
    )
    with connected(server, upload, timeout=0.5) as connection, pytest.raises(TimeoutError):
        connection.recv(4096)


def test_a_server_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = servers.util.find_spec
    monkeypatch.setattr(
        servers.util, "find_spec", lambda name: None if name == "httptools" else found(name)
    )
    with pytest.raises(StartError, match=r"needs httptools.*--extra uvicorn"):
        servers.check_installed(servers.UVICORN)


# --- uvicorn's connections, with less patience ---------------------------------------------------
@asynccontextmanager
async def connection_to(
    application: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    from config.servers import uvicorn as ours

    monkeypatch.setattr(ours, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(ours, "STALLED_SECONDS", 0.5)
    config = uvicorn.Config(
        application,
        http=ours.Protocol,
        ws=ours.SocketProtocol,
        interface="asgi3",
        lifespan="off",
        log_config=None,
    )
    config.load()
    state = uvicorn.server.ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ours.Protocol(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()
        server.close()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body; answers with the names of the headers as they are known then."""
    while (await receive()).get("more_body"):
        pass
    names = b" ".join(name for name, _ in scope["headers"])
    head = [(b"content-length", str(len(names)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": names})


CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_trailer_says_nothing_about_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connection_to(echo, monkeypatch) as (reader, writer):
        writer.write(CHUNKED + b"1\r\nx\r\n0\r\nAuthorization: Bearer evil\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(22) == b"host transfer-encoding"


async def test_trailers_without_an_end_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connection_to(echo, monkeypatch) as (reader, writer):

        async def pour() -> None:
            writer.write(CHUNKED + b"1\r\nx\r\n0\r\n")
            for number in range(3_000):
                writer.write(b"X-%d: %s\r\n" % (number, b"y" * 1_000))
                await writer.drain()
            await reader.readexactly(1)

        with pytest.raises(ConnectionError):
            await pour()


@pytest.mark.parametrize(
    "said",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n",  # a line too many
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: ",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Content-Length: 5\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ],
)
async def test_a_connection_on_which_nothing_comes_ends(
    monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    async with connection_to(echo, monkeypatch) as (reader, writer):
        writer.write(said)
        with suppress(ConnectionError):
            await reader.read()


async def test_who_answers_learns_that_the_client_left_also_with_a_request_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        told.set()

    async with connection_to(stream, monkeypatch) as (reader, writer):
        get = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(get + get)
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        await told.wait()


async def test_a_reader_who_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def pour(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1_000):
            await send({"type": "http.response.body", "body": b"x" * 50_000, "more_body": True})
        ended.set()

    async with connection_to(pour, monkeypatch) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await ended.wait()
