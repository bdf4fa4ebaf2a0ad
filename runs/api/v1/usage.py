"""v1: what was consumed (contract v1 2.9). Days and hours are UTC's.

Each report is there three times: for whoever asks (`/me`), for an organization (`/orgs`, or
`/accounts`), and for all of them (`/admin`), which is for the owners and admins of the
installation's own organization. A record is what a run used of one model. Beyond the contract
`unpriced_count` says how many of them lack a price: what that cost is in no sum.
"""

from datetime import UTC, date, timedelta
from typing import Annotated, Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import TruncHour
from ninja import Router
from pydantic import Field

from runs.models import Usage, UsageDay
from runs.usage.periods import FIRST_YEAR, LAST_YEAR, midnight, month_of, today
from runs.usage.totals import LONGEST_SERIES, days_of, totals, usage_of
from teammates.access import Access
from teammates.api.schemas import ApiRequest, iso
from teammates.errors import Forbidden, Invalid
from teammates.types import JSON

router = Router(tags=["usage"])
Year = Annotated[int | None, Field(ge=2000, le=2100)]
Month = Annotated[int | None, Field(ge=1, le=12)]
LONGEST_HOURLY = 31  # days


@router.get("/me/usage")
def my_usage(request: ApiRequest, year: Year = None, month: Month = None) -> JSON:
    """The sums of a month, this one if none is said: the organization's for owners and admins,
    their own for members."""
    return _month(request.auth, days_of(_asker(request)), year, month)


@router.get("/me/usage/daily")
def my_daily_usage(request: ApiRequest, start: date, end: date) -> list[JSON]:
    """Of each day from `start` to `end` on which something was used."""
    return _daily(days_of(_asker(request)), start, end)


@router.get("/me/usage/hourly")
def my_hourly_usage(request: ApiRequest, start: date, end: date) -> list[JSON]:
    """Of each hour from `start` to the end of `end` in which something was used."""
    return _hourly(usage_of(_asker(request)), start, end)


@router.get("/me/usage/by-model")
def my_usage_by_model(request: ApiRequest, year: Year = None, month: Month = None) -> list[JSON]:
    return _by_model(days_of(_asker(request)), year, month)


@router.get("/orgs/{org_id}/usage")
@router.get("/accounts/{org_id}/usage", operation_id="account_usage")
def usage(request: ApiRequest, org_id: UUID, year: Year = None, month: Month = None) -> JSON:
    """The sums of a month."""
    access = _of_organization(request.auth, org_id)
    return _month(access, days_of(access), year, month)


@router.get("/orgs/{org_id}/usage/daily")
@router.get("/accounts/{org_id}/usage/daily", operation_id="account_daily_usage")
def daily_usage(request: ApiRequest, org_id: UUID, start: date, end: date) -> list[JSON]:
    return _daily(days_of(_of_organization(request.auth, org_id)), start, end)


@router.get("/orgs/{org_id}/usage/hourly")
@router.get("/accounts/{org_id}/usage/hourly", operation_id="account_hourly_usage")
def hourly_usage(request: ApiRequest, org_id: UUID, start: date, end: date) -> list[JSON]:
    return _hourly(usage_of(_of_organization(request.auth, org_id)), start, end)


@router.get("/orgs/{org_id}/usage/by-model")
@router.get("/accounts/{org_id}/usage/by-model", operation_id="account_usage_by_model")
def usage_by_model(
    request: ApiRequest, org_id: UUID, year: Year = None, month: Month = None
) -> list[JSON]:
    return _by_model(days_of(_of_organization(request.auth, org_id)), year, month)


@router.get("/admin/usage/summary")
def summary_of_all(request: ApiRequest, year: Year = None, month: Month = None) -> JSON:
    """The sums of a month of all organizations."""
    _require_installation(request.auth)
    return _month(request.auth, UsageDay.objects.all(), year, month)


@router.get("/admin/usage/daily")
def daily_usage_of_all(request: ApiRequest, start: date, end: date) -> list[JSON]:
    _require_installation(request.auth)
    return _daily(UsageDay.objects.all(), start, end)


@router.get("/admin/usage/by-model")
def usage_of_all_by_model(
    request: ApiRequest, year: Year = None, month: Month = None
) -> list[JSON]:
    _require_installation(request.auth)
    return _by_model(UsageDay.objects.all(), year, month)


