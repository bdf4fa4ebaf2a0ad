"""The websockets: of one run (the v1 event object, resumable by `?after_seq=`), and of a tab."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from config import servers
from tests.conftest import MakeServer, Server


@pytest.fixture(scope="module", params=servers.NAMES)
def owned(
    request: pytest.FixtureRequest, make_server: MakeServer
) -> Iterator[tuple[Server, httpx2.Client]]:
    """A server and the browser session of its owner."""
    server = make_server("--server", request.param)
    client = httpx2.Client(base_url=server.url, trust_env=False, follow_redirects=True)
    client.get(server.setup_link)
    client.post(
        server.setup_link,
        data={
            "csrfmiddlewaretoken": client.cookies["csrftoken"],
            "organization_name": "Acme",
            "email": "ann@example.com",
            "password": "correct horse battery",
            "timezone": "UTC",
        },
    )
    yield server, client
    client.close()
    server.stop()


def open_socket(server: Server, client: httpx2.Client, path: str, origin: str) -> Any:
    cookie = f"sessionid={client.cookies.get('sessionid', '')}"
    return connect(
        f"ws://127.0.0.1:{server.port}{path}",
        origin=origin,  # type: ignore[arg-type]
        additional_headers={"Cookie": cookie},
        open_timeout=10,
    )


def start(client: httpx2.Client, message: str = "slow 5 20ms") -> int:
    form = {"csrfmiddlewaretoken": client.cookies["csrftoken"], "message": message}
    page = client.post("/threads/new/", data=form)
    found = re.search(r'id="run-(\d+)"', page.text)
    assert found, page.text
    return int(found.group(1))


def test_events_arrive_to_the_end_and_a_cursor_resumes(owned: Any) -> None:
    server, client = owned
    run = start(client)
    with open_socket(server, client, f"/ws/runs/{run}/", server.url) as socket:
        events = [json.loads(text) for text in socket]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "run.completed"
    path = f"/ws/runs/{run}/?after_seq={len(events) - 2}"
    with open_socket(server, client, path, server.url) as socket:
        assert [json.loads(text) for text in socket] == events[-2:]


def test_another_origin_is_refused(owned: Any) -> None:
    """Trap 8.5: a websocket carries the session's cookie."""
    server, client = owned
    run = start(client)
    for origin in ("https://evil.example", "http://127.0.0.1:1", "null"):
        with pytest.raises(InvalidStatus):
            open_socket(server, client, f"/ws/runs/{run}/", origin)


def test_a_stranger_and_an_unknown_run_are_told_so(owned: Any) -> None:
    server, client = owned
    run = start(client)
    stranger = httpx2.Client(base_url=server.url)
    for who, number in ((stranger, run), (client, 999_999)):
        with open_socket(server, who, f"/ws/runs/{number}/", server.url) as socket:
            with pytest.raises(ConnectionClosedError) as closed:
                socket.recv(timeout=10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4404
    stranger.close()


def test_a_tab_is_told_what_needs_its_person_and_strangers_nothing(owned: Any) -> None:
    server, client = owned
    with open_socket(server, client, "/ws/live/", server.url) as socket:
        before = json.loads(socket.recv(timeout=10))
        run = start(client, "approve it")
        news = before
        while news["needs_you"] == before["needs_you"]:  # each change of a run's state is told
            news = json.loads(socket.recv(timeout=20))
        assert news["needs_you"] == before["needs_you"] + 1
        assert news["newest"]["mate"] == "Demo"
        assert "Pretend to send" in news["newest"]["prompt"]
        with server.client() as eve:  # another organization's tab hears nothing of it
            made = eve.post(
                "/api/v2/signup",
                json={
                    "email": "eve@example.com",
                    "first_name": "Eve",
                    "product": "platform",
                    "password": "correct horse battery",
                },
            )
            assert made.status_code == 201
        other = httpx2.Client(base_url=server.url, trust_env=False, follow_redirects=True)
        other.get("/sign-in/")
        other.post(
            "/sign-in/",
            data={
                "csrfmiddlewaretoken": other.cookies["csrftoken"],
                "email": "eve@example.com",
                "password": "correct horse battery",
            },
        )
        with open_socket(server, other, "/ws/live/", server.url) as theirs:
            assert json.loads(theirs.recv(timeout=10)) == {"needs_you": 0, "newest": None}
        form = {"csrfmiddlewaretoken": client.cookies["csrftoken"]}
        client.post(f"/runs/{run}/cancel/", data=form)
        assert json.loads(socket.recv(timeout=20))["needs_you"] == before["needs_you"]
        other.close()
    stranger = httpx2.Client(base_url=server.url)
    with (
        open_socket(server, stranger, "/ws/live/", server.url) as socket,
        pytest.raises(ConnectionClosedError),
    ):
        socket.recv(timeout=10)
    stranger.close()
