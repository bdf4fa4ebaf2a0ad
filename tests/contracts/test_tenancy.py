"""v2's scopes on every route: another account's rows and another end user's do not exist."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from config.api import v2
from runs.budgets import definitions as budgets
from runs.models import Lesson, Run, RunFile, RunStatus
from runs.sharing import artifacts
from runs.tasks import staffing, tasks
from runs.tools import builtin
from runs.triggers import definitions
from runs.webhooks import endpoints
from teammates.access import Access
from teammates.errors import Forbidden, NotFound
from teammates.integrations import servers, tool_policies
from teammates.knowledge import documents, memories, skills
from teammates.models import EndUser
from teammates.people import api_keys, end_users, sessions
from teammates.roster import editing, lookup
from tests import factories
from tests.factories import make_gate, make_key, make_run
from threads import files

SCHEMA = v2.get_openapi_schema()
# What hangs on the account itself, or on the catalog that all accounts share.
SHARED = {"/apps/{name}"}


@pytest.fixture
def eve_client(eve: Access) -> Client:
    return client_of(eve)


def client_of(access: Access) -> Client:
    return Client(headers={"Authorization": f"Bearer {make_key(access)}"})


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in SCHEMA["paths"].items():
        for method, operation in methods.items():
            yield method, path.removeprefix("/api/v2"), operation


def with_ids() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The operations on one thing that belongs to somebody."""
    for method, path, operation in operations():
        if "{" in path and not any(path.startswith(one) for one in SHARED):
            yield method, path, operation


