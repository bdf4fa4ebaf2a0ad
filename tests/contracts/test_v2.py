"""v2 without the SDK: envelopes, options, strict mode, idempotency, frames."""

import json
from typing import Any

import pytest
from django.test import Client

from runs.creation import idempotency, requests
from runs.creation.options import Options
from runs.lifecycle import endings, leases, transitions
from runs.lifecycle.endings import Outcome
from runs.models import Run, RunStatus
from teammates.access import Access
from teammates.models import EndUser, Teammate
from tests.conftest import Server
from tests.factories import bring_to, claim, make_bob, make_key, make_run, make_thread, strict

Call = Any


@pytest.fixture
def api(alice: Access) -> Call:
    return caller(alice)


def caller(access: Access) -> Call:
    client, key = Client(), make_key(access)

    def call(method: str, path: str, body: Any = None, **headers: str) -> Any:
        options = (
            {}
            if method == "get"
            else {
                "data": body if isinstance(body, str) else json.dumps(body or {}),
                "content_type": "application/json",
            }
        )
        return getattr(client, method)(
            f"/api/v2{path}", headers={"authorization": f"Bearer {key}"} | headers, **options
        )

    return call


def create(api: Call, message: str = "hi", **body: Any) -> Any:
    return api("post", "/runs", {"message": message, "stream": False, **body})


def code(response: Any) -> str:
    return str(response.json()["error"]["error_code"])


def test_both_slash_forms_and_both_names_are_one(api: Call) -> None:
    for path in ("/runs", "/runs/", "/agents", "/agents/", "/teammates", "/keys/"):
        assert api("get", path).status_code == 200, path
    assert api("post", "/runs/", {"message": "x", "stream": False}).status_code == 201


def test_the_envelope_has_the_word_twice_and_the_status(api: Call) -> None:
    error = api("get", "/runs/999999").json()["error"]
    assert error["type"] == "not_found"
    assert error["code"] == 404
    assert error["error_code"] == error["details"]["error_code"] == "not_found"
    assert len(error["request_id"]) == 32


@pytest.mark.parametrize(
    ("body", "status", "names"),
    [
        ({"message": ""}, 422, "message"),
        ({}, 422, "message"),
        ({"message": "x", "foo": 1}, 422, "foo"),
        ({"message": "x", "permission_mode": "yolo"}, 422, "permission_mode"),
        (
            {"message": "x", "permission_mode": "plan", "human_in_the_loop": False},
            422,
            "human_in_the_loop",
        ),
        ({"message": "x", "effort": "huge"}, 422, "effort"),
        ({"message": "x", "model": "gpt-5"}, 422, "gpt-5"),
        ({"message": "x", "tools": ["no_such"]}, 422, "no_such"),
        ({"message": "x", "max_turns": 0}, 422, "max_turns"),
        ({"message": "x", "max_turns": "many"}, 422, "max_turns"),
        ({"message": "x", "output_schema": {"type": "array"}}, 422, "output_schema"),
        ({"message": "x", "output_schema": {"type": "object", "$defs": {}}}, 422, "$defs"),
        ({"message": "x", "user_id": ""}, 422, "user_id"),
        ({"message": "x", "skill": "s" * 101}, 422, "skill"),
        ({"message": "x", "teammate_id": 999999}, 404, "teammate"),
        ("{broken", 422, "JSON"),
    ],
)
def test_bad_options_are_named_and_leave_nothing(
    api: Call, body: Any, status: int, names: str
) -> None:
    answer = api("post", "/runs", body if isinstance(body, str) else {"stream": False} | body)
    assert answer.status_code == status, answer.content
    assert names in answer.json()["error"]["message"]
    assert not Run.objects.exists()
    assert not EndUser.objects.exists()


@pytest.mark.parametrize(
    ("mode", "asks", "expected"),
    [
        (None, None, False),
        ("autonomous", None, False),
        ("approval", None, True),
        ("plan", None, True),
        ("autonomous", True, True),
        ("approval", True, True),
    ],
)
def test_whether_people_may_be_asked_follows_the_mode(
    api: Call, mode: str | None, asks: bool | None, expected: bool
) -> None:
    """Decision D1."""
    made = create(api, permission_mode=mode, human_in_the_loop=asks).json()
    assert made["human_in_the_loop"] is expected
    assert made["permission_mode"] == (mode or "autonomous")


def test_a_teammates_mode_is_inherited_and_can_be_overridden(api: Call) -> None:
    careful = Teammate.objects.get(key="work").pk
    inherited = create(api, teammate_id=careful).json()
    assert (inherited["permission_mode"], inherited["human_in_the_loop"]) == ("approval", True)
    freed = create(api, teammate_id=careful, permission_mode="autonomous").json()
    assert (freed["permission_mode"], freed["human_in_the_loop"]) == ("autonomous", False)
    refused = create(api, teammate_id=careful, human_in_the_loop=False)
    assert refused.status_code == 422


