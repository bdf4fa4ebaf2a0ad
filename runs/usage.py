"""What runs consumed, and what an end user may consume: daily sums and monthly limits.

`UsageDay` is written in the terminal transaction of each run, so its sums are those of the runs.
Months and days are UTC's.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Max, Sum
from django.utils import timezone

from runs.models import Run, Usage, UsageDay
from teammates.access import Access
from teammates.errors import Invalid, PaymentRequired, TooMany
from teammates.models import EndUser

LANES = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
LONGEST_SERIES = 366  # days
DEFAULT_SERIES = 30
FIRST_YEAR = 2000

_ADD = f"""
INSERT INTO runs_usageday (organization_id, day, end_user_id, teammate_id, created_by_id, is_api,
    model_name, runs, {", ".join(LANES)}, cost, last_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, {", ".join(["%s"] * len(LANES))}, %s, %s)
ON CONFLICT (organization_id, day, end_user_id, teammate_id, created_by_id, is_api, model_name)
DO UPDATE SET runs = runs_usageday.runs + excluded.runs,
    {", ".join(f"{lane} = runs_usageday.{lane} + excluded.{lane}" for lane in LANES)},
    cost = runs_usageday.cost + excluded.cost,
    last_at = greatest(runs_usageday.last_at, excluded.last_at)
"""


def add_to_day(run: Run, rows: list[Usage], *, at: datetime) -> None:
    """Add a run that ends at `at` to its day. Locks rows of the day, in order of their models:
    call last in the terminal transaction of one run.

    What the transaction refers to is locked before: the keys of rows that it made are checked now
    and not at its end, or two transactions wait for a run and a day in a ring.
    """
    none = Usage(
        model_name="", cost=None, input_tokens=0, output_tokens=0, cache_read_tokens=0,
        cache_write_tokens=0,
    )  # fmt: skip
    ordered = sorted(rows or [none], key=lambda row: row.model_name)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.executemany(_ADD, [
            (
                run.organization_id, at.astimezone(UTC).date(), run.end_user_id, run.teammate_id,
                run.created_by_id, run.is_api, row.model_name, int(number == 0),
                *(getattr(row, lane) for lane in LANES), row.cost or Decimal(0), at,
            )
            for number, row in enumerate(ordered)
        ])  # fmt: skip


# --- periods ------------------------------------------------------------------------------------


def period() -> tuple[date, date]:
    """The first day of this month, and of the next."""
    first = timezone.now().astimezone(UTC).date().replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@dataclass(frozen=True)
class Span:
    """Days from `start` to `end`, both included."""

    start: date
    end: date

    @classmethod
    def last(cls, days: int) -> "Span":
        """The last `days` days, with today."""
        today = timezone.now().astimezone(UTC).date()
        return cls(today - timedelta(days=days - 1), today)

    @property
    def length(self) -> int:
        return (self.end - self.start).days + 1

    @property
    def days(self) -> list[date]:
        return [self.start + timedelta(days=n) for n in range(self.length)]

    @property
    def before(self) -> "Span":
        """As many days right before."""
        return Span(self.start - timedelta(days=self.length), self.start - timedelta(days=1))


# --- sums ---------------------------------------------------------------------------------------


def days_of(access: Access) -> Any:
    """The rows that the asker may see: admins all, members their own."""
    days = UsageDay.objects.filter(organization=access.organization)
    return days if access.may("data.usage.read") else days.filter(created_by=access.user)


def totals(days: Any) -> dict[str, Any]:
    """Sums of `days`; zeros where there are none."""
    sums = days.aggregate(
        runs=Sum("runs"), cost=Sum("cost"), last_at=Max("last_at"),
        **{lane: Sum(lane) for lane in LANES},
    )  # fmt: skip
    return {name: value if name == "last_at" else value or 0 for name, value in sums.items()}


def this_month(access: Access) -> dict[str, Any]:
    return totals(days_of(access).filter(day__gte=period()[0]))


def by_day(access: Access, span: Span, **filters: Any) -> list[dict[str, Any]]:
    """Runs, cost and tokens of each day of `span`, zeros where nothing was used. One query."""
    rows = days_of(access).filter(day__gte=span.start, day__lte=span.end, **filters)
    sums = rows.values("day").annotate(
        runs=Sum("runs"), cost=Sum("cost"), tokens=Sum("input_tokens") + Sum("output_tokens")
    )  # fmt: skip
    found = {row["day"]: row for row in sums.order_by()}
    none = {"runs": 0, "cost": Decimal(0), "tokens": 0}
    return [found.get(day) or {"day": day, **none} for day in span.days]


def by_teammate(access: Access, span: Span, **filters: Any) -> dict[int, dict[str, Any]]:
    """Of each teammate: runs and cost in `span`, and the runs of each of its last seven days."""
    rows = days_of(access).filter(day__gte=span.start, day__lte=span.end, **filters)
    week = span.days[-7:]
    found: dict[int, dict[str, Any]] = {}
    for row in rows.values("teammate", "day").annotate(n=Sum("runs"), spent=Sum("cost")).order_by():
        sums = found.setdefault(row["teammate"], {
            "runs": 0, "cost": Decimal(0), "week": dict.fromkeys(week, 0),
        })  # fmt: skip
        sums["runs"] += row["n"]
        sums["cost"] += row["spent"]
        if row["day"] in sums["week"]:
            sums["week"][row["day"]] += row["n"]
    for sums in found.values():
        sums["week"] = list(sums["week"].values())
    return found


def by_end_user(access: Access, end_users: list[EndUser]) -> dict[int, dict[str, Any]]:
    """This month's sums of each, in one query."""
    rows = (
        days_of(access)
        .filter(day__gte=period()[0], end_user__in=end_users)
        .values("end_user")
        .annotate(
            runs=Sum("runs"), cost=Sum("cost"), last_at=Max("last_at"),
            input_tokens=Sum("input_tokens"), output_tokens=Sum("output_tokens"),
        )
    )  # fmt: skip
    return {row["end_user"]: row for row in rows}


