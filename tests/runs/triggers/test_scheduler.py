"""What is due is started, whoever looks: any number of processes may."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from runs.models import (
    Channel,
    Firing,
    FiringStatus,
    Missed,
    Notice,
    Overlap,
    Run,
    RunStatus,
    SkipReason,
    Trigger,
)
from runs.tasks import staffing, tasks
from runs.triggers import definitions, scheduler
from tests.factories import make_alice
from tests.runs.triggers.schedules import HOUR, MINUTE, Killed, at, finish, look, make_schedule

pytestmark = pytest.mark.django_db


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