def test_every_status_has_its_word(api: Call, alice: Access) -> None:
    ends = (RunStatus.QUEUED, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)
    runs = {status: make_run(alice) for status in ends}
    for status, run in runs.items():
        bring_to(run, status)
    words = {run.pk: api("get", f"/runs/{run.pk}").json()["status"] for run in runs.values()}
    assert list(words.values()) == ["running", "completed", "failed", "cancelled"]
    for status in ("running", "completed", "failed", "cancelled"):
        (found,) = api("get", f"/runs?status={status}").json()["data"]
        assert found["status"] == status
    for status in ("paused", "awaiting_approval", "closed", "archived"):
        assert api("get", f"/runs?status={status}").json()["data"] == []
    assert api("get", "/runs?status=done").status_code == 422


def test_cancelling_a_finished_run_is_a_conflict_here(api: Call, alice: Access) -> None:
    run = make_run(alice, status=RunStatus.COMPLETED)
    answer = api("post", f"/runs/{run.pk}/cancel")
    assert (answer.status_code, code(answer)) == (409, "run_not_active")
    assert api("get", f"/runs/{run.pk}/stream").status_code == 409


def test_unknown_parameters_and_ids_in_paths(api: Call) -> None:
    answer = api("get", "/runs?foo=1")
    assert (answer.status_code, code(answer)) == (422, "unknown_query_parameter")
    assert api("get", "/runs/abc").status_code == 404
    assert api("get", "/runs?limit=101").status_code == 422
    assert api("get", "/runs?user_id=never_seen").json()["data"] == []
    assert api("get", "/agents?user_id=never_seen").json()["data"] == []


def test_strict_mode_refuses_before_anything_is_made(alice: Access) -> None:
    api = caller(strict(alice))
    for answer in (
        create(api),
        create(api, name="New one"),
        api("get", "/runs"),
        api("get", "/agents"),
        api("post", "/agents", {"name": "x"}),
    ):
        assert answer.status_code == 422
        assert code(answer) == "END_USER_ID_REQUIRED"
        assert "require_end_user_id=False" in answer.json()["error"]["message"]
    assert not Run.objects.exists()
    assert not Teammate.objects.filter(name__in=["New one", "x"]).exists()
    made = create(api, user_id="cust")
    assert made.status_code == 201
    assert create(api, name="Scoped", user_id="cust").status_code == 201


def test_a_quick_start_finds_or_makes_by_name_in_the_scope(api: Call) -> None:
    one = create(api, name="Quick", instructions="Be quick.").json()
    two = create(api, name="Quick").json()
    scoped = create(api, name="Quick", user_id="cust").json()
    assert one["teammate_id"] == two["teammate_id"] != scoped["teammate_id"]
    again = create(api, instructions="Only this.").json()
    assert create(api, instructions="Only this.").json()["teammate_id"] == again["teammate_id"]


def test_an_idempotency_key_names_one_run_whatever_is_retried(api: Call, alice: Access) -> None:
    body = {"message": "hi", "stream": False}
    key = {"Idempotency-Key": "k"}
    first = api("post", "/runs", body, **key)
    assert "Idempotent-Replay" not in first
    # A timed-out stream that is retried as a poll is the same request.
    again = api("post", "/runs", body | {"stream": True}, **key)
    assert (again.status_code, again["Idempotent-Replay"]) == (200, "true")
    assert again.content.startswith(b'{"id": ')
    assert again.json()["id"] == first.json()["id"]
    other = api("post", "/runs", body | {"message": "else"}, **key)
    assert (other.status_code, code(other)) == (409, "idempotency_key_reuse")
    failing = {"Idempotency-Key": "bad"}
    assert api("post", "/runs", body | {"model": "gpt-5"}, **failing).status_code == 422
    assert api("post", "/runs", body, **failing).status_code == 201
    colleague = caller(make_bob(alice))
    assert colleague("post", "/runs", body, **key).status_code == 409


