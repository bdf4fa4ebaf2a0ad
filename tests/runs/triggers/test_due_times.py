"""When schedules are due: cron with a timezone, an interval, or one instant."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import takewhile

import pytest

from runs.models import Trigger, TriggerKind
from runs.triggers import due_times
from teammates.errors import Invalid
from tests.runs.triggers.clocks import LORD_HOWE, times


def test_weekdays_are_the_standard_ones() -> None:
    for sunday in ("0", "7"):
        (at,) = times(1, "2026-11-16T00:00:00+00:00", cron=f"0 9 * * {sunday}")
        assert at == "2026-11-22T09:00:00+00:00"


@pytest.mark.parametrize(
    ("zone", "after", "expected"),
    [
        # 02:30 does not exist on 29 March 2026: it is made up for at once, and once.
        (
            "Europe/Berlin",
            "2026-03-28T12:00:00+00:00",
            ["2026-03-29T01:00:00+00:00", "2026-03-30T00:30:00+00:00"],
        ),
        # 02:30 happens twice on 25 October 2026: it is due once.
        (
            "Europe/Berlin",
            "2026-10-24T12:00:00+00:00",
            ["2026-10-25T00:30:00+00:00", "2026-10-26T01:30:00+00:00"],
        ),
        (
            "America/New_York",
            "2026-03-07T12:00:00+00:00",
            ["2026-03-08T07:00:00+00:00", "2026-03-09T06:30:00+00:00"],
        ),
    ],
)
def test_a_daily_time_is_due_once_over_a_clock_change(
    zone: str, after: str, expected: list[str]
) -> None:
    assert times(2, after, cron="30 2 * * *", timezone=zone) == expected


def test_an_interval_is_counted_from_its_start() -> None:
    start = datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
    found = times(2, "2026-01-01T03:00:00+00:00", interval_seconds=3600, starts_at=start)
    assert found == ["2026-01-01T03:00:05+00:00", "2026-01-01T04:00:05+00:00"]


def test_a_single_run_is_due_once() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert times(2, "2025-12-31T00:00:00+00:00", run_at=at) == [at.isoformat()]
    assert times(2, "2026-01-01T00:00:00+00:00", run_at=at) == []


def test_short_names_are_known() -> None:
    assert due_times.checked_timing(cron="@daily")["cron"] == "@daily"
    assert times(1, "2026-01-01T12:00:00+00:00", cron="@daily") == ["2026-01-02T00:00:00+00:00"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"cron": "* * * *"},
        {"cron": "* * * * * *"},
        {"cron": "61 * * * *"},
        {"cron": ""},
        {"cron": "0 0 31 2 *"},
        {"interval_seconds": 59},
        {"interval_seconds": 10**12},
        {"run_at": "9999-12-31T23:59:59-14:00"},
        {"run_at": "2200-01-01T00:00:00Z"},
        {"run_at": "tomorrow"},
        {"run_at": "2020-01-01T00:00:00Z"},
        {"cron": "0 0 * * *", "interval_seconds": 60},
    ],
)
def test_what_is_no_timing_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        due_times.checked_timing(**given)


def test_an_instant_with_an_offset_is_the_same_in_utc() -> None:
    at = datetime.now(timezone(timedelta(hours=1))) + timedelta(hours=1)
    found = due_times.checked_timing(run_at=at.isoformat())["run_at"]
    assert (found, found.utcoffset()) == (at, timedelta(0))


def test_an_instant_without_an_offset_is_utc() -> None:
    at = (datetime.now(UTC) + timedelta(hours=1)).replace(tzinfo=None)
    found = due_times.checked_timing(run_at=at.isoformat())["run_at"]
    assert found == at.replace(tzinfo=UTC)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe/", "x" * 300])
def test_what_is_no_timezone_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="timezone"):
        due_times.check_timezone(name)


@pytest.mark.parametrize(
    ("zone", "after", "cron", "expected"),
    [
        (
            LORD_HOWE,
            "2026-04-04T00:00:00+00:00",
            "45 1 * * *",
            ["2026-04-04T14:45:00+00:00", "2026-04-05T15:15:00+00:00"],
        ),
        (
            LORD_HOWE,
            "2026-10-03T00:00:00+00:00",
            "15 2 * * *",
            ["2026-10-03T15:30:00+00:00", "2026-10-04T15:15:00+00:00"],
        ),
        (
            "America/New_York",
            "2026-10-31T12:00:00+00:00",
            "30 1 * * *",
            ["2026-11-01T05:30:00+00:00", "2026-11-02T06:30:00+00:00"],
        ),
        # Seen from within the hour that happens twice: the time has passed.
        (
            "Europe/Berlin",
            "2026-10-25T01:10:00+00:00",
            "30 2 * * *",
            ["2026-10-26T01:30:00+00:00", "2026-10-27T01:30:00+00:00"],
        ),
        # Both hours end up at the same instant: it is due once.
        (
            "Europe/Berlin",
            "2026-03-28T12:00:00+00:00",
            "0 2,3 * * *",
            ["2026-03-29T01:00:00+00:00", "2026-03-30T00:00:00+00:00"],
        ),
        # Every so often goes on through both.
        (
            LORD_HOWE,
            "2026-04-04T14:30:00+00:00",
            "*/30 * * * *",
            ["2026-04-04T15:00:00+00:00", "2026-04-04T15:30:00+00:00"],
        ),
    ],
)
def test_clock_changes_elsewhere(zone: str, after: str, cron: str, expected: list[str]) -> None:
    assert times(2, after, cron=cron, timezone=zone) == expected


@pytest.mark.parametrize(
    "zone",
    [
        "Europe/Berlin",
        "America/New_York",
        LORD_HOWE,
        "Pacific/Chatham",
        "Africa/Cairo",
        "America/Havana",
        "Africa/Casablanca",
        "America/St_Johns",
        "Asia/Beirut",
    ],
)
@pytest.mark.parametrize(
    "cron",
    [
        "30 2 * * *",
        "15 2 * * *",
        "*/15 2 * * *",
        "0 */2 * * *",
        "30 */2 * * *",
        "0,30 1,2,3 * * *",
    ],
)
@pytest.mark.parametrize(("begins", "days"), [("03-01", 40), ("09-20", 50)])
def test_whoever_looks_late_finds_what_was_due_and_sees_what_is_left(
    zone: str, cron: str, begins: str, days: int
) -> None:
    trigger = Trigger(kind=TriggerKind.SCHEDULE, cron=cron, timezone=zone)
    start = datetime.fromisoformat(f"2026-{begins}T00:00:00+00:00")
    end = start + timedelta(days=days)
    times = list(takewhile(lambda at: at <= end, due_times.next_times(trigger, start)))
    assert times == sorted(set(times))
    found = due_times.due_times(trigger, times[0], end, 10_000)
    assert found == times[::-1]
    for at in times[:: max(1, len(times) // 40)]:
        assert due_times.due_times(trigger, at, at + timedelta(seconds=1), 5) == [at]
        late = at + timedelta(minutes=37)
        left = takewhile(lambda due: due <= end, due_times.next_times(trigger, late))
        assert list(left) == [due for due in times if due > late]


def test_of_long_ago_the_newest_are_found_at_once() -> None:
    every = Trigger(
        kind=TriggerKind.SCHEDULE, interval_seconds=60, starts_at=datetime(1990, 1, 1, tzinfo=UTC)
    )
    until = datetime(2026, 1, 1, tzinfo=UTC)
    found = due_times.due_times(every, every.starts_at, until, 3)
    assert found == [until - timedelta(minutes=n) for n in range(3)]