def example(schema: dict[str, Any]) -> Any:
    """The simplest body that a schema accepts."""
    if "$ref" in schema:
        return example(SCHEMA["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example(schema["anyOf"][0])
    match schema.get("type"):
        case "object":
            wanted = schema.get("required", [])
            given = {name: example(schema["properties"][name]) for name in wanted}
            filler = {"x": "y"} if schema.get("minProperties") else {}
            return given | ({} if given else filler)
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "array":
            return []
    return "words"


def scopes(operation: dict[str, Any]) -> bool:
    """Whether `user_id` narrows the operation."""
    asked = operation.get("parameters", [])
    return ("user_id", "query") in [(one["name"], one["in"]) for one in asked]


def call(
    client: Client,
    method: str,
    path: str,
    operation: dict[str, Any],
    query: str = "",
    **known: Any,
) -> Any:
    url = f"/api/v2{path}{query}"
    content = operation.get("requestBody", {}).get("content", {})
    if "multipart/form-data" in content:
        upload = io.BytesIO(b"x")
        upload.name = "x.txt"
        return client.post(url, {"payload": json.dumps({"message": "x"}), "files": upload})
    body = example(next(iter(content.values()))["schema"]) if content else {}
    if method == "get":
        return client.get(url)
    body = {name: known.get(name, value) for name, value in (body or {}).items()}
    data = json.dumps(body)
    return getattr(client, method)(url, data=data, content_type="application/json")


def everything_of(access: Access) -> dict[str, dict[str, Any]]:
    """One of each, and by what the routes name it."""
    agent = editing.create_teammate(access, name="Ada", end_user=access.end_user)
    task = tasks.create_task(access, agent, instructions="x", end_user=access.end_user)
    trigger = definitions.add_schedule(access, task, interval_seconds=3600)
    lesson = Lesson.objects.create(task=task, text="x", last_reaffirmed_at=timezone.now())
    document = documents.write_document(access, name="guide.md", content="x", teammate=agent)
    run = make_run(
        access,
        thread=factories.make_thread(access, end_user=access.end_user),
        teammate=agent,
        status=RunStatus.COMPLETED,
    )
    file = files.write_file(run.thread, name="a.txt", content=b"x")
    RunFile.objects.create(run=run, file=file)
    ids = {
        "teammate_id": agent.pk,
        "task_id": task.pk,
        "trigger_id": definitions.wire_id(trigger),
        "lesson_id": lesson.pk,
        "document_id": document.pk,
        "run_id": run.pk,
        "memory_id": memories.add_memory(access, "x").pk,
        "policy_id": tool_policies.allow_tool(access, "x")[0].pk,
        "skill_id": skills.add_skill(access, name="x", description="x", body="x").pk,
        "server_id": servers.add_server(
            access, servers.NewServer(name="Shop", url="https://example.com")
        ).pk,
        "connection_id": servers.connect_app(access, "notion", "ntn_1").pk,
        "webhook_id": endpoints.add_endpoint(access, url="https://example.com").pk,
        "budget_id": budgets.set_budget(
            access, period="total", amount="1", action="tell", thread=run.thread
        ).pk,
        "artifact_id": artifacts.keep_file(access, run, "a.txt").pk,
        "key_id": api_keys.create_key(access, name="k")[0].pk,
        "user_id": access.end_user.external_id if access.end_user else "cust_1",
    }
    if access.end_user is None:
        end_users.find_or_create(access, "cust_1")
    return {"ids": ids, "names": {"/runs": "a.txt", "/agents": "guide.md"}}


def filled(path: str, of: dict[str, dict[str, Any]]) -> str:
    ids = dict(of["ids"])
    ids["name"] = of["names"].get(f"/{path.split('/')[1]}", "x")
    return re.sub(r"{(\w+)}", lambda found: str(ids[found[1]]), path)


def test_another_accounts_rows_are_absent_on_every_route(alice: Access, eve_client: Client) -> None:
    of = everything_of(alice)
    found = {}
    for method, path, operation in with_ids():
        response = call(eve_client, method, filled(path, of), operation)
        if response.status_code != 404:
            found[f"{method} {path}"] = (response.status_code, response.content[:200])
    assert found == {}, "\n".join(f"{k}: {v}" for k, v in found.items())


def test_another_end_users_rows_are_absent_on_every_route(alice: Access) -> None:
    one = end_users.find_or_create(alice, "cust_1")
    end_users.find_or_create(alice, "cust_2")
    of = everything_of(replace(alice, end_user=one))
    client = client_of(alice)
    found, tried = {}, 0
    for method, path, operation in with_ids():
        if not scopes(operation):
            continue
        tried += 1
        for other in ("cust_2", "never-seen"):
            response = call(client, method, filled(path, of), operation, f"?user_id={other}")
            if response.status_code != 404:
                found[f"{method} {path} {other}"] = (response.status_code, response.content[:200])
    assert tried > 60
    assert found == {}, "\n".join(f"{k}: {v}" for k, v in found.items())


def test_an_end_user_scope_does_not_reach_the_accounts_own_rows(alice: Access) -> None:
    end_users.find_or_create(alice, "cust_2")
    of = everything_of(alice)
    client = client_of(alice)
    found = {}
    for method, path, operation in with_ids():
        if not scopes(operation):
            continue
        response = call(client, method, filled(path, of), operation, "?user_id=cust_2")
        if response.status_code != 404:
            found[f"{method} {path}"] = (response.status_code, response.content[:200])
    assert found == {}, "\n".join(f"{k}: {v}" for k, v in found.items())


def test_a_gate_of_another_account_cannot_be_decided(alice: Access, eve_client: Client) -> None:
    gate = make_gate(alice)
    body = {"request_id": str(gate.uid), "decision": "allow"}
    url = f"/api/v2/runs/{gate.run_id}/approve"
    assert eve_client.post(url, body, content_type="application/json").status_code == 404
    gate.refresh_from_db()
    assert gate.is_pending


def test_a_colleagues_personal_teammate_is_out_of_reach(alice: Access) -> None:
    bob = factories.make_bob(alice)
    of = everything_of(alice)
    client, ids = client_of(bob), of["ids"]
    for path in (
        f"/agents/{ids['teammate_id']}",
        f"/documents/{ids['document_id']}",
        f"/tasks/{ids['task_id']}",
        f"/runs/{ids['run_id']}",
        f"/artifacts/{ids['artifact_id']}",
    ):
        assert client.get(f"/api/v2{path}").status_code == 404, path
    agent = lookup.get_teammate(alice, ids["teammate_id"])
    run = make_run(bob)
    assert agent.pk not in [
        row["teammate_id"]
        for row in builtin.VERBS["list_teammates"](
            run,
            bob,
            None,
            {},  # type: ignore[arg-type]
        )
    ]
    with pytest.raises(NotFound):
        lookup.get_persona(bob, agent.key)
    editing.update_teammate(alice, agent, visibility="organization")
    assert client.get(f"/api/v2/agents/{agent.pk}").status_code == 200
    assert lookup.get_persona(bob, agent.key)[0] == agent
    assert (
        client.patch(
            f"/api/v2/agents/{agent.pk}", {"name": "Mine"}, content_type="application/json"
        ).status_code
        == 403
    )


def test_a_member_sets_no_limits_and_lifts_none(alice: Access) -> None:
    end_users.create_end_user(alice, "kim", run_limit=0)
    bob, kim = factories.make_bob(alice), end_users.get_end_user(alice, "kim")
    with pytest.raises(Forbidden):
        end_users.update_end_user(bob, kim, run_limit=None)
    with pytest.raises(Forbidden):
        end_users.remove_profile(bob, kim)
    end_users.remove_profile(alice, kim)
    assert end_users.find_or_create(alice, "kim").run_limit == 0


def test_a_task_whose_triggers_are_refused_is_not_made(alice: Access) -> None:
    agent = editing.create_teammate(alice, name="Ada")
    staffing.set_enabled(alice, agent, enabled=False)
    body = {"teammate_id": agent.pk, "instructions": "x", "schedule": "0 9 * * 1"}
    made = client_of(alice).post("/api/v2/tasks", body, content_type="application/json")
    assert made.status_code == 400
    assert not agent.tasks.exists()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("get", "/users/a%00b", None, 422),
        ("get", "/usage/timeseries?end_date=0001-01-05", None, 422),
        ("get", "/usage/timeseries?start_date=x", None, 422),
        ("post", "/agents", {"from_template": "research-analyst", "role": None}, 201),
        ("get", "/agents/99999999999999999999999", None, 404),
        ("get", "/runs?starting_after=99999999999999999999999", None, 422),
        ("get", "/agents?limit=0", None, 422),
        ("get", "/agents?limit=101", None, 422),
        ("get", "/agents?nonsense=1", None, 422),
        ("get", "/nothing", None, 404),
        ("put", "/agents", {}, 405),
        ("get", "/agents/x%2Fy", None, 404),
    ],
)
def test_odd_requests_have_clear_answers(
    alice: Access, method: str, path: str, body: Any, status: int
) -> None:
    client = client_of(alice)
    given = {} if body is None else {"data": body, "content_type": "application/json"}
    for slash in ("", "/") if "?" not in path else ("",):
        response = getattr(client, method)(f"/api/v2{path}{slash}", **given)
        assert response.status_code == status, response.content
        if status >= 400:
            said = response.json()["error"]
            assert (said["code"], said["error_code"]) == (status, said["details"]["error_code"])
            assert said["request_id"] == response["X-Request-Id"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/runs", {"message": "x", "stream": False, "teammate_id": "teammate_id"}),
        ("/runs/first-session", {"stream": False, "teammate_id": "teammate_id"}),
        ("/tasks", {"instructions": "x", "teammate_id": "teammate_id"}),
        ("/artifacts", {"filename": "a.txt", "run_id": "run_id"}),
        ("/feedback", {"message": "x", "run_id": "run_id"}),
        (
            "/skills",
            {
                "name": "x",
                "description": "x",
                "body": "x",
                "scope": "teammate",
                "teammate_id": "teammate_id",
            },
        ),
    ],
)
def test_ids_in_bodies_are_looked_up_in_ones_own_account(
    alice: Access, eve_client: Client, path: str, body: dict[str, Any]
) -> None:
    ids = everything_of(alice)["ids"]
    given = {
        name: ids.get(value, value) if isinstance(value, str) else value
        for name, value in body.items()
    }
    response = eve_client.post(f"/api/v2{path}", given, content_type="application/json")
    assert response.status_code == 404, response.content


