"""What models cost at an instant."""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import QuerySet

from config.compiled import Hole, compiled
from teammates.models import ModelPrice


def prices_at(model_ids: Iterable[int], at: datetime) -> dict[int, ModelPrice]:
    """The valid price of each model, where it has one; with the model as it is. One query."""
    found = _prices.all(model_ids=list(model_ids), at=at)
    return {price.model_id: price for price in found}


@compiled
def _prices(model_ids: Hole, at: Hole) -> "QuerySet[ModelPrice]":
    prices = ModelPrice.objects.filter(model__id__any=model_ids, valid_from__lte=at)
    prices = prices.select_related("model__provider__organization")
    return prices.order_by("model", "-valid_from").distinct("model")
