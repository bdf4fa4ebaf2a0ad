"""Calls of other systems that start a task or a teammate (contract v2 5.2). Each is in the
log of firings, also one that started nothing.
"""

import threading
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from runs.models import Firing, Run, SkipReason, Task
from runs.tasks import staffing, tasks
from runs.triggers import inbound_webhook
from teammates.access import Access
from teammates.models import Organization, Teammate
from teammates.people import end_users
from teammates.roster import editing
from tests.factories import make_alice
from tests.runs.triggers.calls import call, hook_of

pytestmark = pytest.mark.django_db


def test_a_task_needs_no_body_and_takes_forms_and_text(alice: Access, task: Task) -> None:
    path = hook_of(alice, task)
    assert call(path).status_code == 202
    form = "application/x-www-form-urlencoded"
    assert call(path, "a=1&b=2%203", content_type=form).status_code == 202
    assert call(path, "Plain words", content_type="text/plain").status_code == 202
    first, second, third = (run.prompt.content for run in Run.objects.order_by("id") if run.prompt)
    assert first == "Sort the order."
    assert '"b": "2 3"' in second
    assert third.endswith("```\nPlain words\n```")


def test_a_teammate_needs_a_message(alice: Access, teammate: Teammate) -> None:
    path = hook_of(alice, teammate)
    for wrong in (None, {}, {"message": " "}, {"message": 3}, ["message"]):
        response = call(path, wrong)
        assert response.status_code == 422
        assert "message" in response.json()["error"]["message"]
    assert call(path, {"message": "Hello", "from": "Kim"}).status_code == 202
    run = Run.objects.get()
    assert run.prompt is not None
    assert run.prompt.content.startswith(inbound_webhook.CALLED)
    assert "\nHello\n" in run.prompt.content
    assert '"from": "Kim"' in run.prompt.content
    assert Firing.objects.get(reason=SkipReason.BODY).times >= 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("whose", ["task", "teammate"])
def test_eight_calls_with_one_event_at_once_start_one_run(whose: str) -> None:
    alice = make_alice()
    mate = editing.create_teammate(alice, name="Ops")
    row = tasks.create_task(alice, mate, instructions="x") if whose == "task" else mate
    path = hook_of(alice, row)
    answers: list[Any] = []

    def race() -> None:
        answers.append(call(path, {"message": "x"}, **{"Webhook-Id": "evt_1"}).json())
        connection.close()

    racing = [threading.Thread(target=race) for _ in range(8)]
    for one in racing:
        one.start()
    for one in racing:
        one.join()
    assert Run.objects.count() == 1
    assert {answer["run_id"] for answer in answers} == {Run.objects.get().pk}
    assert sum(answer["duplicate"] for answer in answers) == 7


def test_what_is_paused_above_it_pauses_it(alice: Access, task: Task) -> None:
    path = hook_of(alice, task)
    staffing.set_enabled(alice, task.teammate, enabled=False)
    assert call(path).status_code == 409
    mate = editing.create_teammate(alice, name="Two")
    path = hook_of(alice, mate)
    staffing.set_enabled(alice, mate, enabled=False)
    assert call(path, {"message": "x"}).status_code == 409
    assert not Run.objects.exists()


def test_unknown_webhooks_and_other_methods(alice: Access, task: Task) -> None:
    path = hook_of(alice, task)
    for wrong in (
        "/api/v1/webhooks/tasks/999999/whk_0",
        "/api/v1/webhooks/mates/999999/whk_0",
        path[:-1] + "x",
        path.replace("tasks", "mates"),
        "/api/v1/webhooks/tasks/x/whk_0",
    ):
        response = call(wrong)
        assert response.status_code == 404, wrong
        assert response.json()["error"]["type"] == "not_found"
    assert Client().get(path).status_code == 405
    assert not Run.objects.exists()


def test_bytes_and_broken_json_are_refused(alice: Access, task: Task) -> None:
    path = hook_of(alice, task)
    for body, kind in (
        (b"\xff\xfe", "text/plain"),
        (b"{", "application/json"),
        (b"[" * 200_000, "application/json"),
    ):
        response = call(path, body, content_type=kind)
        assert response.status_code == 422, body
        assert "body" in response.json()["error"]["message"].lower()


def test_nul_bytes_do_no_harm(alice: Access, task: Task) -> None:
    path = hook_of(alice, task)
    assert call(path, b'"a\\u0000b\\ud800"').status_code == 202
    assert call(path, b"a\x00b", content_type="text/plain").status_code == 202
    assert call(path, {"a": 1}, **{"Webhook-Id": "x" * 2000}).status_code == 202
    assert call(path, {"a": 1}, **{"Webhook-Id": "x" * 2000}).json()["duplicate"]


def test_a_run_that_cannot_start_is_said(alice: Access, task: Task) -> None:
    path = hook_of(alice, task)
    Task.objects.filter(pk=task.pk).update(model="gone")
    response = call(path)
    assert response.status_code == 409
    assert "gone" in response.json()["error"]["message"]


def test_a_limit_that_holds_up_a_run_is_said_as_one(alice: Access, task: Task) -> None:
    path = hook_of(alice, task)
    limited = end_users.create_end_user(alice, "kim")
    Task.objects.filter(pk=task.pk).update(end_user=limited)
    Organization.objects.update(per_end_user_rate_per_minute=1)
    assert call(path).status_code == 202
    response = call(path)
    assert response.status_code == 429
    assert "Retry-After" in response.headers
    Organization.objects.update(per_end_user_rate_per_minute=None, per_end_user_run_limit=1)
    assert call(path).status_code == 402
    assert Run.objects.count() == 1


def test_what_goes_wrong_inside_is_the_callers_to_try_again(
    alice: Access, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hook_of(alice, task)

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr("runs.creation.enqueue.enqueue", broken)
        sent = {"data": b"", "content_type": "application/json", "headers": {"Webhook-Id": "7"}}
        assert Client(raise_request_exception=False).post(path, **sent).status_code == 500
    assert Firing.objects.get().reason == SkipReason.REFUSED
    assert call(path, **{"Webhook-Id": "7"}).status_code == 202


def test_queries_of_senders_are_ignored(alice: Access, task: Task) -> None:
    assert call(hook_of(alice, task) + "?utm=1").status_code == 202
