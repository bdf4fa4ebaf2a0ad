"""The unmodified m8tes SDK against a real server: the six examples of the seed, and its errors."""

from typing import Any

import pytest

m8tes = pytest.importorskip("m8tes", reason="the m8tes SDK needs Python 3.11.9 or newer")

from tests.conftest import Server, wait_for  # noqa: E402


@pytest.fixture
def client(server: Server) -> Any:
    with m8tes.M8tes(api_key=server.key, base_url=f"{server.url}/api/v2") as client:
        yield client


def test_a_run_in_a_context_manager(client: Any) -> None:
    with client.runs.create(message="think todo file please") as stream:
        kinds = [event.type for event in stream]
    assert stream.run_id
    assert stream.text.startswith("First I make a list. ")
    assert not stream.has_errors
    for kind in ("metadata", "message-start", "reasoning-delta", "text-start", "text-delta",
                 "text-end", "tool-call-start", "tool-call-delta", "tool-call-end",
                 "tool-result-end", "todo-update", "message-end", "run_metrics"):  # fmt: skip
        assert kind in kinds, kind
    assert kinds[0] == "metadata"
    assert kinds[-2:] == ["done", "done"]


def test_direct_iteration(client: Any) -> None:
    text = ""
    for event in client.runs.create(message="plain words", raise_on_error=True):
        if event.type == "text-delta":
            text += event.delta
    assert "plain words" in text


def test_stream_text_only(client: Any) -> None:
    assert (
        "".join(client.runs.stream_text(message="slow 5 5ms")) == "word1 word2 word3 word4 word5 "
    )


def test_non_streaming_with_polling(client: Any) -> None:
    run = client.runs.create(message="slow 5 5ms", stream=False)
    assert run.status == "running"
    done = client.runs.poll(run.id, interval=0.05)
    assert (done.status, done.output) == ("completed", "word1 word2 word3 word4 word5 ")
    assert done.usage.output_tokens > 0
    assert done.task_id


def test_create_and_wait(client: Any) -> None:
    assert client.runs.create_and_wait(message="plain words", poll_interval=0.05).output


def test_a_follow_up_makes_a_new_run_with_the_context(client: Any) -> None:
    first = client.runs.create_and_wait(message="file notes.txt", poll_interval=0.05)
    text = "".join(client.runs.reply(first.id, message="now read it").iter_text())
    assert "notes.txt" in text
    second = client.runs.reply(first.id, message="plain words", stream=False)
    assert second.id != first.id
    assert client.runs.poll(second.id, interval=0.05).status == "completed"


def test_a_reply_to_a_busy_run_waits_its_turn(client: Any) -> None:
    first = client.runs.create(message="slow 20 20ms", stream=False)
    text = "".join(client.runs.reply(first.id, message="slow 2 1ms").iter_text())
    assert text == "word1 word2 "
    assert client.runs.get(first.id).status == "completed"


def test_files_of_a_run(client: Any) -> None:
    run = client.runs.create_and_wait(message="file data.csv", poll_interval=0.05)
    (file,) = client.runs.list_files(run.id)
    assert file.name == "data.csv"
    content = client.runs.download_file(run.id, "data.csv")
    assert content.startswith(b"month,visitors")
    assert len(content) == file.size
    with pytest.raises(m8tes.NotFoundError):
        client.runs.download_file(run.id, "other.csv")


def test_joining_a_running_run_and_a_finished_one(client: Any) -> None:
    run = client.runs.create(message="slow 30 20ms", stream=False)
    stream = client.runs.stream(run.id)
    kinds = [event.type for event in stream]
    assert stream.text == "".join(f"word{n} " for n in range(1, 31))
    assert kinds[-2:] == ["done", "done"]
    with pytest.raises(m8tes.ConflictError):
        client.runs.stream(run.id)


