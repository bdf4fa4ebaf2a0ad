"""What happened to triggers, looked up."""

from typing import Any

import pytest

from runs.models import Firing, Run, SkipReason, Task
from runs.triggers import definitions, firing
from teammates.access import Access
from teammates.models import Teammate
from tests.runs.triggers.calls import call, hook_of

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("header", ["X-M8tes-Event-Id", "Webhook-Id", "X-GitHub-Delivery"])
def test_the_same_event_starts_one_run(alice: Access, task: Task, header: str) -> None:
    path = hook_of(alice, task)
    first = call(path, {"a": 1}, **{header: "evt_1"}).json()
    again = call(path, {"a": 1}, **{header: "evt_1"})
    assert again.status_code == 202
    assert again.json() == first | {"duplicate": True}
    assert call(path, {"a": 1}, **{header: "evt_2"}).json()["run_id"] != first["run_id"]
    assert Run.objects.count() == 2
    assert Firing.objects.filter(reason=SkipReason.DUPLICATE).count() == 1


def test_a_refused_event_may_be_sent_again(alice: Access, task: Task) -> None:
    path = hook_of(alice, task)
    definitions.pause_webhook(alice, task, paused=True)
    assert call(path, {"a": 1}, **{"Webhook-Id": "evt_1"}).status_code == 409
    definitions.pause_webhook(alice, task, paused=False)
    assert call(path, {"a": 1}, **{"Webhook-Id": "evt_1"}).json()["duplicate"] is False


def test_too_much_is_refused_and_written_down_once(
    alice: Access, task: Task, settings: Any
) -> None:
    settings.CALLS_PER_MINUTE = 3
    path = hook_of(alice, task)
    assert call(path, b"x" * (256 * 1024 + 1), content_type="text/plain").status_code == 413
    statuses = [call(path, {"n": n}).status_code for n in range(6)]
    assert statuses == [202] * 3 + [429] * 3
    assert call(path)["Retry-After"] == "30"
    assert Firing.objects.get(reason=SkipReason.RATE).times == 4
    assert Firing.objects.get(reason=SkipReason.SIZE).times == 1
    assert Run.objects.count() == 3


def test_in_a_flood_each_caller_learns_what_is_wrong_with_their_own_call(
    alice: Access, teammate: Teammate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firing, "REFUSALS_PER_MINUTE", 1)
    path = hook_of(alice, teammate)
    assert "not JSON" in call(path, b"{").json()["error"]["message"]
    assert "needs one" in call(path, {"no": "message"}).json()["error"]["message"]
    assert Firing.objects.get().times == 2
