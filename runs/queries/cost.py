"""What a run cost, lane by lane: tokens read, read from a cache, written into it, and written."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from django.db.models import Count, Q, Sum
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


@dataclass(frozen=True)
class KnownCosts:
    """What is known of the costs of runs, as `cost`, and how often they were `unpriced`: of
    `rows`, which have a run and a cost; those that are `lacking` had no price."""

    rows: Any
    lacking: Q

    def say(self, runs: Collection[Run], *, of: Collection[Run]) -> None:
        """Set `known_cost` of runs: None, but for those `of` them that have such rows. At most one
        query."""
        rows = self.rows.filter(run__in=of).values("run").annotate(**self._sums).order_by()
        found = {row["run"]: _shown(row) for row in rows} if of else {}
        for run in runs:
            cast(Any, run).known_cost = found.get(run.pk)

    def of(self, runs: RunQuerySet) -> JSON:
        """Of many together. One query."""
        return _shown(self.rows.filter(run__in=runs.order_by()).aggregate(**self._sums))

    @property
    def _sums(self) -> JSON:
        return {
            "known": Coalesce(Sum("cost"), Decimal(0)),
            "lacked": Count("pk", filter=self.lacking),
        }


def costs_of_models(models: Collection[str] = ()) -> KnownCosts:
    """Of runs that ended; where `models` are named, of those alone."""
    used = Usage.objects.filter(model_name__in=models) if models else Usage.objects.all()
    return KnownCosts(used, Q(unpriced_calls__gt=0))


def costs_since(since: datetime | None) -> KnownCosts:
    """Of calls from some instant on, or of all, as budgets count them; also of runs under way."""
    calls = Step.objects.filter(kind__in=CALLS_A_MODEL).exclude(status=StepStatus.RUNNING)
    if since is not None:
        calls = calls.filter(started_at__gte=since)
    return KnownCosts(calls, Q(cost=None, input_tokens__gt=0))


def _shown(row: JSON) -> JSON:
    return {"cost": row["known"], "unpriced": row["lacked"]}


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