def test_a_gate_ends_the_stream_without_an_error(client: Any) -> None:
    stream = client.runs.create(message="ask me something", human_in_the_loop=True)
    events = list(stream)
    assert events[-1].type == "awaiting_approval"
    assert client.runs.get(stream.run_id).status == "awaiting_approval"
    again = client.runs.stream(stream.run_id)
    assert [event.type for event in again][-1] == "awaiting_approval"
    assert client.runs.cancel(stream.run_id).status == "cancelled"


def test_a_failed_run_says_why(client: Any) -> None:
    with pytest.raises(Exception, match="told to fail"):
        list(client.runs.create(message="fail now", raise_on_error=True))
    run = client.runs.list(limit=1).data[0]
    assert (run.status, run.error_code, run.failure_kind) == ("failed", "rejected", "error")
    assert "told to fail" in run.error


def test_a_cancelled_run_ends_its_stream(client: Any) -> None:
    stream = client.runs.create(message="slow 2000 10ms")
    events = iter(stream)
    while next(events).type != "text-delta":
        pass
    client.runs.cancel(stream.run_id)
    kinds = [event.type for event in events]
    assert "cancelled" in kinds
    done = wait_for(lambda: client.runs.get(stream.run_id))
    assert done.status == "cancelled"
    assert done.usage.output_tokens > 0
    with pytest.raises(m8tes.ConflictError):
        client.runs.cancel(stream.run_id)