def series(
    access: Access, *, start: date | None = None, end: date | None = None, **filters: Any
) -> dict[date, list[UsageDay]]:
    """Each day from `start` to `end` (today; 30 days) with its rows. Raises `Invalid`."""
    end = end or timezone.now().astimezone(UTC).date()
    if end.year < FIRST_YEAR:
        raise Invalid(f"end_date must not be before {FIRST_YEAR}.")
    start = start or end - timedelta(days=DEFAULT_SERIES - 1)
    if start > end:
        raise Invalid("start_date must not be after end_date.")
    if (end - start).days >= LONGEST_SERIES:
        raise Invalid(f"start_date: at most {LONGEST_SERIES} days are shown at once.")
    found: dict[date, list[UsageDay]] = {
        start + timedelta(days=n): [] for n in range((end - start).days + 1)
    }
    for row in days_of(access).filter(day__gte=start, day__lte=end, **filters):
        found[row.day].append(row)
    return found


# --- limits of end users ------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """What holds for an end user: the own limit, else the organization's; None: none."""

    runs: int | None
    cost_cents: int | None
    per_minute: int | None


def limits_of(end_user: EndUser) -> Limits:
    organization = end_user.organization
    return Limits(
        _first(end_user.run_limit, organization.per_end_user_run_limit),
        _first(end_user.cost_limit_cents, organization.per_end_user_cost_limit_cents),
        _first(end_user.rate_per_minute, organization.per_end_user_rate_per_minute),
    )


def _first(own: int | None, default: int | None) -> int | None:
    return default if own is None else own


def check_limits(end_user: EndUser) -> int | None:
    """Refuse one more run of an end user who is at a limit; call in its transaction.

    Returns how many more this minute allows, if that is limited. Holds the end user's row: of two
    at once, the second sees the first. Raises `PaymentRequired`, `TooMany`.
    """
    locked = EndUser.objects.select_for_update(of=("self",), no_key=True)
    limits = limits_of(locked.select_related("organization").get(pk=end_user.pk))
    runs = Run.objects.filter(organization_id=end_user.organization_id, end_user=end_user)
    first = midnight(period()[0])
    if limits.runs is not None and runs.filter(created_at__gte=first).count() >= limits.runs:
        raise PaymentRequired(
            f"This end user may start {limits.runs} runs a month, and has.",
            code="END_USER_RUN_LIMIT_REACHED", end_user_id=end_user.external_id, limit=limits.runs,
        )  # fmt: skip
    if limits.cost_cents is not None:
        days = UsageDay.objects.filter(
            organization_id=end_user.organization_id, end_user=end_user, day__gte=period()[0]
        )
        if totals(days)["cost"] * 100 >= limits.cost_cents:
            raise PaymentRequired(
                f"This end user may spend {limits.cost_cents} cents a month, and has.",
                code="END_USER_COST_LIMIT_REACHED", end_user_id=end_user.external_id,
                limit_cents=limits.cost_cents,
            )  # fmt: skip
    if limits.per_minute is None:
        return None
    last = runs.filter(created_at__gt=timezone.now() - timedelta(minutes=1)).newest_first()
    recent = list(last.values_list("created_at", flat=True)[: limits.per_minute])
    if len(recent) >= limits.per_minute:
        free_at = recent[-1] + timedelta(minutes=1)
        wait = max(1, int((free_at - timezone.now()).total_seconds()) + 1)
        raise TooMany(
            f"This end user may start {limits.per_minute} runs a minute; wait {wait} seconds.",
            code="END_USER_RATE_LIMITED", retry_after=wait, end_user_id=end_user.external_id,
            limit_per_minute=limits.per_minute,
        )  # fmt: skip
    return limits.per_minute - len(recent) - 1
