"""The days and months that sums are of."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from django.utils import timezone

FIRST_YEAR, LAST_YEAR = 2000, 2200  # of days that can be asked for


def today(zone: tzinfo = UTC) -> date:
    return timezone.now().astimezone(zone).date()


def period(zone: tzinfo = UTC) -> tuple[date, date]:
    """The first day of this month, and of the next."""
    return month_of(today(zone))


def month_of(day: date) -> tuple[date, date]:
    """The first day of a day's month, and of the next."""
    first = day.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


def midnight(day: date, zone: tzinfo = UTC) -> datetime:
    return datetime.combine(day, time(), zone)


@dataclass(frozen=True)
class Span:
    """Days from `start` to `end`, both included."""

    start: date
    end: date

    @classmethod
    def last(cls, days: int, zone: tzinfo = UTC) -> "Span":
        """The last `days` days, with today."""
        return cls(today(zone) - timedelta(days=days - 1), today(zone))

    @property
    def length(self) -> int:
        return (self.end - self.start).days + 1

    @property
    def days(self) -> list[date]:
        return [self.start + timedelta(days=n) for n in range(self.length)]

    def hours(self, zone: tzinfo) -> list[datetime]:
        """When each hour since the first midnight begins, in UTC: two of a day on which clocks are
        set back are called the same in `zone`, and are equal there."""
        start, end = midnight(self.start, zone), midnight(self.end + timedelta(days=1), zone)
        first = start.astimezone(UTC)
        length = -((first - end.astimezone(UTC)) // timedelta(hours=1))
        return [first + timedelta(hours=n) for n in range(length)]

    @property
    def before(self) -> "Span":
        """As many days right before."""
        return Span(self.start - timedelta(days=self.length), self.start - timedelta(days=1))
