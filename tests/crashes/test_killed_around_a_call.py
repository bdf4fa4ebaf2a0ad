"""Kill the worker with SIGKILL at every point around a call that changes something: it is made at
most once, unless a person says again, and afterwards everybody knows what is not known."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from runs.events.log import News
from tests.api import follow
from tests.conftest import MakeServer, Server, listen, wait_for
from tests.crashes.workers import Workers, holder_or_over, pid_of
from tests.fake_servers import OPERATIONS, FakeShop, serve_shop

MESSAGE = 'use shop__create_order {"item": "tea"}'
POINTS = ["arrived", "counted", "answered"]


@pytest.fixture(scope="module")
def web(make_server: MakeServer) -> Iterator[Server]:
    """A server that executes nothing itself."""
    server = make_server(
        "--no-worker", MUSTER_LEASE_SECONDS="1", MUSTER_ALLOW_PRIVATE_ADDRESSES="true"
    )
    yield server
    server.stop()


@pytest.fixture
def shop(web: Server) -> Iterator[FakeShop]:
    with serve_shop() as running, web.client() as client:
        made = client.post(
            "/api/v2/mcp-servers",
            json={
                "name": "Shop",
                "url": running.url,
                "tool_defs": OPERATIONS,
                "auto_approve": True,
            },
        )
        assert made.status_code == 201, made.text
        yield running
        client.delete(f"/api/v2/mcp-servers/{made.json()['id']}").raise_for_status()


def start(client: httpx2.Client, **fields: Any) -> dict[str, Any]:
    """A v2 run of the shop's tool, with its v1 id."""
    body = {"message": MESSAGE, "stream": False, "tools": ["shop"], "human_in_the_loop": True}
    body |= fields
    run = client.post("/api/v2/runs", json=body)
    assert run.status_code == 201, run.text
    shown: dict[str, Any] = run.json()
    listed = client.get("/v1/runs", params={"limit": 1}).json()
    return shown | {"run_id": listed[0]["run_id"]}


def kill(web: Server, workers: Workers, run_uid: str) -> None:
    name = holder_or_over(web, run_uid)
    if name not in ("over", ""):
        workers.kill(pid_of(name))


def settle(client: httpx2.Client, run: dict[str, Any], answer: str) -> tuple[bool, dict[str, Any]]:
    """Wait for the run's end; if it asks whether the call happened, answer. Says whether it did."""
    asked = False

    def look() -> Any:
        nonlocal asked
        now = client.get(f"/api/v2/runs/{run['id']}").json()
        if now["status"] == "awaiting_approval" and not asked:
            (gate,) = [
                g
                for g in client.get(f"/api/v2/runs/{run['id']}/permissions").json()
                if g["status"] == "pending"
            ]
            assert "may or may not" in gate["ask_reason"]
            asked = True
            said = client.post(f"/v1/runs/{run['run_id']}/input", json={"content": answer})
            assert said.status_code == 200, said.text
        return now if now["status"] in ("completed", "failed") else None

    over = wait_for(look)
    return asked, over


def check(
    shop: FakeShop, before: int, events: list[dict[str, Any]], *, asked: bool, answer: str
) -> None:
    made = sum(shop.counts.values()) - before
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "run.completed", events[-1]
    assert sum(e["type"] == "tool.result" for e in events) == 1
    if asked and answer == "retry":
        assert made in (1, 2)
    elif asked:
        assert made in (0, 1)  # what the person said is what counts
    else:
        assert made == 1


@pytest.mark.parametrize("answer", ["approve", "retry"])
def test_a_worker_killed_at_every_event_around_a_call(
    web: Server, shop: FakeShop, answer: str
) -> None:
    workers = Workers(web)
    try:
        with web.client() as client:
            run = start(client)
            undisturbed = follow(client, run["run_id"])
            assert sum(shop.counts.values()) == 1
            for seq in range(1, len(undisturbed)):
                before = sum(shop.counts.values())
                with listen(web) as heard:
                    run = start(client)
                    with contextlib.closing(heard.notifies(timeout=60)) as notifications:
                        for notification in notifications:
                            if max(News.of(notification.payload).last_seqs.values()) >= seq:
                                break
                    kill(web, workers, run["run_id"])
                asked, _ = settle(client, run, answer)
                events = follow(client, run["run_id"])
                check(shop, before, events, asked=asked, answer=answer)
                assert max(shop.counts.values()) <= (2 if answer == "retry" else 1), seq
    finally:
        workers.end()


def test_a_worker_killed_between_an_approval_and_its_call(web: Server, shop: FakeShop) -> None:
    """What was approved once is made once, and not asked for again unless it may have happened."""
    workers = Workers(web)
    try:
        with web.client() as client:
            for events_later in range(1, 6):
                before = sum(shop.counts.values())
                run = start(client, permission_mode="approval")
                wait_for(
                    lambda: (
                        client.get(f"/api/v2/runs/{run['id']}").json()["status"]  # noqa: B023
                        == "awaiting_approval"
                    )
                )
                asked_at = client.get(f"/v1/runs/{run['run_id']}/events", params={"follow": False})
                last = asked_at.text.rstrip().rpartition("id: ")[2].split("\n")[0]
                with listen(web) as heard:
                    said = client.post(
                        f"/v1/runs/{run['run_id']}/input", json={"content": "approve"}
                    )
                    assert said.status_code == 200, said.text
                    with contextlib.closing(heard.notifies(timeout=60)) as notifications:
                        for notification in notifications:
                            seq = max(News.of(notification.payload).last_seqs.values())
                            if seq >= int(last) + events_later:
                                break
                    kill(web, workers, run["run_id"])
                asked, _ = settle(client, run, "approve")
                events = follow(client, run["run_id"])
                check(shop, before, events, asked=asked, answer="approve")
                gates = [e for e in events if e["type"] == "run.waiting_for_input"]
                assert [g["data"]["kind"] for g in gates] == ["approval", *["unknown"] * asked]
    finally:
        workers.end()


@pytest.mark.parametrize("answer", ["approve", "retry"])
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_inside_a_call(
    web: Server, shop: FakeShop, point: str, answer: str
) -> None:
    workers = Workers(web)
    reached, go_on = threading.Event(), threading.Event()

    def hook(here: str) -> None:
        if here == point and not reached.is_set():
            reached.set()
            go_on.wait(30)

    shop.hook = hook
    try:
        with web.client() as client:
            run = start(client)
            assert reached.wait(60)
            kill(web, workers, run["run_id"])
            go_on.set()
            asked, _ = settle(client, run, answer)
            events = follow(client, run["run_id"])
            check(shop, 0, events, asked=asked, answer=answer)
            assert asked or point == "answered"
            # One key, whoever makes the call: a server that knows it acts once.
            assert len(shop.counts) <= 1
            made = sum(shop.counts.values())
            assert made == 1 or (made == 2 and answer == "retry")
    finally:
        go_on.set()
        workers.end()
