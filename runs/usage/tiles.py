"""What the page *Usage & cost* says beside its sums: what was lost, what a cache saved, and what
has no price."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from django.db.models import Count, Sum

from runs.models import Run, RunStatus, Usage
from runs.usage.periods import Span, midnight
from teammates.access import Access
from teammates.models import Model
from teammates.types import JSON


def saved(access: Access, read: Mapping[str, int]) -> Decimal:
    """What tokens of models that were `read` from a cache would have cost more, at the prices of
    now."""
    if not read:
        return Decimal(0)
    models = Model.objects.filter(organization=access.organization, name__in=read)
    saved, counted = Decimal(0), set()
    for model in models.prefetch_related("prices"):
        price = model.shown_price
        if price is not None and model.name not in counted:
            counted.add(model.name)
            saved += price.saved_by_cache(read[model.name])
    return saved


LOST = {"failed": (RunStatus.FAILED,), "cancelled": (RunStatus.CANCELLED, RunStatus.CLOSED)}


def lost(access: Access, span: Span) -> dict[str, JSON]:
    """What runs cost that ended without a result, by how, as far as that is known. One query, and
    another where the cost of some is not."""
    runs = Run.objects.visible_to(access).ended_within(span.start, span.end)
    runs = runs.filter(status__in=[one for statuses in LOST.values() for one in statuses])
    rows = runs.values("status").order_by()
    rows = rows.annotate(known=Sum("cost"), n=Count("pk"), priced=Count("cost"))
    found = {row["status"]: row for row in rows}
    sums: dict[str, JSON] = {how: {"cost": Decimal(0), "unpriced": 0} for how in LOST}
    for how, statuses in LOST.items():
        for row in (found[status] for status in statuses if status in found):
            sums[how]["cost"] += row["known"] or 0
            sums[how]["unpriced"] += row["n"] - row["priced"]
        if sums[how]["unpriced"]:  # a part of it may be known
            used = Usage.objects.filter(run__in=runs.filter(cost=None, status__in=statuses))
            sums[how]["cost"] += used.aggregate(known=Sum("cost"))["known"] or 0
    return sums


def unpriced(access: Access, span: Span) -> list[JSON]:
    """Models that were used while they had no price, by how many `runs`, and their `tokens`: what
    those calls cost is in no sum."""
    if not access.is_admin:
        return []
    zone = access.organization.zone
    rows = Usage.objects.filter(
        organization=access.organization,
        unpriced_calls__gt=0,
        recorded_at__gte=midnight(span.start, zone),
        recorded_at__lt=midnight(span.end + timedelta(days=1), zone),
    )
    found = rows.values("model_name").annotate(
        runs=Count("pk"), tokens=Sum("input_tokens") + Sum("output_tokens")
    )
    return [dict(row) for row in found.order_by("model_name")]
