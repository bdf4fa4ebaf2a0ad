"""Small helpers of the tests that talk to a running server."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
from django.test import Client


def start_run(client: httpx2.Client, message: str | None, **body: Any) -> dict[str, str]:
    """A v1 run on a new thread; returns thread, run and trace id."""
    thread = client.post("/v1/threads", json={}).raise_for_status().json()["id"]
    if message is not None:
        posted = client.post(f"/v1/threads/{thread}/messages", json={"content": message})
        assert posted.status_code == 201, posted.text
    made = client.post(f"/v1/threads/{thread}/runs", json=body)
    assert made.status_code == 201, made.text
    return made.json() | {"thread_id": thread}


def frames(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


def follow(client: httpx2.Client, run_id: str, **query: Any) -> list[dict[str, Any]]:
    """All events of a v1 run, to the end of the stream."""
    with client.stream("GET", f"/v1/runs/{run_id}/events", params=query) as response:
        assert response.status_code == 200
        return list(frames(response.iter_lines()))


def text_of(events: list[dict[str, Any]]) -> str:
    """What a reader shows: the answer's deltas, without those that a lost attempt left behind."""
    void: list[tuple[int, int]] = [
        (e["data"]["void_from_seq"], e["data"]["void_to_seq"])
        for e in events
        if "void_from_seq" in e["data"]
    ]
    return "".join(
        e["data"]["content"]
        for e in events
        if e["type"] == "message.delta"
        and "channel" not in e["data"]
        and not any(first <= e["seq"] <= last for first, last in void)
    )


def call(key: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """An answer of the APIs, without a server in between."""
    return Client().generic(
        method,
        path,
        json.dumps(body or {}) if method != "GET" else "",
        content_type="application/json",
        headers={"authorization": f"Bearer {key}", **headers},
    )
