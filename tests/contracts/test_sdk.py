"""The unmodified m8tes SDK against a real server: the six examples of the seed, and its errors."""

from decimal import Decimal
from typing import Any

import psycopg
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
    for kind in (
        "metadata",
        "message-start",
        "reasoning-delta",
        "text-start",
        "text-delta",
        "text-end",
        "tool-call-start",
        "tool-call-delta",
        "tool-call-end",
        "tool-result-end",
        "todo-update",
        "message-end",
        "run_metrics",
    ):
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
    client.skills.create(name="Some skill", description="x", body="y", user_id="cust_1")
    run = client.runs.create(
        message="slow 1 1ms",
        stream=False,
        teammate_id=agent.id,
        tools=[],
        user_id="cust_1",
        metadata={"a": {"b": [1, None]}},
        memory=False,
        history=False,
        task_setup_tools=False,
        feedback=False,
        human_in_the_loop=True,
        permission_mode="approval",
        model="demo",
        effort="max",
        output_schema=schema,
        max_turns=3,
        skill="some-skill",
        email_notifications=True,
    )
    raw = client.runs._http.request("GET", f"/runs/{run.id}", params={"user_id": "cust_1"}).json()
    assert next(iter(raw)) == "id"
    expected = {
        "teammate_id": agent.id,
        "tools": [],
        "user_id": "cust_1",
        "metadata": {"a": {"b": [1, None]}},
        "memory": False,
        "history": False,
        "task_setup_tools": False,
        "feedback": False,
        "human_in_the_loop": True,
        "permission_mode": "approval",
        "model": "demo",
        "effort": "max",
        "output_schema": schema,
        "max_turns": 3,
        "skill": "some-skill",
        "email_notifications": True,
    }
    assert {key: raw[key] for key in expected} == expected


def test_a_reply_inherits_settings_and_is_not_interactive(client: Any) -> None:
    first = client.runs.create(
        message="slow 1 1ms",
        stream=False,
        permission_mode="approval",
        task_setup_tools=False,
        feedback=False,
        metadata={"k": 1},
    )
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
    for status in (
        "running",
        "paused",
        "awaiting_approval",
        "completed",
        "failed",
        "cancelled",
        "closed",
        "archived",
    ):
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
        lambda: client.runs.create(
            message="x", stream=False, teammate_id=agent.id, user_id="cust_b"
        ),
    ):
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


# --- human in the loop --------------------------------------------------------------------------


def test_wait_answers_questions_and_approvals_with_callbacks(client: Any) -> None:
    run = client.runs.create(
        message="ask me, then approve it, then file notes.txt",
        stream=False,
        permission_mode="approval",
    )
    asked, approved = [], []

    def on_question(request: Any) -> dict[str, str]:
        asked.append(request)
        return {request.tool_input["questions"][0]["question"]: "Long"}

    def on_approval(request: Any) -> str:
        approved.append(request)
        return "allow"

    done = client.runs.wait(
        run.id, on_question=on_question, on_approval=on_approval, interval=0.05, timeout=120
    )
    assert done.status == "completed"
    assert "Long" in done.output
    assert [request.tool_name for request in approved] == ["pretend_send", "write_file"]
    first = approved[0]
    assert (first.display_name, first.mate_name) == ("Pretend to send", "Demo")
    assert ["To", "kim@example.com"] in first.fields
    assert first.consequence
    assert first.timeout_seconds == 55
    assert asked[0].status == "pending"
    statuses = [request.status for request in client.runs.permissions(run.id)]
    assert statuses == ["allowed"] * 3
    assert client.runs.permissions(run.id)[0].tool_input["answers"]


def test_a_plan_is_proposed_revised_and_approved(client: Any) -> None:
    run = client.runs.create(message="file plan.md", stream=False, permission_mode="plan")
    plans = []

    def on_question(request: Any) -> dict[str, str]:
        assert request.is_plan_approval
        plans.append(request.plan_text)
        return {"Plan Approval": "Approve" if len(plans) == 2 else "Revise: shorter please"}

    done = client.runs.wait(
        run.id,
        on_question=on_question,
        on_approval=lambda request: "allow",
        interval=0.05,
        timeout=120,
    )
    assert done.status == "completed"
    assert len(plans) == 2
    assert "shorter please" in plans[1]
    assert [file.name for file in client.runs.list_files(run.id)] == ["plan.md"]


