"""Web and worker in processes of their own: killed, ended, and started again."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from tests import api
from tests.conftest import MakeServer, Server, wait_for


@pytest.fixture
def server(make_server: MakeServer) -> Iterator[Server]:
    server = make_server("--processes", "2", MUSTER_LEASE_SECONDS="1")
    yield server
    if server.process is not None and server.process.poll() is None:
        server.stop(signal.SIGKILL)


def pids(server: Server, kind: str) -> set[int]:
    """Of the processes of a kind that gave a sign of life lately."""
    with psycopg.connect(server.database_url) as connection:
        rows = connection.execute(
            "SELECT name FROM runs_workerbeat WHERE kind = %s "
            "AND seen_at > now() - interval '2 seconds'",
            [kind],
        ).fetchall()
    return {int(name.split(":")[1]) for (name,) in rows}


def pid(server: Server, kind: str) -> int:
    return min(wait_for(lambda: pids(server, kind)))


def is_alive(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


def test_a_killed_worker_is_started_again_and_its_run_goes_on(server: Server) -> None:
    killed = pid(server, "worker")
    with server.client() as client:
        run = api.start_run(client, "slow 100 20ms")
        time.sleep(1)
        os.kill(killed, signal.SIGKILL)
        events = api.follow(client, run["run_id"])
    assert events[-1]["type"] == "run.completed"
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert "run.attempt.lost" in {event["type"] for event in events}
    assert f"worker 1 ({killed}) ended with signal 9; starting it again" in server.said
    assert pid(server, "worker") != killed or pids(server, "worker") - {killed}


def test_a_killed_web_is_started_again_and_answers(server: Server) -> None:
    killed = pid(server, "web")
    os.kill(killed, signal.SIGKILL)
    with server.client() as client:
        # The parent holds the socket: whoever comes meanwhile waits, and is refused by nobody.
        assert client.get("/v1/threads").status_code == 200
    assert f"web 1 ({killed}) ended with signal 9; starting it again" in server.said


def test_the_end_is_everybodys(server: Server) -> None:
    children = [pid(server, "web"), pid(server, "worker")]
    with server.client() as client:
        api.start_run(client, "slow 400 20ms")
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 20
    assert not any(map(is_alive, children))
    assert "handed back to the queue" in server.said


def test_a_second_interrupt_ends_at_once(server: Server) -> None:
    children = [pid(server, "web"), pid(server, "worker")]
    with server.client() as client:
        api.start_run(client, "slow 400 20ms")
    assert server.process is not None
    server.process.send_signal(signal.SIGINT)
    wait_for(lambda: "Stopping" in server.said)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=20) == 0
    assert not any(map(is_alive, children))


def test_children_do_not_outlive_a_parent_that_is_killed(server: Server) -> None:
    children = [pid(server, "web"), pid(server, "worker")]
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not any(map(is_alive, children)), seconds=10)