def test_unscoped_lists_show_what_the_contract_says(alice: Access) -> None:
    one = end_users.find_or_create(alice, "cust_1")
    everything_of(alice)
    everything_of(replace(alice, end_user=one))
    client = client_of(alice)

    def users(path: str) -> set[str | None]:
        rows = client.get(f"/api/v2{path}").json()["data"]
        return {row["user_id"] for row in rows}

    for path in ("/agents", "/tasks"):
        assert users(path) == {None, "cust_1"}, path
    for path in (
        "/runs",
        "/memories",
        "/permissions",
        "/skills",
        "/mcp-servers",
        "/webhooks",
        "/artifacts",
    ):
        assert users(path) == {None}, path
        assert users(f"{path}?user_id=cust_1") == {"cust_1"}, path
    assert users("/runs?include_end_user_runs=true") == {None, "cust_1"}


GATED = [
    ("get", "/agents"),
    ("get", "/tasks"),
    ("get", "/runs"),
    ("get", "/skills"),
    ("get", "/mcp-servers"),
    ("get", "/memories"),
    ("get", "/permissions"),
    ("get", "/agents/{teammate_id}"),
    ("get", "/agents/{teammate_id}/system-prompt"),
    ("get", "/tasks/{task_id}"),
    ("get", "/runs/{run_id}"),
    ("get", "/skills/{skill_id}"),
    ("get", "/mcp-servers/{server_id}"),
    ("post", "/runs/{run_id}/cancel"),
    ("post", "/agents"),
    ("post", "/tasks"),
    ("post", "/runs"),
    ("post", "/skills"),
    ("post", "/mcp-servers"),
    ("post", "/memories"),
    ("post", "/permissions"),
    ("patch", "/memories/{memory_id}"),
    ("delete", "/memories/{memory_id}"),
    ("delete", "/permissions/{policy_id}"),
]
EXEMPT = [
    "/apps",
    "/built-in-tools",
    "/models",
    "/agent-templates",
    "/settings",
    "/keys",
    "/users",
    "/usage",
    "/audit-logs",
    "/webhooks",
]