def waiting(client: Any, **fields: Any) -> Any:
    run = client.runs.create(
        **{"message": "file a.txt", "stream": False, "permission_mode": "approval"} | fields
    )
    wait_for(lambda: client.runs.get(run.id).status == "awaiting_approval")
    return run


def test_approve_remembers_and_refuses_in_the_order_of_the_contract(client: Any) -> None:
    run = waiting(client)
    (request,) = client.runs.permissions(run.id)
    with pytest.raises(m8tes.NotFoundError) as unknown:
        client.runs.approve(run.id, request_id="nonsense", decision="allow")
    assert unknown.value.code == "gate_not_found"
    with pytest.raises(m8tes.ValidationError):
        client.runs.approve(run.id, request_id=request.request_id, decision="maybe")
    given = client.runs.approve(
        run.id, request_id=request.request_id, decision="allow", remember=True
    )
    assert (given.status, given.resumed, given.remembered) == ("allowed", True, True)
    again = client.runs.approve(run.id, request_id=request.request_id, decision="allow")
    assert (again.resumed, again.remembered) == (False, True)
    with pytest.raises(m8tes.NotFoundError) as otherwise:
        client.runs.approve(run.id, request_id=request.request_id, decision="deny")
    assert otherwise.value.code == "gate_resolved_otherwise"
    assert client.runs.poll(run.id, interval=0.05).status == "completed"
    (policy,) = client.permissions.list().data
    assert (policy.tool_name, policy.source, policy.user_id) == ("write_file", "run_approval", None)
    second = client.runs.create(message="file b.txt", stream=False, permission_mode="approval")
    assert client.runs.poll(second.id, interval=0.05).status == "completed"
    client.permissions.delete(policy.id)
    with pytest.raises(m8tes.NotFoundError):
        client.permissions.delete(policy.id)


def test_a_denial_reaches_the_model_with_its_reason(client: Any) -> None:
    run = waiting(client)
    (request,) = client.runs.permissions(run.id)
    client.runs.approve(
        run.id, request_id=request.request_id, decision="deny", reason="not this file"
    )
    done = client.runs.poll(run.id, interval=0.05)
    assert "not this file" in done.output
    assert client.runs.list_files(run.id) == []


def test_switching_the_mode_of_a_waiting_run(client: Any) -> None:
    run = waiting(client)
    assert client.runs.update_permission_mode(run.id, permission_mode="autonomous")
    assert client.runs.poll(run.id, interval=0.05).status == "completed"
    (request,) = client.runs.permissions(run.id)
    assert request.status == "allowed"
    with pytest.raises(m8tes.ValidationError, match="permission_mode"):
        client.runs.update_permission_mode(run.id, permission_mode="yolo")


def test_a_program_that_asks_by_itself_reads_the_decision(client: Any, server: Server) -> None:
    run = client.runs.create_and_wait(message="plain words", poll_interval=0.05)
    with server.client() as plain:
        body = {"tool_name": "Bash", "tool_input": {"command": "ls"}}
        asked = plain.post(f"/api/v1/runs/{run.id}/permission-request", json=body)
        assert asked.status_code == 200, asked.text
        request_id = asked.json()["request_id"]
    client.runs.update_permission_mode(run.id, permission_mode="autonomous")
    statuses = {r.request_id: r.status for r in client.runs.permissions(run.id)}
    assert statuses[request_id] == "allowed"


def test_answers_that_are_refused(client: Any) -> None:
    run = waiting(client)
    with pytest.raises(m8tes.ConflictError):
        client.runs.answer(run.id, answers={"x": "y"})
    for answers, error in (({}, m8tes.ValidationError), ({"x": " "}, m8tes.ValidationError)):
        with pytest.raises(error):
            client.runs.answer(run.id, answers=answers)
    client.runs.cancel(run.id)
    with pytest.raises(m8tes.ConflictError):
        client.runs.answer(run.id, answers={"x": "y"})
    (request,) = client.runs.permissions(run.id)
    with pytest.raises(m8tes.NotFoundError) as cancelled:
        client.runs.approve(run.id, request_id=request.request_id, decision="allow")
    assert cancelled.value.code == "gate_cancelled"


