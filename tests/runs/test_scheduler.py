"""Due times come to one run each, whoever looks, whatever was missed, and however clocks change."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from runs.lifecycle import leases
from runs.models import (
    Channel,
    Firing,
    FiringStatus,
    Missed,
    Notice,
    Overlap,
    PauseReason,
    Run,
    RunStatus,
    SkipReason,
    Task,
    Trigger,
)
from runs.tasks import staffing, tasks
from runs.triggers import definitions, scheduler
from teammates.access import Access
from teammates.errors import Unsuitable
from teammates.models import Membership, Teammate
from teammates.people import members
from teammates.roster import channels, editing
from tests.factories import bring_to, make_alice, make_bob

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def make_task(access: Access, **fields: Any) -> Task:
    teammate = editing.create_teammate(access, name="Ops")
    return tasks.create_task(access, teammate, **{"instructions": "Look after it."} | fields)


def make_schedule(access: Access, task: Task | None = None, **fields: Any) -> Trigger:
    """Every hour from now on, unless `fields` say otherwise; active."""
    timing = fields if {"cron", "run_at"} & set(fields) else {"interval_seconds": 3600} | fields
    made = definitions.add_schedule(access, task or make_task(access), **timing)
    scheduler.schedule_next()
    made.refresh_from_db()
    return made


def at(trigger: Trigger, hours: float) -> datetime:
    return trigger.starts_at + timedelta(hours=hours)


def look(now: datetime) -> list[Firing]:
    """What one look at that moment leaves written down, oldest first."""
    before = set(Firing.objects.values_list("pk", flat=True))
    scheduler.run_due(now)
    return list(Firing.objects.exclude(pk__in=before).order_by("id"))


def finish(firing: Firing, status: str = RunStatus.COMPLETED) -> None:
    assert firing.run is not None
    bring_to(firing.run, status)


# --- on time ------------------------------------------------------------------------------------


def test_a_due_time_starts_one_run_of_the_task_as_its_maker() -> None:
    alice = make_alice()
    schedule = make_schedule(alice)
    assert look(at(schedule, 0.99)) == []
    (firing,) = look(at(schedule, 1) + timedelta(seconds=2))
    assert firing.status == FiringStatus.STARTED
    assert firing.due_at == at(schedule, 1)
    run = firing.run
    assert run is not None
    assert run.channel == Channel.SCHEDULE
    assert run.created_by == alice.user
    assert run.task == schedule.task
    assert run.prompt is not None
    assert run.prompt.content == "Look after it."
    assert run.email_notifications
    assert look(at(schedule, 1) + timedelta(seconds=4)) == []


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


@pytest.mark.parametrize(
    ("zone", "cron", "begins", "expected"),
    [
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-10-24T12:00:00+00:00",
            ["2026-10-25T00:30:00+00:00", "2026-10-26T01:30:00+00:00"],
        ),
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-03-28T12:00:00+00:00",
            ["2026-03-29T01:00:00+00:00", "2026-03-30T00:30:00+00:00"],
        ),
        (
            "America/New_York",
            "30 1 * * *",
            "2026-10-31T12:00:00+00:00",
            ["2026-11-01T05:30:00+00:00", "2026-11-02T06:30:00+00:00"],
        ),
        (
            "America/New_York",
            "30 2 * * *",
            "2026-03-07T12:00:00+00:00",
            ["2026-03-08T07:00:00+00:00", "2026-03-09T06:30:00+00:00"],
        ),
        (
            "Australia/Lord_Howe",
            "45 1 * * *",
            "2026-04-04T00:00:00+00:00",
            ["2026-04-04T14:45:00+00:00", "2026-04-05T15:15:00+00:00"],
        ),
        (
            "Australia/Lord_Howe",
            "15 2 * * *",
            "2026-10-03T00:00:00+00:00",
            ["2026-10-03T15:30:00+00:00", "2026-10-04T15:15:00+00:00"],
        ),
    ],
)
def test_each_due_time_starts_once_over_a_clock_change(
    zone: str, cron: str, begins: str, expected: list[str]
) -> None:
    schedule = make_schedule(make_alice(), cron=cron, timezone=zone, overlap=Overlap.ALLOW)
    now = datetime.fromisoformat(begins)
    Trigger.objects.filter(pk=schedule.pk).update(armed_at=now, next_at=None)
    for _ in range(44 * 6):
        now += 10 * MINUTE
        scheduler.run_due(now)
    due = Firing.objects.order_by("due_at").values_list("due_at", flat=True)
    assert [one.isoformat() for one in due if one] == expected
    assert Run.objects.count() == len(expected)


# --- missed while down --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "ran", "missed"),
    [
        ({"missed": Missed.LATEST}, [5], 4),
        ({"missed": Missed.NONE}, [], 5),
        ({"missed": Missed.ALL, "missed_limit": 3}, [3, 4, 5], 2),
        ({"missed": Missed.ALL, "missed_limit": 100}, [1, 2, 3, 4, 5], 0),
    ],
)
def test_what_was_missed_is_made_up_for_as_the_rule_says(
    rules: dict[str, Any], ran: list[int], missed: int
) -> None:
    schedule = make_schedule(make_alice(), overlap=Overlap.ALLOW, **rules)
    firings = look(at(schedule, 5.5))
    started = [one for one in firings if one.run]
    assert [one.due_at for one in started] == [at(schedule, hours) for hours in ran]
    left = [one for one in firings if one.status == FiringStatus.SKIPPED]
    assert sum(one.times for one in left) == missed
    assert {one.reason for one in left} <= {SkipReason.MISSED}
    assert look(at(schedule, 5.6)) == []
    assert len(look(at(schedule, 6) + MINUTE / 2)) == 1


def test_missed_runs_of_a_task_that_runs_one_at_a_time_follow_each_other() -> None:
    schedule = make_schedule(make_alice(), missed=Missed.ALL, missed_limit=3)
    first, second, third = look(at(schedule, 3.5))
    assert [one.status for one in (first, second, third)] == ["started", "waiting", "waiting"]
    for before, after in ((first, second), (second, third)):
        assert scheduler.start_waiting() == 0
        before.refresh_from_db()
        finish(before)
        assert scheduler.start_waiting() == 1
        after.refresh_from_db()
        assert after.status == FiringStatus.STARTED
    assert Run.objects.count() == 3


def test_a_century_of_missed_minutes_is_not_counted_one_by_one() -> None:
    schedule = make_schedule(make_alice(), interval_seconds=60)
    firings = look(schedule.starts_at + timedelta(days=36500))
    assert [one.status for one in firings] == ["skipped", "started"]
    assert firings[0].times == scheduler.MOST_COUNTED - 1
    assert look(schedule.starts_at + timedelta(days=36500)) == []


# --- overlap ------------------------------------------------------------------------------------


def test_skip_leaves_out_what_comes_while_a_run_is_under_way_and_says_so() -> None:
    schedule = make_schedule(make_alice())
    (first,) = look(at(schedule, 1))
    (left,) = look(at(schedule, 2))
    assert (left.status, left.reason) == (FiringStatus.SKIPPED, SkipReason.OVERLAP)
    assert str(first.run_id) in left.detail
    assert look(at(schedule, 3)) == []  # the same again
    left.refresh_from_db()
    assert (left.times, left.last_at) == (2, at(schedule, 3))
    finish(first)
    assert look(at(schedule, 4))[0].run is not None


def test_queue_lets_one_wait() -> None:
    schedule = make_schedule(make_alice(), overlap=Overlap.QUEUE)
    (first,) = look(at(schedule, 1))
    (second,) = look(at(schedule, 2))
    (third,) = look(at(schedule, 3))
    assert [second.status, third.status] == [FiringStatus.WAITING, FiringStatus.SKIPPED]
    finish(first)
    assert look(at(schedule, 3.1)) == []
    second.refresh_from_db()
    assert second.run is not None
    assert second.run.prompt == second.prompt


def test_allow_runs_both() -> None:
    schedule = make_schedule(make_alice(), overlap=Overlap.ALLOW)
    assert [one.status for hours in (1, 2) for one in look(at(schedule, hours))] == ["started"] * 2


def test_cancel_stops_the_old_run_and_starts_the_new_one_when_it_has_stopped() -> None:
    schedule = make_schedule(make_alice(), overlap=Overlap.CANCEL)
    (first,) = look(at(schedule, 1))
    assert first.run is not None
    bring_to(first.run, RunStatus.RUNNING)
    (second,) = look(at(schedule, 2))
    assert second.status == FiringStatus.WAITING
    (third,) = look(at(schedule, 3))
    second.refresh_from_db()
    assert (second.status, second.reason) == (FiringStatus.SKIPPED, SkipReason.REPLACED)
    first.run.refresh_from_db()
    assert first.run.cancel_requested_at is not None
    Run.objects.filter(pk=first.run.pk).update(lease_until=timezone.now() - HOUR)
    leases.sweep_expired()
    assert scheduler.start_waiting() == 1
    third.refresh_from_db()
    assert third.run is not None


def test_a_late_look_does_not_stop_the_run_that_came_of_the_firing() -> None:
    schedule = make_schedule(make_alice(), overlap=Overlap.CANCEL)
    (first,) = look(at(schedule, 1))
    (second,) = look(at(schedule, 2))
    scheduler.start_waiting()  # stops the first, starts the second
    second.refresh_from_db()
    assert second.run is not None
    scheduler._stop_old(second.pk)  # of a process that listed it before
    second.run.refresh_from_db()
    first.refresh_from_db()
    assert first.run is not None
    assert first.run.cancel_requested_at is not None
    assert second.run.cancel_requested_at is None


def test_what_waits_is_given_up_when_the_task_is_paused() -> None:
    alice = make_alice()
    schedule = make_schedule(alice, overlap=Overlap.QUEUE)
    (first,) = look(at(schedule, 1))
    (second,) = look(at(schedule, 2))
    tasks.update_task(alice, schedule.task, enabled=False)
    finish(first)
    scheduler.start_waiting()
    second.refresh_from_db()
    assert (second.status, second.reason) == (FiringStatus.SKIPPED, SkipReason.PAUSED)


# --- failures -----------------------------------------------------------------------------------


def test_it_rests_after_so_many_failures_in_a_row_and_its_maker_is_told() -> None:
    alice = make_alice()
    schedule = make_schedule(alice, failure_limit=2)
    outcomes = [RunStatus.FAILED, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.FAILED]
    for hours, status in enumerate(outcomes, 1):
        (firing,) = look(at(schedule, hours))
        finish(firing, status)
    assert look(at(schedule, 5)) == []
    schedule.refresh_from_db()
    assert (schedule.enabled, schedule.rests_because, schedule.failures) == (False, "failures", 2)
    notice = Notice.objects.get(kind="trouble")
    assert notice.user == alice.user
    assert "2 runs failed in a row" in notice.title
    woken = definitions.update_trigger(alice, schedule.task, schedule, enabled=True)
    assert (woken.failures, woken.rests_because) == (0, "")
    scheduler.run_due()
    schedule.refresh_from_db()
    assert schedule.enabled
    assert schedule.next_at is not None


def test_without_a_limit_it_goes_on() -> None:
    schedule = make_schedule(make_alice(), failure_limit=None)
    for hours in range(1, 8):
        (firing,) = look(at(schedule, hours))
        finish(firing, RunStatus.FAILED)
    assert len(look(at(schedule, 8))) == 1


# --- what rests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["task", "teammate", "trigger"])
def test_what_is_paused_starts_nothing_and_is_not_made_up_for(what: str) -> None:
    alice = make_alice()
    schedule = make_schedule(alice)

    def switch(*, on: bool) -> None:
        if what == "task":
            tasks.update_task(alice, schedule.task, enabled=on)
        elif what == "teammate":
            staffing.set_enabled(alice, schedule.task.teammate, enabled=on)
        else:
            schedule.refresh_from_db()
            definitions.update_trigger(alice, schedule.task, schedule, enabled=on)

    switch(on=False)
    schedule.task.teammate.refresh_from_db()
    assert look(at(schedule, 3.5)) == []
    switch(on=True)
    scheduler.schedule_next()
    schedule.refresh_from_db()
    assert schedule.next_at == at(schedule, 1)  # by the real clock no time has passed
    Trigger.objects.filter(pk=schedule.pk).update(armed_at=at(schedule, 3.6), next_at=None)
    assert look(at(schedule, 3.7)) == []
    assert len(look(at(schedule, 4))) == 1


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


@pytest.mark.parametrize("way", ["webhook", "waking the webhook", "inbox", "teammate"])
def test_switching_on_what_starts_it_takes_a_teammate_over(way: str) -> None:
    alice = make_alice()
    bob = make_bob(alice)
    mate = make_schedule(bob).task.teammate
    Teammate.objects.filter(pk=mate.pk).update(created_by=bob.user)
    channels.make_webhook(bob, mate)
    channels.pause_webhook(bob, mate, paused=True)
    members.remove_member(alice, Membership.objects.get(user=bob.user))
    match way:
        case "webhook":
            channels.make_webhook(alice, mate)
        case "waking the webhook":
            channels.pause_webhook(alice, mate, paused=False)
        case "inbox":
            channels.set_inbox(alice, mate, enabled=True)
        case "teammate":
            staffing.set_enabled(alice, mate, enabled=True)
    mate.refresh_from_db()
    assert mate.created_by == alice.user


def test_a_task_that_no_person_made_runs_for_the_organization() -> None:
    alice = make_alice()
    schedule = make_schedule(alice)
    Task.objects.filter(pk=schedule.task_id).update(created_by=None)
    (firing,) = look(at(schedule, 1))
    assert firing.run is not None
    assert firing.run.created_by is None


def test_what_cannot_start_is_left_out_with_the_reason_and_nothing_half_made() -> None:
    alice = make_alice()
    schedule = make_schedule(alice)
    Task.objects.filter(pk=schedule.task_id).update(model="gone")
    (left,) = look(at(schedule, 1))
    assert left.reason == SkipReason.REFUSED
    assert "gone" in left.detail
    assert not Run.objects.exists()
    assert not schedule.task.teammate.threads.exists()
    schedule.refresh_from_db()
    assert schedule.next_at == at(schedule, 2)


def test_changed_times_count_from_the_change() -> None:
    alice = make_alice()
    schedule = make_schedule(alice, interval_seconds=60)
    definitions.update_trigger(alice, schedule.task, schedule, cron="0 0 1 1 *")
    scheduler.run_due()
    schedule.refresh_from_db()
    assert schedule.next_at is not None
    assert (schedule.next_at.month, schedule.next_at.day) == (1, 1)


# --- many at once -------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_many_schedulers_start_each_due_time_once() -> None:
    alice = make_alice()
    rules = {"overlap": Overlap.ALLOW, "missed": Missed.ALL}
    schedules = [make_schedule(alice, **rules) for _ in range(12)]
    last = max(at(one, 1) for one in schedules)
    began = threading.Barrier(4)

    def race() -> None:
        began.wait()
        for step in range(3):
            scheduler.run_due(last + timedelta(hours=step, seconds=1))
        connection.close()

    racing = [threading.Thread(target=race) for _ in range(4)]
    for one in racing:
        one.start()
    for one in racing:
        one.join()
    firings = Firing.objects.filter(run__isnull=False)
    assert firings.count() == Run.objects.count()
    due = list(firings.values_list("trigger_id", "due_at"))
    assert len(due) == len(set(due))
    for schedule in schedules:
        mine = {moment for pk, moment in due if pk == schedule.pk}
        assert mine == {at(schedule, hours) for hours in (1, 2, 3)}


class Killed(BaseException):
    """Nothing of ours catches it."""


@pytest.mark.django_db(transaction=True)
def test_killed_before_any_of_its_statements_it_has_done_nothing_and_is_done_once_later() -> None:
    schedule = make_schedule(make_alice())

    def kill_at(number: int) -> Any:
        left = iter(range(number))

        def wrapper(execute: Any, *args: Any) -> Any:
            if next(left, None) is None:
                raise Killed
            return execute(*args)

        return wrapper

    for number in range(200):
        try:
            with connection.execute_wrapper(kill_at(number)):
                scheduler.fire_due(at(schedule, 1))
            break
        except Killed:
            assert not Firing.objects.exists()
            assert not Run.objects.exists()
            assert not schedule.task.teammate.threads.exists()
    assert number > 10
    assert Firing.objects.get().run == Run.objects.get()
    assert scheduler.fire_due(at(schedule, 1)) == 0


@pytest.mark.parametrize(("clock_is", "is_due"), [(+1, False), (-1, True)])
def test_the_database_clock_decides_whatever_the_machines_clock_says(
    monkeypatch: pytest.MonkeyPatch, clock_is: int, is_due: bool
) -> None:
    schedule = make_schedule(make_alice())
    now = datetime.now(UTC)
    due = now - timedelta(seconds=1) if is_due else now + timedelta(minutes=30)
    begins = due - timedelta(hours=1)
    Trigger.objects.filter(pk=schedule.pk).update(next_at=due, starts_at=begins, armed_at=begins)
    monkeypatch.setattr(timezone, "now", lambda: datetime.now(UTC) + clock_is * HOUR)
    scheduler.run_due()
    assert Firing.objects.filter(run__isnull=False).exists() == is_due


def test_what_waits_for_a_busy_task_is_not_in_the_way_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alice = make_alice()
    busy, free = make_schedule(alice, overlap="queue"), make_schedule(alice, overlap="queue")
    first, later = look(at(busy, 1.001))[:2]
    assert {first.task_id, later.task_id} == {busy.task_id, free.task_id}
    look(at(busy, 2.001))
    assert Firing.objects.filter(status=FiringStatus.WAITING).count() == 2
    done = Firing.objects.get(task=free.task, status=FiringStatus.STARTED).run
    assert done is not None
    bring_to(done, RunStatus.COMPLETED)
    monkeypatch.setattr(scheduler, "MOST_AT_ONCE", 1)
    assert scheduler.start_waiting() == 1
    assert Firing.objects.get(status=FiringStatus.WAITING).task == busy.task


def test_a_look_that_was_full_is_followed_by_another_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alice = make_alice()
    schedules = [make_schedule(alice) for _ in range(5)]
    monkeypatch.setattr(scheduler, "MOST_AT_ONCE", 2)
    looks = 1
    while scheduler.run_due(at(schedules[-1], 1)):
        looks += 1
    assert looks >= 3
    assert Firing.objects.filter(run__isnull=False).count() == 5
