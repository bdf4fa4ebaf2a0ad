"""v1 without a server: shapes, refusals, cursors."""

import json
from datetime import datetime
from typing import Any

import pytest
from django.test import Client

from runs.lifecycle import endings
from runs.models import IdempotencyKey, Run, RunStatus, Task
from teammates.access import Access
from teammates.models import Organization, User
from tests.factories import PASSWORD, make_key, make_run, make_thread


@pytest.fixture
def api(alice: Access) -> Any:
    """`api(method, path, body)` as Alice, with a key of hers; returns the response."""
    client, headers = Client(), {"authorization": f"Bearer {make_key(alice)}"}

    def call(method: str, path: str, body: Any = None, **more: Any) -> Any:
        data = "" if body is None else body if isinstance(body, str) else json.dumps(body)
        options = {} if method == "get" else {"data": data, "content_type": "application/json"}
        return getattr(client, method)(
            f"/v1{path}", headers=headers | more.pop("headers", {}), **options, **more
        )

    return call


RUN_ITEM = [
    "run_id",
    "org_id",
    "account_id",
    "thread_id",
    "status",
    "model",
    "persona_id",
    "total_input_tokens",
    "total_output_tokens",
    "total_cost_usd",
    "duration_ms",
    "cache_hit_rate",
    "credits_used",
    "created_at",
    "completed_at",
    "failed_at",
    "created_by_user_id",
    "created_by_user_name",
    "created_by_email",
]


def test_register_gives_a_token_that_works_at_once(db: None) -> None:
    client = Client()
    body = {"login": "smoke", "password": PASSWORD, "email": "smoke@example.com"}
    made = client.post("/v1/auth/register", body, content_type="application/json")
    assert made.status_code == 201
    assert made.json()["token_type"] == "bearer"
    assert made.json()["warning"] is None
    headers = {"authorization": f"Bearer {made.json()['access_token']}"}
    thread = client.post("/v1/threads", "{}", content_type="application/json", headers=headers)
    run = client.post(
        f"/v1/threads/{thread.json()['id']}/runs",
        "{}",
        content_type="application/json",
        headers=headers,
    )
    assert (thread.status_code, run.status_code) == (201, 201)
    detail = client.get(f"/v1/runs/{run.json()['run_id']}", headers=headers).json()
    assert detail["account_id"] == thread.json()["account_id"] == detail["org_id"]
    me = client.get("/v1/me", headers=headers).json()
    assert (me["username"], me["email"], me["role"]) == ("smoke", "smoke@example.com", "owner")
    again = client.post("/v1/auth/register", body, content_type="application/json")
    assert (again.status_code, again.json()["code"]) == (409, "auth.login_exists")


