"""Kill the worker with SIGKILL at every event of a scripted run: nothing is lost or repeated."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from runs.events.log import News
from tests.api import follow, start_run, text_of
from tests.conftest import MakeServer, Server, listen
from tests.crashes.workers import Workers, kill_holder

SCRIPT = "think todo file slow 8 60ms"


@pytest.fixture(scope="module")
def web(make_server: MakeServer) -> Iterator[Server]:
    """A server that executes nothing itself."""
    server = make_server("--no-worker", MUSTER_LEASE_SECONDS="1")
    yield server
    server.stop()


def kill_at(server: Server, workers: Workers, seq: int) -> list[dict[str, Any]]:
    """Run the script, kill its worker when event `seq` is announced, return all events."""
    with server.client() as client, listen(server) as heard:
        run = start_run(client, SCRIPT)
        with contextlib.closing(heard.notifies(timeout=60)) as notifications:
            for notification in notifications:
                if max(News.of(notification.payload).last_seqs.values()) >= seq:
                    break
        kill_holder(server, workers, run["run_id"])
        return follow(client, run["run_id"])


def test_a_worker_killed_at_every_event_of_a_run_ends_with_the_same_text(web: Server) -> None:
    workers = Workers(web)
    try:
        with web.client() as client:
            undisturbed = follow(client, start_run(client, SCRIPT)["run_id"])
        expected = text_of(undisturbed)
        assert "word8" in expected
        kinds = [e["type"] for e in undisturbed]
        assert {"tool.call", "tool.result", "file.created", "todo.updated"} <= set(kinds)
        for seq in range(1, len(undisturbed)):
            events = kill_at(web, workers, seq)
            assert [e["seq"] for e in events] == list(range(1, len(events) + 1)), seq
            assert events[-1]["type"] == "run.completed", (seq, events[-1])
            assert text_of(events) == expected, seq
            told = [e["data"]["content"] for e in events if e["type"] == "message.completed"]
            assert "".join(told) == expected, seq
            assert sum(e["type"] == "file.created" for e in events) == 1, seq
            assert sum(e["type"] == "run.completed" for e in events) == 1, seq
    finally:
        workers.end()


def test_two_workers_execute_two_hundred_runs_once_each(web: Server) -> None:
    workers = Workers(web)
    try:
        with web.client() as client:
            runs = [start_run(client, "slow 3 1ms") for _ in range(200)]
            used = set()
            for run in runs:
                events = follow(client, run["run_id"])
                assert events[-1]["type"] == "run.completed"
                assert text_of(events) == "word1 word2 word3 "
                started = [e for e in events if e["type"] == "run.attempt.started"]
                assert len(started) == 1
                used.add(started[0]["data"]["worker"])
            assert len(used) == 2
    finally:
        workers.end()
