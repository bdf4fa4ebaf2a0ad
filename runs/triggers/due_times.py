"""When schedules are due: cron with a timezone, an interval, or one instant.

Computed from the definition alone, so that it is the same in every process.
"""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from django.utils import timezone

from runs.models import Trigger, TriggerKind
from teammates.errors import Invalid
from teammates.types import JSON

SHORTEST_INTERVAL = 60  # seconds
LONGEST_INTERVAL = 366 * 24 * 3600
EARLIEST = timedelta(seconds=180)  # of a single run, from now
LATEST = timedelta(days=3653)
# cronsim thinks in local time: what begins within an hour that happens twice is cut off by us.
OVERLAP_OF_CLOCKS = timedelta(hours=3)
LONGEST_LOOK_BACK = timedelta(days=400)  # behind this, missed times are not looked for
TIMINGS = ("cron", "interval_seconds", "run_at")
# cronsim knows five fields alone.
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def next_times(trigger: Trigger, after: datetime | None = None) -> Iterator[datetime]:
    """When a schedule is due, behind `after` (now), in UTC and in order; nothing for other
    triggers."""
    after = after or timezone.now()
    if trigger.run_at is not None:
        if trigger.run_at > after:
            yield trigger.run_at
    elif trigger.interval_seconds is not None:
        count = _intervals(trigger, after)
        while True:
            count += 1
            yield trigger.starts_at + timedelta(seconds=count * trigger.interval_seconds)
    elif trigger.cron:
        last = after
        for at in _cron(trigger, after - OVERLAP_OF_CLOCKS):
            if at > last:
                yield at
                last = at


def due_times(trigger: Trigger, since: datetime, until: datetime, most: int) -> list[datetime]:
    """When a schedule was due from `since` on, up to `until`, newest first; the newest `most`.

    Forwards, as everybody else reads the calendar: read backwards it names other times where
    clocks change by odd steps. Whoever was away for long is not told of the beginning.
    """
    if trigger.interval_seconds is not None:
        span = timedelta(seconds=trigger.interval_seconds * (most + 1))
    else:
        span = LONGEST_LOOK_BACK
    begins = max(since, until - span)
    before = begins - timedelta(microseconds=1)
    times = takewhile(lambda at: at <= until, next_times(trigger, before))
    return list(deque(times, maxlen=most))[::-1]


def _intervals(trigger: Trigger, until: datetime) -> int:
    """How many whole intervals of a schedule have passed."""
    assert trigger.interval_seconds is not None
    passed = max(until - trigger.starts_at, timedelta(0)).total_seconds()
    return int(passed // trigger.interval_seconds)


def _cron(trigger: Trigger, start: datetime) -> Iterator[datetime]:
    text = ALIASES.get(trigger.cron, trigger.cron)
    for at in CronSim(text, start.astimezone(ZoneInfo(trigger.timezone))):
        yield at.astimezone(UTC)


def next_time(trigger: Trigger) -> datetime | None:
    """When a trigger is due next; None where it is no schedule, is over, or rests."""
    if trigger.kind != TriggerKind.SCHEDULE or not trigger.is_active:
        return None
    return next(next_times(trigger), None)


def checked_timing(**given: Any) -> JSON:
    """Exactly one of `TIMINGS`, as fields of a trigger; the others are cleared.

    Raises `Invalid` naming the field.
    """
    named = [name for name in TIMINGS if given.get(name) is not None]
    if len(named) != 1:
        raise Invalid("Give exactly one of cron, interval_seconds and run_at.")
    cron, interval, run_at = (given.get(name) for name in TIMINGS)
    if cron is not None:
        _check_cron(cron)
    if interval is not None and not SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL:
        raise Invalid(f"interval_seconds must be {SHORTEST_INTERVAL} to {LONGEST_INTERVAL}.")
    return {
        "cron": (cron or "").strip(),
        "interval_seconds": interval,
        "run_at": None if run_at is None else _checked_instant(run_at),
        "starts_at": timezone.now(),
    }


def check_timezone(name: str) -> None:
    """Raise `Invalid` unless it is an IANA name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid(f"timezone: {name[:64]!r} is no IANA name such as Europe/Berlin.") from None


def _check_cron(cron: str) -> None:
    text = ALIASES.get(cron.strip(), cron)
    try:
        if len(text) > 200 or len(text.split()) != 5:
            raise CronSimError("it needs five fields: minute hour day month weekday")
        next(CronSim(text, timezone.now()), None)
    except CronSimError as error:
        raise Invalid(f"cron: {cron[:80]!r} is not a schedule: {error}.") from None


def _checked_instant(text: str | datetime) -> datetime:
    try:
        at = text if isinstance(text, datetime) else datetime.fromisoformat(text)
    except ValueError:
        raise Invalid("run_at must be an instant such as 2027-01-31T09:00:00+01:00.") from None
    try:
        at = (at.replace(tzinfo=UTC) if at.tzinfo is None else at).astimezone(UTC)
    except OverflowError:
        at = datetime.max.replace(tzinfo=UTC)
    if not timezone.now() + EARLIEST <= at <= timezone.now() + LATEST:
        raise Invalid("run_at must be at least 180 seconds and at most ten years ahead.")
    return at


def times_within(trigger: Trigger, begins: datetime, span: timedelta) -> Iterator[datetime]:
    """When a schedule is due within `span` from `begins` on."""
    ends = begins + span
    return takewhile(lambda at: at <= ends, next_times(trigger, begins))
