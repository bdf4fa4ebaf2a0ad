"""When schedules are due: cron with a timezone, an interval, or one instant.

Computed from the definition alone, so that it is the same in every process.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from django.utils import timezone

from runs.models import Trigger, TriggerKind
from teammates.errors import Invalid

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
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}  # fmt: skip


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
    """When a trigger is due next; None where it is no schedule, is over, or is not armed."""
    if trigger.kind != TriggerKind.SCHEDULE or not trigger.is_armed:
        return None
    return next(next_times(trigger), None)


def checked_timing(**given: Any) -> dict[str, Any]:
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


# --- what people see of it ----------------------------------------------------------------------


@dataclass(frozen=True)
class Due:
    """One of the next times: the instant, what a clock there shows, and what is odd about it."""

    at: datetime
    local: datetime
    note: str

    @property
    def local_words(self) -> str:
        return f"{self.local:%a} {self.local.day} {self.local:%b %Y, %H:%M}"

    @property
    def utc_words(self) -> str:
        same_day = self.at.date() == self.local.date()
        return f"{self.at:%H:%M}" if same_day else f"{self.at:%a %H:%M}"


def preview(trigger: Trigger, count: int = 10, after: datetime | None = None) -> list[Due]:
    """The next `count` times of a schedule, with a note where the clocks change that day."""
    zone = ZoneInfo(trigger.timezone)
    return [
        Due(at, at.astimezone(zone), _note(trigger, at, zone))
        for at in islice(next_times(trigger, after), count)
    ]


def _note(trigger: Trigger, at: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    change = _clock_change(local)
    if change is None or trigger.run_at is not None:
        return ""
    before, behind = change  # what the clocks show at that moment, by the old and the new offset
    if behind > before:
        skipped = f"{before:%H:%M} to {behind:%H:%M}"
        if trigger.cron and local.replace(tzinfo=None) == behind:
            return f"The clocks go forward: {skipped} does not exist, so it runs at once behind it."
        return f"The clocks go forward: {skipped} does not exist that day."
    twice = f"{behind:%H:%M} to {before:%H:%M}"
    if not behind <= local.replace(tzinfo=None) < before:
        return f"The clocks go back: {twice} happens twice that day."
    if trigger.cron and _has_fixed_hours(trigger.cron):
        return f"The clocks go back: {local:%H:%M} happens twice, it runs once."
    which = "second" if local.fold else "first"
    return f"The clocks go back: {local:%H:%M} happens twice, this is the {which} time."


def _has_fixed_hours(cron: str) -> bool:
    """Whether cron means times of the clock, each once a day, and not every so often."""
    minute, hour = ALIASES.get(cron, cron).split()[:2]
    return not minute.startswith("*") and not hour.startswith("*")


def _clock_change(local: datetime) -> tuple[datetime, datetime] | None:
    """What the clocks of that local day show when they change: the old time and the new one."""
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    begins, ends = midnight.astimezone(UTC), (midnight + timedelta(days=1)).astimezone(UTC)
    zone = local.tzinfo
    old, new = (at.astimezone(zone).utcoffset() for at in (begins, ends))
    if old is None or new is None or old == new:
        return None
    while ends - begins > timedelta(seconds=1):
        middle = begins + (ends - begins) / 2
        if middle.astimezone(zone).utcoffset() == old:
            begins = middle
        else:
            ends = middle
    at = (ends.replace(microsecond=0) if ends.microsecond < 500_000 else ends).replace(tzinfo=None)
    return at + old, at + new


# --- in words, and back -------------------------------------------------------------------------

WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


@dataclass(frozen=True)
class Sentence:
    """A schedule as the editor has it: `kind` says which of the others count."""

    kind: str  # day, weekdays, week, month, hour, cron, interval, once
    time: str = "09:00"
    weekday: int = 1  # 0 is Sunday
    monthday: int = 1
    minute: int = 0
    cron: str = ""
    interval_seconds: int = 3600

    @property
    def as_cron(self) -> str:
        """Empty for an interval and a single run."""
        hour, _, minute = self.time.partition(":")
        at = f"{int(minute or 0)} {int(hour or 0)}"
        return {
            "day": f"{at} * * *", "weekdays": f"{at} * * 1-5", "week": f"{at} * * {self.weekday}",
            "month": f"{at} {self.monthday} * *", "hour": f"{self.minute} * * * *",
            "cron": self.cron,
        }.get(self.kind, "")  # fmt: skip


_SIMPLE = re.compile(r"(\d{1,2}) (\d{1,2}|\*) (\d{1,2}|\*) \* (\d|1-5|\*)")


def sentence_of(trigger: Trigger) -> Sentence:
    """The schedule in the words of the editor; cron that has no such words stays cron."""
    if trigger.run_at is not None:
        return Sentence("once")
    if trigger.interval_seconds is not None:
        return Sentence("interval", interval_seconds=trigger.interval_seconds)
    text = ALIASES.get(trigger.cron, " ".join(trigger.cron.split()))
    found = _SIMPLE.fullmatch(text)
    if found is None:
        return Sentence("cron", cron=trigger.cron)
    minute, hour, day, weekday = found.groups()
    if hour == "*":
        is_hourly = day == weekday == "*"
        return Sentence("hour", minute=int(minute)) if is_hourly else Sentence("cron", cron=text)
    time = f"{int(hour):02}:{int(minute):02}"
    if day == weekday == "*":
        return Sentence("day", time)
    if weekday == "1-5" and day == "*":
        return Sentence("weekdays", time)
    if day == "*":
        return Sentence("week", time, weekday=int(weekday) % 7)
    if weekday == "*" and int(day) <= 28:
        return Sentence("month", time, monthday=int(day))
    return Sentence("cron", cron=text)


def in_words(trigger: Trigger) -> str:
    """When a schedule is due, as people say it."""
    said, place = sentence_of(trigger), trigger.timezone.rpartition("/")[2].replace("_", " ")
    match said.kind:
        case "once":
            assert trigger.run_at is not None
            at = trigger.run_at.astimezone(ZoneInfo(trigger.timezone))
            return f"Once, {at:%a} {at.day} {at:%b %Y, %H:%M} ({place})"
        case "interval":
            return f"Every {_span(said.interval_seconds)}"
        case "hour":
            return f"Every hour, {said.minute} min past" if said.minute else "Every full hour"
        case "day":
            return f"Every day at {said.time} ({place})"
        case "weekdays":
            return f"Monday to Friday at {said.time} ({place})"
        case "week":
            return f"Every {WEEKDAYS[said.weekday]} at {said.time} ({place})"
        case "month":
            return f"On day {said.monthday} of every month at {said.time} ({place})"
    words = CronSim(ALIASES.get(trigger.cron, trigger.cron), timezone.now()).explain()
    return f"{words} ({place})"


def _span(seconds: int) -> str:
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            count = seconds // size
            return word if count == 1 else f"{count} {word}s"
    return f"{seconds} seconds"