@pytest.mark.django_db(transaction=True)
def test_creates_with_one_key_at_once_make_one_run(alice: Access) -> None:
    from tests.runs.lifecycle.helpers import in_threads

    def make(number: int) -> int:
        run, _ = idempotency.create_idempotently(
            alice,
            "same",
            ["x"],
            lambda: requests.create_run(alice, message="hi", options=Options()),
        )
        return run.pk

    assert len(set(in_threads(6, make))) == 1
    assert Run.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_reply_to_a_run_that_ends_at_once_never_deadlocks(alice: Access) -> None:
    from tests.runs.lifecycle.helpers import in_threads

    for _ in range(12):
        run = make_run(alice, thread=make_thread(alice))
        lease = claim(run)

        def act(number: int, run: Run = run, lease: transitions.Lease = lease) -> Run:
            if number:
                return requests.reply_to_run(alice, run, message="and?", options=Options())
            return endings.finish_run(lease, [], Outcome(RunStatus.COMPLETED, text="ok"))

        ended, reply = in_threads(2, act)
        assert ended.status == RunStatus.COMPLETED
        assert reply.position > run.position


def test_sign_up_defaults_and_the_token_route(db: None) -> None:
    client = Client()
    body = {"email": "new@example.com", "password": "correct horse battery", "first_name": "New"}
    made = client.post("/api/v2/signup", body, content_type="application/json")
    assert made.status_code == 201
    assert made.json()["api_key"].startswith("m8_")
    assert "http" not in made.json()["message"]
    assert "token" not in made.json()
    headers = {"authorization": f"Bearer {made.json()['api_key']}"}
    strict_list = client.get("/api/v2/runs", headers=headers)
    assert strict_list.status_code == 422  # product=api: strict
    again = client.post("/api/v2/signup", body, content_type="application/json")
    assert again.status_code == 409
    wrong = {"email": "nobody@example.com", "password": "x"}
    refused = client.post("/api/v2/token", wrong, content_type="application/json")
    assert refused.status_code == 401
    fresh = client.post(
        "/api/v2/token",
        {k: body[k] for k in ("email", "password")},
        content_type="application/json",
    ).json()
    headers = {"authorization": f"Bearer {fresh['api_key']}"}
    assert client.get("/api/v2/keys", headers=headers).json()["prefix"] == fresh["api_key"][:12]
    old = client.get("/api/v2/keys", headers={"authorization": f"Bearer {made.json()['api_key']}"})
    assert old.status_code == 401


def test_only_admins_change_the_default_key_and_foreign_teammates(api: Call, alice: Access) -> None:
    bob = make_bob(alice)
    as_bob = caller(bob)
    assert as_bob("post", "/keys/rotate").status_code == 403
    assert as_bob("delete", "/keys").status_code == 403
    login = {"email": "bob@example.com", "password": "correct horse battery"}
    taken = Client().post("/api/v2/token", login, content_type="application/json")
    assert taken.status_code == 403
    teammate = Teammate.objects.get(organization=alice.organization, key="normal").pk
    assert as_bob("patch", f"/agents/{teammate}", {"instructions": "x"}).status_code == 403
    mine = as_bob("post", "/agents", {"name": "Bob's"}).json()["id"]
    assert as_bob("patch", f"/agents/{mine}", {"instructions": "x"}).status_code == 200


def test_a_key_dies_with_its_creator(alice: Access) -> None:
    bob = make_bob(alice)
    as_bob = caller(bob)
    assert as_bob("get", "/runs").status_code == 200
    assert bob.user is not None
    bob.user.memberships.all().delete()
    assert as_bob("get", "/runs").status_code == 401


def test_an_archived_teammates_waiting_runs_are_closed(api: Call, alice: Access) -> None:
    made = api("post", "/agents", {"name": "Short-lived"}).json()["id"]
    run = create(api, teammate_id=made).json()["id"]
    api("delete", f"/agents/{made}")
    assert leases.claim_runs(worker="w", limit=10) == []
    assert leases.close_orphans() == 1
    shown = api("get", f"/runs/{run}").json()
    assert (shown["status"], shown["stop_reason"]) == ("closed", "closed:teammate_archived")
    assert api("post", f"/runs/{run}/reply", {"message": "x", "stream": False}).status_code == 404


def test_text_that_cannot_be_stored_is_cleaned(api: Call) -> None:
    made = create(api, "a\x00b", metadata={"k\x00": "\ud800"}, name="N\x00ame")
    assert made.status_code == 201, made.content
    assert made.json()["metadata"] == {"k\ufffd": "\ufffd"}


def test_a_stream_over_the_wire_is_chunked_and_named(server: Server) -> None:
    body = {"message": "slow 2 1ms"}
    with server.client() as client, client.stream("POST", "/api/v2/runs/", json=body) as stream:
        assert stream.status_code == 200
        assert stream.headers["transfer-encoding"] == "chunked"
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.headers["x-run-id"].isdecimal()
        text = stream.read().decode("ascii")
    assert text.startswith('data: {"type":"metadata","run_id":')
    assert text.endswith("data: [DONE]\n\n")
