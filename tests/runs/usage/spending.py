"""Runs that spent at random, for sums that are to be right whatever happened."""

import random
from decimal import Decimal
from typing import Any

from django.utils import timezone

from runs.lifecycle import endings
from runs.lifecycle.endings import Outcome
from runs.models import Run, RunStatus, Step, StepKind, StepStatus, ToolCall
from teammates.access import Access
from tests.factories import claim, make_run

MODELS = ("small", "large")
TOOLS = ("web_fetch", "write_file", "shop__order")
TAGS = (
    None,
    {"customer": "acme"},
    {"customer": "a b", "paid": True},
    {"2024": "x"},
    {"nothing": None},
    [1],
)


def spend(run: Run, chance: random.Random, **fields: Any) -> None:
    """Steps of a run, some failed, some without a price, with calls of tools and tags; `fields`
    are columns of it that are set first."""
    Run.objects.filter(pk=run.pk).update(metadata=chance.choice(TAGS), **fields)
    for number in range(1, chance.randint(1, 6)):
        kind = chance.choice([StepKind.MODEL, StepKind.TOOLS, StepKind.COMPACTION])
        step = Step.objects.create(
            run=run,
            number=number,
            kind=kind,
            status=chance.choice([StepStatus.DONE, StepStatus.STOPPED]),
            attempt=1,
            first_seq=1,
            started_at=timezone.now(),
            model_name=chance.choice(MODELS),
            input_tokens=chance.randint(0, 5_000),
            output_tokens=chance.randint(0, 500),
            cache_read_tokens=chance.randint(0, 100),
            cost=chance.choice([None, Decimal(chance.randint(0, 10_000)) / 1_000_000]),
        )
        if kind == StepKind.TOOLS:
            ToolCall.objects.create(
                run=run, step=step, number=1, call_id="1", name=chance.choice(TOOLS)
            )


def add_call(run: Run, number: int = 1, **fields: Any) -> Step:
    """A step of a run: one call of a model, which is over."""
    told = {
        "status": StepStatus.DONE,
        "started_at": timezone.now(),
        "model_name": "m",
        "input_tokens": 10,
    }
    return Step.objects.create(
        run=run, number=number, kind=StepKind.MODEL, attempt=1, first_seq=1, **(told | fields)
    )


def ended(access: Access, cost: str | None, like: Run | None = None) -> Run:
    """A run of one call, of the same task as `like`."""
    run = make_run(access)
    if like is not None:
        Run.objects.filter(pk=run.pk).update(task=like.task_id)
    lease = claim(run)
    add_call(run, cost=cost)
    return endings.finish_run(lease, [], Outcome(RunStatus.COMPLETED))
