"""v2: what was consumed (contract v2 2.4, 2.7). Beyond the contract `unpriced_count` says how often
a run used a model without a price: what that cost is in no sum."""

from datetime import date
from typing import Literal

from ninja import Router

from runs.models import ON_PAGES, Channel, Run, RunStatus, UsageDay
from runs.usage import limits as usage_limits
from runs.usage import periods, totals
from teammates.api.schemas import ApiRequest, Limit, iso, money, paged
from teammates.models import EndUser
from teammates.people import end_users
from teammates.types import JSON

router = Router(tags=["usage"])
SUMMED = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_creation_tokens": "cache_write_tokens",
}


@router.get("/usage")
def get_usage(request: ApiRequest) -> JSON:
    """This month's runs and cost: the account's for admins, one's own for members. There are no
    plans here, so `plan` is inactive and runs are unlimited."""
    access = request.auth
    access.require("data.runs.read")
    month = totals.this_month(access)
    running = Run.objects.visible_to(access).filter(status=RunStatus.RUNNING)
    return {
        "plan": "inactive",
        "runs_used": month["runs"],
        "runs_limit": 0,
        "cost_used": money(month["cost"]),
        "unpriced_count": month["unpriced"],
        "cost_limit": "0",
        "period_end": iso(periods.midnight(periods.period()[1])),
        "subscription_status": None,
        "free_path_available": False,
        "overage_enabled": False,
        "overage_used_cents": 0,
        "overage_cap_cents": 0,
        "overage_rate_cents": 1000,
        "trial_ends_at": None,
        "unlimited_runs": True,
        "subscription_billing_period": None,
        "concurrent_runs": running.count(),
        "concurrent_runs_limit": access.organization.max_running,
    }


@router.get("/usage/timeseries")
def get_timeseries(
    request: ApiRequest,
    start_date: date | None = None,
    end_date: date | None = None,
    user_id: str | None = None,
    teammate_id: int | None = None,
    surface: Literal["api", "platform"] | None = None,
    settled_meter: Literal["wallet", "plan", "released", "own_sub"] | None = None,
    group_by: Literal["model"] | None = None,
) -> JSON:
    """Tokens and cost of each day (UTC), the days without any included. Everything here is paid
    with the account's own keys, so only `settled_meter=own_sub` finds something."""
    access = request.auth.for_end_user(user_id)
    access.require("data.runs.read")
    filters: JSON = {}
    if access.end_user is not None:
        filters["end_user"] = access.end_user.pk or 0
    if teammate_id is not None:
        filters["teammate"] = teammate_id
    if surface is not None:
        of_api = surface == "api"
        filters["channel__in"] = [one for one in Channel if (one not in ON_PAGES) == of_api]
    if settled_meter not in (None, "own_sub"):
        filters["pk"] = 0
    days = totals.series(access, start=start_date, end=end_date, **filters)
    rows = [row for found in days.values() for row in found]
    return {
        "start_date": min(days).isoformat(),
        "end_date": max(days).isoformat(),
        "buckets": [
            {"date": day.isoformat()} | _sums(found, by_model=group_by == "model")
            for day, found in days.items()
        ],
        "totals": _sums(rows, by_model=group_by == "model"),
    }


def _sums(rows: list[UsageDay], *, by_model: bool) -> JSON:
    tokens = {wire: sum(getattr(row, lane) for row in rows) for wire, lane in SUMMED.items()}
    shown: JSON = tokens | {
        "total_tokens": tokens["input_tokens"] + tokens["output_tokens"],
        "cost_usd": money(sum(row.cost for row in rows)),
        "unpriced_count": sum(row.unpriced for row in rows),
    }
    if by_model:
        named = sorted({row.model_name for row in rows if row.model_name})
        shown["models"] = [
            {"model": name} | _sums([row for row in rows if row.model_name == name], by_model=False)
            for name in named
        ]
    return shown


@router.get("/usage/end-users", tags=["users"])
def list_end_user_usage(
    request: ApiRequest,
    user_id: str | None = None,
    limit: Limit = 20,
    starting_after: int | None = None,
) -> JSON:
    """This month's runs and cost of each end user, beside the limits that hold for them."""
    access = request.auth
    rows = end_users.list_end_users(access).select_related("organization")
    if user_id is not None:
        rows = rows.filter(external_id=user_id)
    shown = paged(rows, limit, starting_after, lambda end_user: end_user)
    sums = totals.by_end_user(access, shown["data"])
    shown["data"] = [end_user_usage_out(one, sums.get(one.pk, {})) for one in shown["data"]]
    return shown


def end_user_usage_out(end_user: EndUser, sums: JSON) -> JSON:
    limits = usage_limits.limits_of(end_user)
    used_in, used_out = sums.get("input_tokens", 0), sums.get("output_tokens", 0)
    return {
        "id": end_user.pk,
        "user_id": end_user.external_id,
        "runs_used": sums.get("runs", 0),
        "cost_used": money(sums.get("cost", 0)),
        "unpriced_count": sums.get("unpriced", 0),
        "input_tokens": used_in,
        "output_tokens": used_out,
        "total_tokens": used_in + used_out,
        "last_active_at": iso(sums.get("last_at")),
        "runs_limit": limits.runs,
        "cost_limit_cents": limits.cost_cents,
        "rate_per_minute": limits.per_minute,
        "period_end": iso(periods.midnight(periods.period()[1])),
    }


@router.get("/billing/plans")
def list_plans(request: ApiRequest, include_free: bool = False) -> list[JSON]:
    """None: nothing is sold here."""
    return []
