"""v1's frames: three lines an event (contract v1 3.1), the same bytes live and on resume."""

import pytest

from tests.api import follow, start_run
from tests.conftest import Server


def test_thoughts_have_no_content_key(server: Server) -> None:
    with server.client() as client:
        events = follow(client, start_run(client, "think please")["run_id"])
    thoughts = [e for e in events if e["data"].get("channel") == "thinking"]
    answers = [e for e in events if e["type"] == "message.delta" and e not in thoughts]
    assert thoughts
    assert all("content" not in e["data"] for e in thoughts)
    assert all(e["data"]["content"] == e["data"]["content_delta"] for e in answers)


@pytest.mark.parametrize("text", ["a\u2028b\u0085c", "😀 Grüße", "\x00 nul"])
def test_odd_characters_arrive_as_they_were(server: Server, text: str) -> None:
    with server.client() as client:
        run = start_run(client, f"quote {text}")
        events = follow(client, run["run_id"])
        said = client.get(f"/v1/threads/{run['thread_id']}/messages").json()
    assert said[0]["content"] == f"quote {text}".replace("\x00", "\ufffd")
    assert events[-1]["type"] == "run.completed"
