"""The sums of days made again from the runs are those that the runs' ends had kept."""

import random
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from runs.lifecycle import endings
from runs.models import Run, RunStatus, Step, StepKind, StepStatus, UsageDay
from runs.usage.rebuilding import rebuild_days
from teammates.access import Access
from tests.factories import bring_to, make_run
from tests.fake_models import FakeModels
from tests.runs.execution.working import finish, run_on

pytestmark = pytest.mark.django_db(transaction=True)
COLUMNS = [
    field.attname
    for field in UsageDay._meta.concrete_fields
    if field.attname not in ("id", "last_at")
]


def sums() -> set[tuple[Any, ...]]:
    return set(UsageDay.objects.values_list(*COLUMNS))


def spend(run: Run, chance: random.Random) -> None:
    """Steps of a run: some failed, some without a price."""
    for number in range(1, chance.randint(1, 6)):
        kind = chance.choice([StepKind.MODEL, StepKind.TOOLS, StepKind.COMPACTION])
        Step.objects.create(
            run=run,
            number=number,
            kind=kind,
            status=chance.choice([StepStatus.DONE, StepStatus.STOPPED]),
            attempt=1,
            first_seq=1,
            started_at=timezone.now(),
            model_name=chance.choice(["small", "large"]),
            input_tokens=chance.randint(0, 5_000),
            output_tokens=chance.randint(0, 500),
            cache_read_tokens=chance.randint(0, 100),
            cost=chance.choice([None, Decimal(chance.randint(0, 10_000)) / 1_000_000]),
        )


def test_after_random_runs_they_are_the_same(alice: Access, bob: Access, eve: Access) -> None:
    chance = random.Random(7)
    for number in range(60):
        channel = chance.choice(["app", "api", "schedule"])
        run = make_run(chance.choice([alice, bob, eve]), channel=channel)
        spend(run, chance)
        if number % 7 == 0:
            endings.cancel_run(run)
        elif number % 11:
            bring_to(run, chance.choice([RunStatus.COMPLETED, RunStatus.FAILED]))
    before = sums()
    assert len(before) > 10
    assert rebuild_days().changed == 0
    assert sums() == before


def test_after_real_runs_they_are_the_same(alice: Access, models: FakeModels) -> None:
    for model in ("ok", "401", "once-503", "truncated"):
        finish(run_on(alice, models, "openai_compatible", model))
    before = sums()
    assert rebuild_days().changed == 0
    assert sums() == before


def test_wrong_sums_are_mended_and_counted(alice: Access, capsys: Any) -> None:
    bring_to(make_run(alice), RunStatus.COMPLETED)
    before = sums()
    UsageDay.objects.update(runs=99)
    gone = UsageDay.objects.get()
    gone.pk, gone.model_name = None, "never used"
    gone.save()
    call_command("rebuild_usage")
    assert "1 sums made again; 2 were wrong" in capsys.readouterr().out
    assert sums() == before
    call_command("rebuild_usage")
    assert "none was wrong" in capsys.readouterr().out
