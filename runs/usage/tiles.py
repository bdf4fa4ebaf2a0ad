"""What the page *Usage & cost* says beside its sums: what was lost, what a cache saved, and what
has no price."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce

from runs.models import Run, RunStatus, Usage
from runs.usage import periods
from runs.usage.periods import Span
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


def lost(access: Access, span: Span) -> dict[str, JSON]:
    """What runs cost that ended without a result, by how, as far as that is known. One query."""
    runs = Run.objects.visible_to(access).exclude(status=RunStatus.COMPLETED)
    failed = Q(status=RunStatus.FAILED)
    sums = runs.ended_within(span.start, span.end).aggregate(
        **{
            f"{how}_{name}": of
            for how, which in (("failed", failed), ("cancelled", ~failed))
            for name, of in (
                ("cost", Coalesce(Sum("usage__cost", filter=which), Decimal(0))),
                ("unpriced", Count("usage", filter=which & Q(usage__cost=None))),
            )
        }
    )
    return {
        how: {name: sums[f"{how}_{name}"] for name in ("cost", "unpriced")}
        for how in ("failed", "cancelled")
    }


def unpriced(access: Access, span: Span) -> list[JSON]:
    """Models that were used while they had no price: their cost is in no sum."""
    if not access.is_admin:
        return []
    zone = access.organization.zone
    rows = Usage.objects.filter(
        organization=access.organization,
        cost=None,
        recorded_at__gte=periods.midnight(span.start, zone),
        recorded_at__lt=periods.midnight(span.end + timedelta(days=1), zone),
    ).exclude(model_name="")
    found = rows.values("model_name").annotate(
        runs=Sum(1), tokens=Sum("input_tokens") + Sum("output_tokens")
    )
    return [dict(row) for row in found.order_by("model_name")]