def test_login_and_refresh_rotate_the_cookie(alice: Access) -> None:
    client = Client()
    wrong = {"login": "alice@example.com", "password": "nope"}
    refused = client.post("/v1/auth/login", wrong, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (401, "auth.invalid_credentials")
    right = wrong | {"password": PASSWORD}
    assert client.post("/v1/auth/login", right, content_type="application/json").json()[
        "access_token"
    ]
    first = client.cookies["muster_refresh_token"].value
    assert client.post("/v1/auth/refresh").status_code == 200
    assert client.cookies["muster_refresh_token"].value != first
    client.cookies["muster_refresh_token"] = first
    assert client.post("/v1/auth/refresh").status_code == 401
    assert Client().post("/v1/auth/refresh").status_code == 422


def test_a_weak_password_or_a_taken_address_leaves_nothing_behind(alice: Access) -> None:
    before = (User.objects.count(), Organization.objects.count())
    for body in (
        {"login": "x", "password": "short", "email": "x@example.com"},
        {"login": "x", "password": PASSWORD, "email": "not an address"},
        {"login": "x", "password": PASSWORD, "email": "ALICE@example.com"},
    ):
        answer = Client().post("/v1/auth/register", body, content_type="application/json")
        assert answer.status_code in (409, 422)
    assert (User.objects.count(), Organization.objects.count()) == before


def test_threads(api: Any) -> None:
    made = api("post", "/threads", {"title": "One"})
    assert made.status_code == 201
    assert list(made.json()) == [
        "id",
        "org_id",
        "account_id",
        "created_by_user_id",
        "title",
        "project_id",
        "created_at",
        "updated_at",
        "active_run_id",
        "is_private",
        "parent_thread_id",
    ]
    path = f"/threads/{made.json()['id']}"
    assert api("patch", path, {"title": "Two"}).json()["title"] == "Two"
    assert api("patch", path, {"title": None}).json()["title"] is None
    assert api("patch", path, {}).status_code == 422
    assert api("get", path).status_code == 200
    assert api("delete", path).status_code == 204
    assert api("get", path).status_code == 404
    assert api("post", "/threads", {"title": "x" * 201}).status_code == 422
    assert api("post", "/threads", {"project_id": None}).status_code == 201
    private = api("post", "/threads", {"is_private": True}).json()["id"]
    assert private not in [t["id"] for t in api("get", "/threads").json()]


def test_threads_page_by_either_cursor(api: Any) -> None:
    made = [api("post", "/threads", {"title": str(n)}).json()["id"] for n in range(5)]
    first = api("get", "/threads?limit=2").json()
    assert [t["id"] for t in first] == made[:2:-1]
    last = first[-1]
    by_pair = api(
        "get",
        "/threads",
        None,
        data={"limit": 2, "before_updated_at": last["updated_at"], "before_id": last["id"]},
    )
    by_id = api("get", f"/threads?limit=2&before={last['id']}")
    assert by_pair.json() == by_id.json()
    assert [t["id"] for t in by_id.json()] == made[2:0:-1]
    half = api("get", f"/threads?before_id={last['id']}")
    assert (half.status_code, half.json()["details"]["reason"]) == (422, "cursor_incomplete")


def test_messages(api: Any, alice: Access) -> None:
    thread = make_thread(alice).uid
    said = api("post", f"/threads/{thread}/messages", {"content": "Hi"})
    assert said.status_code == 201
    parts = {
        "content_json": {"parts": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}
    }
    assert api("post", f"/threads/{thread}/messages", parts).json()["content"] == "A\n\nB"
    listed = api("get", f"/threads/{thread}/messages").json()
    assert [m["content"] for m in listed] == ["Hi", "A\n\nB"]
    assert [m["content"] for m in api("get", f"/threads/{thread}/messages?limit=1").json()] == [
        "A\n\nB"
    ]
    for body in (
        {},
        {"content": ""},
        {"content": "x" * 1_000_001},
        {"content": 1},
        {"content": "x", "content_json": {}},
        {"content_json": {"parts": [{"type": "x"}]}},
    ):
        assert api("post", f"/threads/{thread}/messages", body).status_code == 422, body


def test_a_run_is_created_with_its_trace_id(api: Any, alice: Access) -> None:
    thread = make_thread(alice)
    made = api("post", f"/threads/{thread.uid}/runs")  # an empty body is fine
    assert made.status_code == 201
    assert list(made.json()) == ["run_id", "trace_id"]
    run = Run.objects.get(uid=made.json()["run_id"])
    assert (run.trace_id, run.task.is_ad_hoc) == (made.json()["trace_id"], True)
    detail = api("get", f"/runs/{run.uid}").json()
    assert detail == {
        "run_id": str(run.uid),
        "org_id": str(alice.organization.uid),
        "account_id": str(alice.organization.uid),
        "thread_id": str(thread.uid),
        "created_by_user_id": str(alice.user.uid) if alice.user else None,
        "status": "running",
        "created_at": detail["created_at"],
        "trace_id": run.trace_id,
    }
    (listed,) = api("get", f"/threads/{thread.uid}/runs").json()
    assert list(listed) == ["run_id", "status", "created_at"]


@pytest.mark.parametrize("persona", ["normal", "lite", "work", "normal@1", None])
def test_personas_resolve(api: Any, alice: Access, persona: str | None) -> None:
    made = api("post", f"/threads/{make_thread(alice).uid}/runs", {"persona_id": persona})
    assert made.status_code == 201
    (item,) = api("get", "/runs").json()
    assert item["persona_id"] == persona


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"persona_id": "nobody"}, 404, "personas.not_found"),
        ({"persona_id": "normal@9"}, 404, "personas.version_mismatch"),
        ({"route_id": "nowhere"}, 404, "routing.not_found"),
        ({"persona_id": "-bad"}, 422, "validation.error"),
        ({"unknown": 1}, 422, "validation.error"),
        ("{not json", 422, "validation.error"),
        ("[1]", 422, "validation.error"),
    ],
)
def test_bad_runs_are_refused_and_leave_nothing(
    api: Any, alice: Access, body: Any, status: int, code: str
) -> None:
    answer = api("post", f"/threads/{make_thread(alice).uid}/runs", body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not Run.objects.exists()
    assert not Task.objects.exists()


def test_the_global_list_has_every_key_and_filters(api: Any, alice: Access) -> None:
    for status in (RunStatus.QUEUED, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED):
        make_run(alice, status=status)
    items = api("get", "/runs").json()
    assert all(list(item) == RUN_ITEM for item in items)
    by_status = {item["status"]: item for item in items}
    assert set(by_status) == {"running", "completed", "failed", "cancelled"}
    assert by_status["completed"]["completed_at"]
    assert by_status["completed"]["failed_at"] is None
    assert by_status["failed"]["failed_at"]
    assert by_status["running"]["duration_ms"] is None
    assert by_status["completed"]["created_by_email"] == "alice@example.com"
    for status in by_status:
        (found,) = api("get", f"/runs?status={status}").json()
        assert found["status"] == status
    assert api("get", "/runs?status=nonsense").status_code == 422
    assert api("get", "/runs?limit=0").status_code == 422
    unknown = api("get", "/runs?foo=1")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_query_parameter")


def test_the_global_list_pages_by_all_three_cursors(api: Any, alice: Access) -> None:
    """Trap 9: `before`."""
    made = [str(make_run(alice).uid) for _ in range(5)][::-1]
    first = api("get", "/runs?limit=2")
    assert [r["run_id"] for r in first.json()] == made[:2]
    last = first.json()[-1]
    instant = datetime.fromisoformat(last["created_at"]).isoformat()
    for cursor in (last["run_id"], first["X-Next-Cursor"], last["created_at"], instant):
        rest = api("get", "/runs", None, data={"limit": 10, "before": cursor})
        assert [r["run_id"] for r in rest.json()] == made[2:], cursor
        assert "X-Next-Cursor" not in rest
    for bad in ("nonsense", "01890000-0000-7000-8000-000000000000", "2024-01-01"):
        assert api("get", "/runs", None, data={"before": bad}).status_code == 422


def test_lists_need_a_constant_number_of_queries(
    api: Any, alice: Access, django_assert_max_num_queries: Any
) -> None:
    for _ in range(12):
        make_run(alice, status=RunStatus.COMPLETED)
    with django_assert_max_num_queries(6):
        assert len(api("get", "/runs").json()) == 12
    with django_assert_max_num_queries(7):
        assert len(api("get", "/threads").json()) == 12


def test_cancel_and_input_in_wrong_states(api: Any, alice: Access) -> None:
    run = make_run(alice, status=RunStatus.COMPLETED)
    assert api("post", f"/runs/{run.uid}:cancel").json() == {"ok": True}
    answer = api("post", f"/runs/{run.uid}/input", {"content": "yes"})
    assert (answer.status_code, answer.json()["code"]) == (409, "runs.not_active")
    assert api("post", f"/runs/{run.uid}/input", {"content": ""}).status_code == 422
    assert api("post", f"/runs/{run.uid}/input", {"content": "ü" * 16_385}).status_code == 422
    assert api("post", f"/runs/{run.uid}/input", {}).status_code == 422
    assert api("post", f"/runs/{run.uid}:cancel", {"last_seen_seq": -1}).status_code == 422
    queued = make_run(alice)
    assert api("post", f"/runs/{queued.uid}:cancel", {"last_seen_seq": 1}).json() == {"ok": True}
    queued.refresh_from_db()
    assert queued.status == RunStatus.CANCELLED


def test_ids(api: Any) -> None:
    absent = "01890000-0000-7000-8000-000000000000"
    for path in (f"/runs/{absent}", f"/runs/{absent}/events", f"/threads/{absent}"):
        assert api("get", path).status_code == 404
    assert api("get", "/runs/nonsense").status_code == 422
    assert api("get", "/threads/nonsense").status_code == 422


def test_an_idempotency_key_makes_one_run_in_v1_too(api: Any, alice: Access) -> None:
    thread = make_thread(alice)
    headers = {"Idempotency-Key": "once"}
    one = api("post", f"/threads/{thread.uid}/runs", {}, headers=headers).json()
    two = api("post", f"/threads/{thread.uid}/runs", {}, headers=headers).json()
    assert one == two
    other = api("post", f"/threads/{thread.uid}/runs", {"persona_id": "lite"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reuse")
    IdempotencyKey.objects.update(claimed_at=datetime.fromisoformat("2020-01-01T00:00:00Z"))
    assert api("post", f"/threads/{thread.uid}/runs", {}, headers=headers).json() != one


def test_a_closed_run_is_cancelled_in_v1(api: Any, alice: Access) -> None:
    from django.db import transaction

    run = make_run(alice)
    with transaction.atomic():
        locked = Run.objects.select_for_update().get(pk=run.pk)
        endings.finish_locked(locked, endings.Outcome(RunStatus.CLOSED))
    assert api("get", f"/runs/{run.uid}").json()["status"] == "cancelled"


def test_health(db: None) -> None:
    assert Client().get("/healthz").json() == {"status": "ok"}
    assert Client().get("/health").json() == {"status": "ok"}
    ready = Client().get("/readyz").json()
    assert (ready["match"], ready["schema_version"]) == (True, ready["expected_schema_version"])


# --- webhook endpoints --------------------------------------------------------------------------


def test_webhook_endpoints(api: Any, eve: Access, settings: Any) -> None:
    settings.ALLOW_PRIVATE_ADDRESSES = False
    path = "/webhook-endpoints"
    made = api("post", path, {"url": "http://example.com/x", "events": ["run.interrupted"]})
    assert made.status_code == 201
    shown = made.json()
    secret = shown.pop("secret")
    assert int(secret, 16)
    assert set(shown) == {"id", "org_id", "url", "events", "enabled", "created_at"}
    one = f"{path}/{shown['id']}"
    assert api("get", path).json() == [shown]
    assert api("get", one).json() == shown
    assert api("patch", one, {"enabled": False}).json() == shown | {"enabled": False}
    for wrong in (
        {"url": "https://10.0.0.1", "events": []},
        {"url": "https://a.b"},
        {"url": "https://a.b", "events": ["x"]},
    ):
        assert api("post", path, wrong).status_code == 422
    theirs = {"authorization": f"Bearer {make_key(eve)}"}
    assert api("get", one, headers=theirs).status_code == 404
    assert api("delete", one, headers=theirs).status_code == 404
    assert api("delete", one).json() == {"ok": True}
    assert api("get", one).status_code == 404
