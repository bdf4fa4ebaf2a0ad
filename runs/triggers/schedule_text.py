"""Schedules in words: what people read before they save one."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim
from django.utils import timezone

from runs.models import Trigger
from runs.triggers.due_times import ALIASES, next_times


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
            "day": f"{at} * * *",
            "weekdays": f"{at} * * 1-5",
            "week": f"{at} * * {self.weekday}",
            "month": f"{at} {self.monthday} * *",
            "hour": f"{self.minute} * * * *",
            "cron": self.cron,
        }.get(self.kind, "")


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
