"""Prices of the catalogue follow it when a new release of it is installed."""

import logging
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from teammates.llm import known_models
from teammates.llm.prices import prices_at
from teammates.models import Model, ModelPrice

logger = logging.getLogger("muster.prices")
# Until it is committed, calls of another process begin with what they reserve by the old price.
AHEAD = timedelta(seconds=10)


@transaction.atomic
def follow_catalogue() -> int:
    """Give each model whose valid price is an older release's the price of this one, from now on;
    returns how many changed. What somebody set stays, and so does what was booked."""
    # Their rows are the lock: of two at once, the second finds what the first did.
    models = Model.objects.select_for_update(no_key=True).order_by("pk")
    changed = []
    for price in prices_at([model.pk for model in models], timezone.now() + AHEAD).values():
        if not known_models.is_newer_than(price.source):
            continue
        model = price.model
        known = known_models.find(model.provider.kind, model.name)
        if known is None or known.prices is None:
            continue
        if all(getattr(price, lane) == amount for lane, amount in known.prices.items()):
            ModelPrice.objects.filter(pk=price.pk).update(source=known.source)
            continue
        changed.append(ModelPrice(model=model, source=known.source, **known.prices))
        logger.info("The price of %s is that of %s from now on", model.alias, known.source)
    for new in changed:
        new.valid_from = timezone.now() + AHEAD
    ModelPrice.objects.bulk_create(changed)
    return len(changed)
