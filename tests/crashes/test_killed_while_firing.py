"""Kill the workers while schedules are due: each due time starts one run."""

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import MakeServer, Server, wait_for
from tests.crashes.workers import Workers

DUE = 80  # schedules, one every 60 ms


@pytest.fixture(scope="module")
def web(make_server: MakeServer) -> Iterator[Server]:
    server = make_server("--no-worker", MUSTER_LEASE_SECONDS="1", MUSTER_POLL_SECONDS="0.1")
    yield server
    server.stop()


def make_schedules(server: Server) -> list[int]:
    with server.client() as client:
        teammate = client.post("/api/v2/agents", json={"name": "Ops"}).json()["id"]
        made = []
        for _ in range(DUE):
            task = client.post(
                "/api/v2/tasks",
                json={
                    "teammate_id": teammate,
                    "instructions": "Say hello.",
                    "schedule": "0 0 1 1 *",
                    "email_notifications": False,
                },
            )
            made.append(task.raise_for_status().json()["id"])
    return made


def make_due(server: Server, tasks: list[int]) -> None:
    """One after the other, from now on; behind their time they are over."""
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        for number, task in enumerate(tasks):
            connection.execute(
                "UPDATE runs_trigger SET cron = '', run_at = now() + %s * interval '60 ms', "
                "next_at = NULL, armed_at = now() - interval '1 s' WHERE task_id = %s",
                [number, task],
            )


def rows(server: Server, query: str, *values: Any) -> list[Any]:
    with psycopg.connect(server.database_url) as connection:
        return connection.execute(query, values).fetchall()


def test_workers_killed_at_any_moment_start_each_due_time_once(web: Server) -> None:
    tasks = make_schedules(web)
    workers = Workers(web, 6)
    make_due(web, tasks)
    for number in range(5):  # at moments that nothing of ours decides
        time.sleep(0.7 + 0.037 * number)
        workers.kill(workers.up[0], is_replaced=False)
    try:
        started = "SELECT count(*) FROM runs_firing WHERE run_id IS NOT NULL"
        wait_for(lambda: rows(web, started)[0][0] >= DUE)
        per_task = rows(
            web, "SELECT task_id, count(*) FROM runs_run WHERE task_id = ANY(%s) GROUP BY 1", tasks
        )
        assert dict(per_task) == dict.fromkeys(tasks, 1)
        skipped = "SELECT reason FROM runs_firing WHERE status <> 'started'"
        assert rows(web, skipped) == []
        assert rows(web, "SELECT 1 FROM runs_trigger WHERE enabled") == []
    finally:
        workers.end()
