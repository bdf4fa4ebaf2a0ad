"""What starts a task by itself: its schedules, its webhook, its inbox; made, changed, listed."""

from datetime import timedelta

import pytest
from django.utils import timezone

from runs.models import (
    Overlap,
    PauseReason,
    Run,
    RunStatus,
    SkipReason,
    Task,
    Trigger,
)
from runs.tasks import tasks
from runs.triggers import definitions, inbound_webhook, scheduler
from teammates.access import Access
from teammates.errors import Unsuitable
from teammates.models import Membership
from teammates.people import members
from tests.factories import bring_to, make_alice, make_bob
from tests.runs.triggers.calls import call, hook_of
from tests.runs.triggers.schedules import HOUR, at, look, make_schedule

pytestmark = pytest.mark.django_db


def test_a_single_run_rests_when_its_time_is_over() -> None:
    alice = make_alice()
    when = timezone.now() + HOUR
    schedule = make_schedule(alice, run_at=when.isoformat())
    (firing,) = look(when + timedelta(seconds=1))
    assert firing.run is not None
    schedule.refresh_from_db()
    assert (schedule.enabled, schedule.rests_because) == (False, PauseReason.OVER)
    Trigger.objects.filter(pk=schedule.pk).update(run_at=timezone.now() - HOUR)
    schedule.refresh_from_db()
    with pytest.raises(Unsuitable, match="another one"):
        definitions.update_trigger(alice, schedule.task, schedule, enabled=True)
    later = (timezone.now() + 2 * HOUR).isoformat()
    woken = definitions.update_trigger(alice, schedule.task, schedule, run_at=later)
    assert (woken.enabled, woken.rests_because) == (True, "")


def test_what_somebody_left_behind_starts_nothing_until_an_admin_takes_it_over() -> None:
    alice = make_alice()
    bob = make_bob(alice)
    schedule = make_schedule(bob)
    members.remove_member(alice, Membership.objects.get(user=bob.user))
    (left,) = look(at(schedule, 1))
    assert left.reason == SkipReason.REFUSED
    assert "no longer a member" in left.detail
    definitions.update_trigger(alice, schedule.task, schedule, enabled=True)
    (firing,) = look(at(schedule, 2))
    assert firing.run is not None
    assert firing.run.created_by == alice.user


@pytest.mark.parametrize("way", ["webhook", "waking the webhook", "inbox", "task"])
def test_switching_on_anything_that_starts_it_takes_a_task_over(way: str) -> None:
    alice = make_alice()
    bob = make_bob(alice)
    task = make_schedule(bob).task
    hook, _ = definitions.make_webhook(bob, task)
    definitions.pause_webhook(bob, task, paused=True)
    Trigger.objects.filter(pk=hook.pk).update(failures=3, rests_because=PauseReason.FAILURES)
    members.remove_member(alice, Membership.objects.get(user=bob.user))
    match way:
        case "webhook":
            definitions.make_webhook(alice, task)
        case "waking the webhook":
            definitions.pause_webhook(alice, task, paused=False)
        case "inbox":
            definitions.open_inbox(alice, task, allowed_senders=None)
        case "task":
            tasks.update_task(alice, task, enabled=True)
    task.refresh_from_db()
    assert task.created_by == alice.user
    hook.refresh_from_db()
    assert (hook.failures, hook.rests_because) == (
        ("webhook" in way and (0, "")) or (3, "failures")
    )


def test_changed_times_count_from_the_change() -> None:
    alice = make_alice()
    schedule = make_schedule(alice, interval_seconds=60)
    definitions.update_trigger(alice, schedule.task, schedule, cron="0 0 1 1 *")
    scheduler.run_due()
    schedule.refresh_from_db()
    assert schedule.next_at is not None
    assert (schedule.next_at.month, schedule.next_at.day) == (1, 1)


def test_paused_rotated_and_removed_are_three_things(alice: Access, task: Task) -> None:
    path = hook_of(alice, task)
    definitions.pause_webhook(alice, task, paused=True)
    paused = call(path)
    assert paused.status_code == 409
    assert paused.json()["error"]["details"]["error_code"] == "webhook_paused"
    definitions.pause_webhook(alice, task, paused=False)
    assert call(path).status_code == 202
    rotated = hook_of(alice, task)
    assert call(path).status_code == 404
    assert call(rotated).status_code == 202
    definitions.remove_webhook(alice, task)
    assert call(rotated).status_code == 404
    # The log outlives the webhook.
    assert list(task.firings.order_by("id").values_list("reason", flat=True)) == [
        "paused",
        "",
        "token",
        "",
    ]


def test_a_call_may_wait_for_the_run_before_it(alice: Access, task: Task) -> None:
    path = hook_of(alice, task)
    trigger = definitions.webhook_of(task)
    assert trigger is not None
    definitions.update_trigger(alice, task, trigger, overlap=Overlap.QUEUE)
    first = call(path, {"n": 1}).json()
    second = call(path, {"n": 2}).json()
    third = call(path, {"n": 3})
    assert (second["run_id"], second["status"]) == (None, "waiting")
    assert (third.status_code, third.json()["reason"]) == (202, "overlap")
    bring_to(Run.objects.get(pk=first["run_id"]), RunStatus.COMPLETED)
    scheduler.run_due()
    run = Run.objects.latest("id")
    assert run.prompt is not None
    assert '"n": 2' in run.prompt.content


def test_a_sample_starts_a_run_and_says_that_it_is_one(alice: Access, task: Task) -> None:
    hook_of(alice, task)
    trigger = definitions.webhook_of(task)
    assert trigger is not None
    received = inbound_webhook.send_sample(trigger, {"order": 7})
    assert received.firing.run is not None
    assert received.firing.is_sample
