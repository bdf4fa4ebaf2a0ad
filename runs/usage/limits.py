"""What an end user may consume in a month, and how fast."""

from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from runs.models import Run, UsageDay
from runs.usage.periods import midnight, period
from runs.usage.totals import totals
from teammates.errors import PaymentRequired, TooMany
from teammates.models import EndUser


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
            code="END_USER_RUN_LIMIT_REACHED",
            end_user_id=end_user.external_id,
            limit=limits.runs,
        )
    if limits.cost_cents is not None:
        days = UsageDay.objects.filter(
            organization_id=end_user.organization_id, end_user=end_user, day__gte=period()[0]
        )
        if totals(days)["cost"] * 100 >= limits.cost_cents:
            raise PaymentRequired(
                f"This end user may spend {limits.cost_cents} cents a month, and has.",
                code="END_USER_COST_LIMIT_REACHED",
                end_user_id=end_user.external_id,
                limit_cents=limits.cost_cents,
            )
    if limits.per_minute is None:
        return None
    last = runs.filter(created_at__gt=timezone.now() - timedelta(minutes=1)).newest_first()
    recent = list(last.values_list("created_at", flat=True)[: limits.per_minute])
    if len(recent) >= limits.per_minute:
        free_at = recent[-1] + timedelta(minutes=1)
        wait = max(1, int((free_at - timezone.now()).total_seconds()) + 1)
        raise TooMany(
            f"This end user may start {limits.per_minute} runs a minute; wait {wait} seconds.",
            code="END_USER_RATE_LIMITED",
            retry_after=wait,
            end_user_id=end_user.external_id,
            limit_per_minute=limits.per_minute,
        )
    return limits.per_minute - len(recent) - 1