def _asker(request: ApiRequest) -> Access:
    """Raises `Forbidden` for a key that may not look at runs."""
    request.auth.require("data.runs.read")
    return request.auth


def _of_organization(access: Access, org_id: UUID) -> Access:
    """Raises `Forbidden` for another organization, whether or not there is one."""
    access.require("data.usage.read")
    if org_id != access.organization.uid:
        raise Forbidden("This is not your organization.", code="auth.forbidden")
    return access


def _require_installation(access: Access) -> None:
    access.require("data.usage.read")
    access.require_installation()


def _first_and_next(year: int | None, month: int | None) -> tuple[date, date]:
    now = today()
    return month_of(date(year or now.year, month or now.month, 1))


def _check_span(start: date, end: date, *, longest: int) -> None:
    if start > end:
        raise Invalid("start must not be after end.")
    if start.year < FIRST_YEAR or end.year > LAST_YEAR:
        raise Invalid(f"start and end: from {FIRST_YEAR} to {LAST_YEAR}.")
    if (end - start).days >= longest:
        raise Invalid(f"start: at most {longest} days are shown at once.")


def _month(access: Access, days: "QuerySet[UsageDay]", year: int | None, month: int | None) -> JSON:
    first, following = _first_and_next(year, month)
    sums = totals(days.filter(day__gte=first, day__lt=following))
    return {
        "org_id": str(access.organization.uid),
        "account_id": str(access.organization.uid),
        "year": first.year,
        "month": first.month,
        "total_input_tokens": sums["input_tokens"],
        "total_output_tokens": sums["output_tokens"],
        "total_cache_creation_tokens": sums["cache_write_tokens"],
        "total_cache_read_tokens": sums["cache_read_tokens"],
        "total_cached_tokens": sums["cache_read_tokens"],
        "total_cost_usd": float(sums["cost"]),
        "record_count": sums["records"],
        "unpriced_count": sums["unpriced"],
    }


def _daily(days: "QuerySet[UsageDay]", start: date, end: date) -> list[JSON]:
    _check_span(start, end, longest=LONGEST_SERIES)
    rows = days.filter(day__gte=start, day__lte=end).values("day")
    summed: Any = rows.annotate(n=Sum("records"), lacking=Sum("unpriced"), **_USED)
    return [
        {"date": row["day"].isoformat()} | _sums(row) for row in summed.order_by("day") if row["n"]
    ]


def _hourly(rows: "QuerySet[Usage]", start: date, end: date) -> list[JSON]:
    _check_span(start, end, longest=LONGEST_HOURLY)
    within = rows.filter(
        recorded_at__gte=midnight(start), recorded_at__lt=midnight(end + timedelta(days=1))
    )
    hours: Any = within.values(hour=TruncHour("recorded_at", tzinfo=UTC)).annotate(
        n=Count("pk"), lacking=Count("pk", filter=Q(unpriced_calls__gt=0)), **_USED
    )
    return [{"hour": iso(row["hour"])} | _sums(row) for row in hours.order_by("hour")]


def _by_model(days: "QuerySet[UsageDay]", year: int | None, month: int | None) -> list[JSON]:
    first, following = _first_and_next(year, month)
    within = days.filter(day__gte=first, day__lt=following).exclude(model_name="")
    models: Any = within.values("model_name").annotate(
        n=Sum("records"),
        lacking=Sum("unpriced"),
        read=Sum("cache_read_tokens"),
        written=Sum("cache_write_tokens"),
        **_USED,
    )
    return [
        {
            "model": row["model_name"],
            "cache_creation_tokens": row["written"],
            "cache_read_tokens": row["read"],
            "cached_tokens": row["read"],
        }
        | _sums(row)
        for row in models.order_by("-spent", "model_name")
    ]


_USED: dict[str, Any] = {
    "used": Sum("input_tokens"),
    "made": Sum("output_tokens"),
    "spent": Sum("cost"),
}


def _sums(row: JSON) -> JSON:
    return {
        "input_tokens": row["used"],
        "output_tokens": row["made"],
        "cost_usd": float(row["spent"]),
        "record_count": row["n"],
        "unpriced_count": row["lacking"],
    }