def test_strict_mode_wants_an_end_user_and_leaves_nothing_half_made(alice: Access) -> None:
    of = everything_of(alice)
    before = Run.objects.count(), alice.organization.teammates.count()
    factories.strict(alice)
    client = client_of(alice)
    by_path = {(method, path): operation for method, path, operation in operations()}
    for method, path in GATED:
        teammate = of["ids"]["teammate_id"]
        response = call(
            client, method, filled(path, of), by_path[method, path], teammate_id=teammate
        )
        said = response.json()["error"]
        assert (response.status_code, said["error_code"]) == (422, "END_USER_ID_REQUIRED"), path
        assert "require_end_user_id=False" in said["message"]
    for path in EXEMPT:
        assert client.get(f"/api/v2{path}").status_code == 200, path
    assert (Run.objects.count(), alice.organization.teammates.count()) == before
    reply = client.post(
        f"/api/v2/runs/{of['ids']['run_id']}/reply",
        {"message": "x", "stream": False},
        content_type="application/json",
    )
    assert reply.status_code == 200, reply.content


def test_in_strict_mode_v1_is_closed_to_keys_and_open_to_people(alice: Access) -> None:
    of = everything_of(replace(alice, end_user=end_users.find_or_create(alice, "c1")))
    factories.strict(alice)
    key, session = factories.make_key(alice), sessions.open_session(alice).access
    thread = Run.objects.get(pk=of["ids"]["run_id"]).thread
    for path in ("/v1/threads", "/v1/runs", f"/v1/threads/{thread.uid}/messages"):
        refused = Client().get(path, headers={"authorization": f"Bearer {key}"})
        assert (refused.status_code, refused.json()["code"]) == (403, "auth.strict_mode"), path
        person = Client().get(path, headers={"authorization": f"Bearer {session}"})
        assert person.status_code == 200, path


def test_in_strict_mode_a_scoped_task_or_teammate_is_enough(alice: Access) -> None:
    one = end_users.find_or_create(alice, "cust_1")
    ids = everything_of(replace(alice, end_user=one))["ids"]
    factories.strict(alice)
    client = client_of(alice)
    for path, body in (
        (f"/tasks/{ids['task_id']}/runs", {"stream": False}),
        ("/runs", {"message": "x", "stream": False, "teammate_id": ids["teammate_id"]}),
    ):
        made = client.post(f"/api/v2{path}", body, content_type="application/json")
        assert made.status_code == 201, made.content
        assert made.json()["user_id"] == "cust_1"


def test_deleting_a_profile_keeps_what_the_end_user_has(alice: Access) -> None:
    one = end_users.find_or_create(alice, "cust_1")
    everything_of(replace(alice, end_user=one))
    client = client_of(alice)
    assert client.delete("/api/v2/users/cust_1").status_code == 204
    assert client.get("/api/v2/users/cust_1").status_code == 404
    assert client.get("/api/v2/memories?user_id=cust_1").json()["data"]
    assert EndUser.objects.get(external_id="cust_1").removed_at is not None


LISTS = [
    "/agents",
    "/tasks",
    "/runs",
    "/runs?sort=priority",
    "/triggers",
    "/memories",
    "/permissions",
    "/skills",
    "/mcp-servers",
    "/webhooks",
    "/artifacts",
    "/users",
    "/usage/end-users",
    "/audit-logs",
    "/keys/all",
    "/documents?scope=company",
    "/runs/activity",
    "/runs/needs-you",
    "/apps/connections",
]


@pytest.mark.parametrize("path", LISTS)
def test_lists_take_the_same_queries_for_one_row_and_for_many(alice: Access, path: str) -> None:
    client = client_of(alice)

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as caught:
            response = client.get(f"/api/v2{path}")
            assert response.status_code == 200, response.content
        return len(caught)

    def one_more(number: int) -> None:
        agent = editing.create_teammate(alice, name=f"A{number}")
        task = tasks.create_task(alice, agent, instructions="x")
        definitions.add_schedule(alice, task, interval_seconds=3600)
        run = make_run(alice, teammate=agent, status=RunStatus.COMPLETED)
        Run.objects.filter(pk=run.pk).update(asks_back=True)
        RunFile.objects.create(
            run=run, file=files.write_file(run.thread, name="a.txt", content=b"x")
        )
        artifacts.keep_file(alice, run, "a.txt")
        memories.add_memory(alice, f"memory {number}")
        skills.add_skill(alice, name=f"skill {number}", description="x", body="x")
        documents.write_document(alice, name=f"{number}.md", content="x")
        tool_policies.allow_tool(alice, f"tool {number}")
        servers.add_server(
            alice, servers.NewServer(name=f"Server {number}", url="https://example.com")
        )
        endpoints.add_endpoint(alice, url="https://example.com")
        end_users.find_or_create(alice, f"cust_{number}")
        api_keys.create_key(alice, name=f"k{number}")

    one_more(0)
    queries()  # the first request of a key notes its use
    first = queries()
    for number in range(1, 8):
        one_more(number)
    assert queries() == first
