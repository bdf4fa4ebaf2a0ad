"""Kill the worker with SIGKILL at every event of a scripted run: nothing is lost or repeated."""

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx2
import psycopg
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


def dollars(server: Server, query: str) -> list[Any]:
    with psycopg.connect(server.database_url) as connection:
        return list(connection.execute(query).fetchone() or [])


def set_budget(server: Server, client: httpx2.Client) -> None:
    """A large one, of dear calls."""
    with psycopg.connect(server.database_url) as connection:
        connection.execute("UPDATE teammates_modelprice SET uncached_input = 100, output = 500")
    budget = {"amount_usd": "1000000", "period": "month", "action": "pause"}
    assert client.post("/api/v2/budgets", json=budget).status_code == 201


def check_budget(server: Server) -> None:
    """What was reserved for calls that a kill ended is given back, or kept where nobody knows what
    they cost; what they are known to have cost is counted once."""
    holds, reserved, spent, kept = dollars(
        server,
        "SELECT (SELECT count(*) FROM runs_budgethold), sum(reserved), sum(spent), sum(kept) "
        "FROM runs_budgetcount",
    )
    [known] = dollars(server, "SELECT sum(cost) FROM runs_step WHERE kind <> 'tools'")
    assert (holds, reserved) == (0, 0)
    assert spent == known > 0
    assert kept > 0


def test_a_worker_killed_at_every_event_of_a_run_ends_with_the_same_text(web: Server) -> None:
    workers = Workers(web)
    try:
        with web.client() as client:
            set_budget(web, client)
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
        check_budget(web)
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