# --- tools and knowledge ------------------------------------------------------------------------


def test_permissions_are_idempotent_and_scoped(client: Any) -> None:
    made = client.permissions.create(tool="send_email", user_id="cust_p")
    assert client.permissions.create(tool="send_email", user_id="cust_p").id == made.id
    assert made.id not in [p.id for p in client.permissions.list(limit=100).data]
    assert [p.id for p in client.permissions.list(user_id="cust_p").data] == [made.id]
    with pytest.raises(m8tes.NotFoundError):
        client.permissions.delete(made.id)
    client.permissions.delete(made.id, user_id="cust_p")


def test_built_in_tools_say_what_is_on(client: Any) -> None:
    by_name = {tool.name: tool for tool in client.built_in_tools.list().data}
    for name in ("memory", "history", "task_setup_tools", "feedback"):
        assert by_name[name].configurable
        assert by_name[name].enabled
    assert not by_name["notify"].multi_tenant_safe
    scoped = {tool.name: tool for tool in client.built_in_tools.list(user_id="cust_b").data}
    assert not scoped["notify"].enabled
    agent = client.agents.create(
        name="Forgetful", enable_memory=False, disabled_builtin_tools=["web"]
    )
    theirs = {tool.name: tool for tool in client.built_in_tools.list(agent_id=agent.id).data}
    assert (theirs["memory"].enabled, theirs["web"].enabled) == (False, False)


def test_memories(client: Any) -> None:
    made = client.memories.create(content="  Invoices go to Kim.  ", user_id="cust_m")
    assert (made.content, made.source) == ("Invoices go to Kim.", "api")
    with pytest.raises(m8tes.ConflictError):
        client.memories.create(content="invoices  GO to kim.", user_id="cust_m")
    client.memories.create(content="Invoices go to Kim.")
    for content in ("", "x" * 301):
        with pytest.raises(m8tes.ValidationError):
            client.memories.create(content=content)
    found = client.memories.list(user_id="cust_m", query="KIM").data
    assert [memory.id for memory in found] == [made.id]
    changed = client.memories.update(made.id, audience="company", user_id="cust_m")
    assert (changed.content, changed.scope) == ("Invoices go to Kim.", "company")
    with pytest.raises(m8tes.NotFoundError):
        client.memories.delete(made.id)
    client.memories.delete(made.id, user_id="cust_m")
    assert client.memories.list(user_id="cust_m").data == []


def test_skills(client: Any) -> None:
    skill = client.skills.create(
        name="acme refund playbook", description="Refunds.", body="# Steps"
    )
    assert (skill.slug, skill.scope, skill.source) == ("acme-refund-playbook", "account", "user")
    renamed = client.skills.update(skill.id, name="Another name")
    assert (renamed.slug, renamed.name) == ("acme-refund-playbook", "Another name")
    assert skill.slug in [one.slug for one in client.skills.list_invokable()]
    client.skills.update(skill.id, status="disabled")
    assert skill.slug not in [one.slug for one in client.skills.list_invokable()]
    assert skill.id in [one.id for one in client.skills.list()]
    client.skills.delete(skill.id)
    with pytest.raises(m8tes.NotFoundError):
        client.skills.get(skill.id)
    with pytest.raises(m8tes.ValidationError, match="skill"):
        client.runs.create(message="x", stream=False, skill="acme-refund-playbook")


def test_servers_of_tools(client: Any) -> None:
    tools = [{"name": "get_invoice", "method": "GET", "path": "/invoices/{id}"}]
    server = client.mcp_servers.create(
        name="acme billing",
        url="https://example.com/v1",
        auth_type="bearer",
        secret="sk-1",
        tool_defs=tools,
    )
    assert (server.slug, server.has_secret, server.auto_approve) == ("acme-billing", True, False)
    assert "sk-1" not in str(server)
    agent = client.agents.create(name="ops", tools=[server.slug, "gmail"])
    assert client.mcp_servers.get(server.id).teammate_ids == [agent.id]
    changed = client.mcp_servers.update(server.id, name="Billing")
    assert (changed.slug, changed.has_secret) == ("acme-billing", True)
    assert not client.mcp_servers.update(server.id, secret=None).has_secret
    assert client.mcp_servers.approve(server.id).auto_approve
    for url in ("ftp://example.com", "nonsense"):
        with pytest.raises(m8tes.ValidationError, match="url"):
            client.mcp_servers.create(name="bad", url=url, tool_defs=tools)
    with pytest.raises(m8tes.ValidationError, match="header_name"):
        client.mcp_servers.create(name="bad", url="https://example.com", auth_type="custom_header")
    with pytest.raises(m8tes.ValidationError, match=r"tool_defs\[0\]"):
        client.mcp_servers.create(name="bad", url="https://example.com", tool_defs=[{"name": "x"}])
    with pytest.raises(m8tes.ValidationError, match="no_such"):
        client.agents.create(name="x", tools=["no_such"])
    client.mcp_servers.delete(server.id)
    with pytest.raises(m8tes.NotFoundError):
        client.mcp_servers.get(server.id)