def test_every_option_of_a_run_is_kept_and_shown(client: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    agent = client.agents.create(name="Option holder")
    run = client.runs.create(
        message="slow 1 1ms", stream=False, teammate_id=agent.id, tools=[], user_id="cust_1",
        metadata={"a": {"b": [1, None]}}, memory=False, history=False, task_setup_tools=False,
        feedback=False, human_in_the_loop=True, permission_mode="approval", model="demo",
        effort="max", output_schema=schema, max_turns=3, skill="some-skill",
        email_notifications=True,
    )  # fmt: skip
    raw = client.runs._http.request("GET", f"/runs/{run.id}", params={"user_id": "cust_1"}).json()
    assert next(iter(raw)) == "id"
    expected = {
        "teammate_id": agent.id, "tools": [], "user_id": "cust_1",
        "metadata": {"a": {"b": [1, None]}}, "memory": False, "history": False,
        "task_setup_tools": False, "feedback": False, "human_in_the_loop": True,
        "permission_mode": "approval", "model": "demo", "effort": "max", "output_schema": schema,
        "max_turns": 3, "skill": "some-skill", "email_notifications": True,
    }  # fmt: skip
    assert {key: raw[key] for key in expected} == expected


def test_a_reply_inherits_settings_and_is_not_interactive(client: Any) -> None:
    first = client.runs.create(
        message="slow 1 1ms", stream=False, permission_mode="approval", task_setup_tools=False,
        feedback=False, metadata={"k": 1},
    )  # fmt: skip
    second = client.runs.reply(first.id, message="file x.txt", stream=False)
    done = client.runs.poll(second.id, interval=0.05)
    raw = client.runs._http.request("GET", f"/runs/{second.id}").json()
    assert (raw["human_in_the_loop"], raw["permission_mode"]) == (False, "approval")
    assert (raw["task_setup_tools"], raw["feedback"], raw["metadata"]) == (False, False, {"k": 1})
    # Trap 8.1: what changes something is refused rather than let loose.
    assert done.status == "completed"
    assert client.runs.list_files(second.id) == []


def test_an_email_inbox_is_made_with_a_new_teammate_only(client: Any) -> None:
    run = client.runs.create(
        message="slow 1 1ms", stream=False, name="Mail reader", email_inbox=True
    )
    assert "@" in run.email_address
    known = client.agents.create(name="No inbox")
    run = client.runs.create(
        message="slow 1 1ms", stream=False, teammate_id=known.id, email_inbox=True
    )
    assert run.email_address is None


def test_lists_filter_and_page(client: Any) -> None:
    agent = client.agents.create(name="Listed")
    made = [
        client.runs.create(message="slow 1 1ms", stream=False, teammate_id=agent.id).id
        for _ in range(5)
    ]
    for run_id in made:
        client.runs.poll(run_id, interval=0.05)
    page = client.runs.list(teammate_id=agent.id, limit=2)
    assert page.has_more
    assert [run.id for run in page.auto_paging_iter()] == made[::-1]
    assert client.runs.list(teammate_id=agent.id, status="failed").data == []
    for status in ("running", "paused", "awaiting_approval", "completed", "failed", "cancelled",
                   "closed", "archived"):  # fmt: skip
        client.runs.list(status=status)
    (only,) = client.runs.list(task_id=client.runs.get(made[0]).task_id).data
    assert only.id == made[0]


def test_end_user_scopes(client: Any) -> None:
    agent = client.agents.create(name="Scoped", user_id="cust_a")
    run = client.runs.create(message="slow 1 1ms", stream=False, teammate_id=agent.id)
    assert run.user_id == "cust_a"
    assert client.runs.get(run.id, user_id="cust_a").id == run.id
    for call in (
        lambda: client.runs.get(run.id, user_id="cust_b"),
        lambda: client.agents.get(agent.id, user_id="never_seen"),
        lambda: client.runs.create(message="x", stream=False, teammate_id=agent.id,
                                   user_id="cust_b"),
    ):  # fmt: skip
        with pytest.raises(m8tes.NotFoundError):
            call()
    assert run.id not in [r.id for r in client.runs.list(limit=100).data]
    assert run.id in [r.id for r in client.runs.list(limit=100, include_end_user_runs=True).data]
    assert [r.id for r in client.runs.list(user_id="cust_a").data] == [run.id]


def test_teammates(client: Any) -> None:
    agent = client.agents.create(name="Ada", instructions="Be brief.", model="sonnet")
    assert client.agents.get(agent.id).instructions == "Be brief."
    changed = client.agents.update(agent.id, instructions="Be long.")
    assert (changed.instructions, changed.model) == ("Be long.", "sonnet")
    client.agents.delete(agent.id)
    client.agents.delete(agent.id)
    assert client.agents.get(agent.id).status == "archived"
    assert agent.id not in [a.id for a in client.agents.list(limit=100).data]
    assert agent.id in [a.id for a in client.agents.list(limit=100, include_archived=True).data]
    with pytest.raises(m8tes.NotFoundError):
        client.runs.create(message="x", stream=False, teammate_id=agent.id)
    with pytest.raises(m8tes.ValidationError, match="name"):
        client.agents.create(name="\u3164")
    with pytest.raises(m8tes.ValidationError, match="gpt-5"):
        client.agents.create(name="x", model="gpt-5")


def test_keys(client: Any, server: Server) -> None:
    made = client.keys.create(name="ci", expires_in_days=3)
    with m8tes.M8tes(api_key=made.api_key, base_url=client.base_url) as other:
        assert other.keys.info().has_key
    assert made.id in [key.id for key in client.keys.list().data]
    rotated = client.keys.rotate(made.id)
    assert rotated.api_key != made.api_key
    assert client.keys.revoke(made.id).active is False
    with pytest.raises(m8tes.ConflictError):
        client.keys.rotate(made.id)
    with (
        m8tes.M8tes(api_key=rotated.api_key, base_url=client.base_url) as dead,
        pytest.raises(m8tes.AuthenticationError),
    ):
        dead.runs.list()


def test_an_idempotency_key_makes_one_run(client: Any) -> None:
    first = client.runs.create(message="slow 1 1ms", stream=False, idempotency_key="job-1")
    again = client.runs.create(message="slow 1 1ms", stream=False, idempotency_key="job-1")
    assert first.id == again.id
    with pytest.raises(m8tes.ConflictError) as refused:
        client.runs.create(message="another", stream=False, idempotency_key="job-1")
    assert refused.value.code == "idempotency_key_reuse"
    live = client.runs.create(message="slow 30 20ms", stream=False, idempotency_key="job-2")
    joined = client.runs.create(message="slow 30 20ms", stream=True, idempotency_key="job-2")
    assert "".join(joined.iter_text()).endswith("word30 ")
    assert joined.run_id == live.id
