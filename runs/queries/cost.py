"""What a run cost, lane by lane: tokens read, read from a cache, written into it, and written."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from runs.models import CALLS_A_MODEL, Run, Step, StepKind, StepStatus, Usage
from runs.models.run_query import RunQuerySet
from teammates.models import ModelPrice
from teammates.providers.base import TokenUsage
from teammates.types import JSON

LANES = (  # of `ModelPrice`, with what people call them
    ("uncached_input", "In"),
    ("cache_read", "In, from the cache"),
    ("cache_write", "In, into the cache"),
    ("output", "Out"),
)


@dataclass
class Lane:
    """`cost` is dollars, None where a price was not known."""

    label: str
    tokens: int = 0
    cost: Decimal | None = Decimal(0)


@dataclass
class ModelCost:
    """Of one model: what each lane took, and the steps' own cost in all.

    `stopped` is how many of its calls broke off (it was cancelled, failed, or was called again) and
    `stopped_cost` what is known of their cost; `saved` what the cached input would have cost more,
    at the prices of now.
    """

    model: str
    lanes: dict[str, Lane] = field(
        default_factory=lambda: {name: Lane(label) for name, label in LANES}
    )
    cost: Decimal = Decimal(0)
    is_known: bool = True
    stopped: int = 0
    stopped_cost: Decimal = Decimal(0)
    saved: Decimal = Decimal(0)


_KNOWN: Any = {
    "known": Coalesce(Sum("cost"), Decimal(0)),
    "unpriced": Count("pk", filter=Q(unpriced_calls__gt=0)),
}


def say_known_costs(runs: Collection[Run], models: Collection[str] = ()) -> None:
    """Set `known_cost` of runs whose own cost is not the one to show: `cost`, what is known of it,
    and `unpriced`, how often they used a model without a price. Where `models` are named, of them
    alone and of every run; else of runs whose cost is unknown. At most one query."""
    wanted = [run for run in runs if models or (run.is_finished and run.cost is None)]
    used: Any = _used(models).filter(run__in=wanted).values("run")
    rows = used.annotate(**_KNOWN).order_by()
    found = {row["run"]: _shown(row) for row in rows} if wanted else {}
    for run in runs:
        cast(Any, run).known_cost = found.get(run.pk)


def known_cost(runs: RunQuerySet, models: Collection[str] = ()) -> JSON:
    """What `say_known_costs` says, of many runs together. One query."""
    return _shown(_used(models).filter(run__in=runs.order_by()).aggregate(**_KNOWN))


def say_costs_since(runs: Collection[Run], since: datetime | None) -> None:
    """Set `known_cost` of runs to that of their calls from some instant on, or of all, as budgets
    count them: `cost` and `unpriced`. One query."""
    rows: Any = _calls_since(since).filter(run__in=runs).values("run")
    found = {row["run"]: _shown(row) for row in rows.annotate(**_KNOWN_OF_CALLS).order_by()}
    for run in runs:
        cast(Any, run).known_cost = found.get(run.pk)


def cost_since(runs: RunQuerySet, since: datetime | None) -> JSON:
    """What `say_costs_since` says, of many runs together. One query."""
    calls = _calls_since(since).filter(run__in=runs.order_by())
    return _shown(calls.aggregate(**_KNOWN_OF_CALLS))


_KNOWN_OF_CALLS: Any = {
    "known": Coalesce(Sum("cost"), Decimal(0)),
    "unpriced": Count("pk", filter=Q(cost=None, input_tokens__gt=0)),
}


def _calls_since(since: datetime | None) -> "QuerySet[Step]":
    calls = Step.objects.filter(kind__in=CALLS_A_MODEL).exclude(status=StepStatus.RUNNING)
    return calls if since is None else calls.filter(started_at__gte=since)


def _used(models: Collection[str]) -> "QuerySet[Usage]":
    return Usage.objects.filter(model_name__in=models) if models else Usage.objects.all()


def _shown(row: JSON) -> JSON:
    return {"cost": row["known"], "unpriced": row["unpriced"]}


def _price_of(step: Step, prices: list[ModelPrice]) -> ModelPrice | None:
    """The one that was valid when the call began; if there was none yet, when it ended."""
    began, ended = step.started_at, step.finished_at or step.started_at
    return _valid_at(began, prices) or _valid_at(ended, prices)


def _valid_at(at: datetime, prices: list[ModelPrice]) -> ModelPrice | None:
    """Of prices that are ordered, the newest first."""
    return next((one for one in prices if one.valid_from <= at), None)


def cost_of(run: Run) -> list[ModelCost]:
    """By the models that worked for a run, in order, without a call under way. Two queries."""
    steps = list(
        run.steps.exclude(kind=StepKind.TOOLS)
        .exclude(status=StepStatus.RUNNING)
        .defer("request", "response")
        .order_by("number")
    )
    aliases = {step.model_alias for step in steps}
    prices: dict[str, list[ModelPrice]] = defaultdict(list)
    of_models = ModelPrice.objects.filter(
        model__organization=run.organization_id, model__alias__in=aliases
    )
    for row in of_models.select_related("model").order_by("-valid_from"):
        prices[row.model.alias].append(row)
    found: dict[str, ModelCost] = {}
    for step in steps:
        of_model = found.setdefault(step.model_alias, ModelCost(step.model_alias))
        price = _price_of(step, prices[step.model_alias])
        usage = TokenUsage(
            input=step.input_tokens,
            output=step.output_tokens,
            cache_read=step.cache_read_tokens,
            cache_write=step.cache_write_tokens,
        )
        costs = price.costs(usage) if price is not None and step.cost is not None else None
        for name, tokens in usage.lanes.items():
            lane = of_model.lanes[name]
            lane.tokens += tokens
            if costs is None:
                lane.cost = None
            elif lane.cost is not None:
                lane.cost += costs[name]
        if price_now := _valid_at(timezone.now(), prices[step.model_alias]):
            of_model.saved += price_now.saved_by_cache(usage.cache_read)
        if step.status == StepStatus.STOPPED:
            of_model.stopped += 1
            of_model.stopped_cost += step.cost or 0
        if step.cost is None:
            of_model.is_known = False
        else:
            of_model.cost += step.cost
    return list(found.values())