def test_apps(client: Any) -> None:
    by_name = {app.name: app for app in client.apps.list().data}
    assert by_name["gmail"].connected is False
    assert client.apps.connect_api_key("gemini", "AIza-test", user_id="cust_app").status == (
        "connected"
    )
    assert client.apps.is_connected("gemini", user_id="cust_app")
    assert not client.apps.is_connected("gemini")
    (connection,) = client.apps.connections.list("gemini", user_id="cust_app").data
    assert connection.status == "active"
    listed = client.apps.list_tools("gmail").data
    assert {tool.slug: tool.read_only for tool in listed}["send_message"] is False
    client.apps.disconnect("gemini", user_id="cust_app")
    assert not client.apps.is_connected("gemini", user_id="cust_app")
    with pytest.raises(m8tes.NotFoundError):
        client.apps.list_tools("no_such_app")


def test_models(client: Any) -> None:
    models = {model.id: model for model in client.models.list().data}
    assert models["opus"].provider == "anthropic"
    assert models["opus"].pricing.output_per_mtok > 0
    assert sum(model.default for model in models.values()) == 1


def test_a_run_gives_its_result_in_the_form_that_was_asked_for(client: Any) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    run = client.runs.create_and_wait(message="x", output_schema=schema, poll_interval=0.05)
    assert run.output_data == {"n": 1}


def test_a_run_that_stops_at_a_budget_is_answered_as_any_question(make_server: Any) -> None:
    server = make_server()
    with psycopg.connect(server.database_url) as connection:  # the demo model is no longer free
        connection.execute(
            "INSERT INTO teammates_modelprice "
            "(model_id, valid_from, uncached_input, cache_read, cache_write, output) "
            "SELECT id, now(), 3, 3, 3, 15 FROM teammates_model"
        )
    with server.client() as http:
        capped = http.post("/api/v2/budgets", json={"amount_usd": "0.001", "period": "month"})
        assert capped.status_code == 201
        with m8tes.M8tes(api_key=server.key, base_url=f"{server.url}/api/v2") as client:
            stopped = client.runs.create(message="plain words", stream=False)
            wait_for(lambda: client.runs.get(stopped.id).status == "awaiting_approval")
            (card,) = client.runs.permissions(stopped.id)
            (question,) = card.tool_input["questions"]
            labels = [option["label"] for option in question["options"]]
            assert "$0.00 of $0.01 a month is spent or reserved" in question["question"]
            assert labels[2:] == ["Finish with a summary", "Stop"]
            with pytest.raises(m8tes.ValidationError, match="allow"):
                client.runs.answer(stopped.id, answers={question["question"]: "perhaps"})
            client.runs.answer(stopped.id, answers={question["question"]: "Stop"})
            assert client.runs.poll(stopped.id, interval=0.05).status == "cancelled"

            allowed = client.runs.create(message="plain words", stream=False)
            done = client.runs.wait(
                allowed.id,
                on_question=lambda asked: {asked.tool_input["questions"][0]["question"]: labels[0]},
                interval=0.05,
                timeout=60,
            )
            assert (done.status, Decimal(done.usage.cost_usd) > 0) == ("completed", True)
        (budget,) = http.get("/api/v2/budgets").json()["data"]
        assert Decimal(budget["spent_usd"]) == Decimal(done.usage.cost_usd)
        assert Decimal(budget["reserved_usd"]) == 0
    server.stop()
