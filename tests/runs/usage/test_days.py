"""The sums of days: kept when runs end, and the same when they are made again from the runs."""

import os
import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import Sum

from runs.budgets import repricing
from runs.creation import retries
from runs.lifecycle import endings
from runs.lifecycle.endings import Outcome
from runs.models import (
    Channel,
    LabelKind,
    Run,
    RunStatus,
    Step,
    ToolCall,
    Usage,
    UsageDay,
    UsageLabel,
)
from runs.usage import totals
from runs.usage.days import follow_timezones, rebuild_days
from runs.usage.periods import Span, today
from teammates.access import Access
from teammates.llm import catalog
from teammates.models import Organization
from teammates.web.timezones import TIMEZONES
from tests.factories import bring_to, claim, make_run
from tests.fake_models import FakeModels
from tests.runs.execution.working import finish, run_on, work_until
from tests.runs.usage.spending import add_call, spend

pytestmark = pytest.mark.django_db(transaction=True)
RUNS = int(os.environ.get("MUSTER_TEST_RUNS", "60"))  # at random


def sums() -> set[tuple[Any, ...]]:
    return {
        tuple(getattr(row, field.attname) for field in model._meta.concrete_fields[1:])
        for model in (UsageDay, UsageLabel)
        for row in model._default_manager.all()
    }


def test_after_random_runs_they_are_the_same(alice: Access, bob: Access, eve: Access) -> None:
    chance = random.Random(7)
    provider = catalog.create_provider(
        alice, name="Ours", kind="openai_compatible", base_url="http://127.0.0.1:9/v1"
    )
    small = catalog.add_model(alice, provider, alias="ours", name="small")
    for number in range(RUNS):
        who = chance.choice([alice, bob, eve])
        run = make_run(who, channel=chance.choice(Channel.values))
        spend(run, chance)
        Step.objects.filter(run=run, model_name=small.name).update(model_alias=small.alias)
        if number % 7 == 0:
            endings.cancel_run(run)
        elif number % 11 or number > 60:
            run = bring_to(run, chance.choice([RunStatus.COMPLETED, RunStatus.FAILED]))
        if run.status == RunStatus.FAILED and chance.random() < 0.5:
            again, _ = retries.retry_run(who, run, confirm=True)
            spend(again, chance)
            bring_to(again, RunStatus.COMPLETED)
        if number % (RUNS // 3) == RUNS // 4:
            lanes = {lane: f"{chance.randint(1, 20)}" for lane in catalog.LANES}
            assert repricing.correct_price(alice, small, today(), **lanes).calls > 0
    before = sums()
    assert len(before) > 10
    costs = Usage.objects.exclude(run__finished_at=None).aggregate(n=Sum("cost"))["n"]
    assert UsageDay.objects.aggregate(n=Sum("cost"))["n"] == costs > 0
    assert rebuild_days().changed == 0
    assert sums() == before


def test_after_real_runs_they_are_the_same(alice: Access, models: FakeModels) -> None:
    for model in ("ok", "401", "once-503", "truncated"):
        finish(run_on(alice, models, "openai_compatible", model))
    before = sums()
    assert rebuild_days().changed == 0
    assert sums() == before


@pytest.mark.parametrize(
    ("zone", "day"), [("Asia/Tokyo", "2026-03-01"), ("America/New_York", "2026-02-28")]
)
def test_days_are_utcs_for_programs_and_the_organizations_for_pages(
    alice: Access, zone: str, day: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.organization.timezone = zone
    alice.organization.save()
    at = datetime(2026, 2, 28, 20, 30, tzinfo=UTC)
    run = make_run(alice)
    lease = claim(run)
    monkeypatch.setattr(endings.timezone, "now", lambda: at)
    endings.finish_run(lease, [], Outcome(RunStatus.COMPLETED))
    monkeypatch.undo()
    row = UsageDay.objects.get()
    assert (f"{row.day}", f"{row.local_day}") == ("2026-02-28", day)
    local = date.fromisoformat(day)
    assert [one["runs"] for one in totals.by_day(alice, Span(local, local))] == [1]
    mine = Run.objects.visible_to(alice)
    assert list(mine.ended_within(local, local)) == [run]
    assert not mine.ended_within(local - timedelta(days=1), local - timedelta(days=1)).exists()
    assert rebuild_days().changed == 0


def test_a_worker_makes_the_days_again_in_another_timezone(alice: Access) -> None:
    bring_to(make_run(alice), RunStatus.COMPLETED)
    UsageDay.objects.update(local_day="2020-01-01")  # of whatever zone it was
    Organization.objects.filter(pk=alice.organization.pk).update(timezone="Asia/Tokyo")
    work_until(lambda: not UsageDay.objects.filter(local_day="2020-01-01").exists())
    assert rebuild_days().changed == 0
    assert follow_timezones() == 0


def test_postgresql_knows_every_timezone_that_is_offered(alice: Access) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_timezone_names")
        known = {name for (name,) in cursor.fetchall()}
    assert set(TIMEZONES) <= known


def test_tags_are_the_plain_values_of_metadata(alice: Access) -> None:
    odd = {"customer": "acme", "n": 7, "no": None, "list": [1], "object": {"a": 1}, "on": True}
    odd |= {"a=b": "c", "quoted": 'say "x"'}  # which the list of runs could not be asked for
    for metadata in (odd, {"customer": "acme"}, [1, 2], "text", None, {"long": "x" * 300}):
        run = make_run(alice)
        Run.objects.filter(pk=run.pk).update(metadata=metadata)
        bring_to(run, RunStatus.COMPLETED)
    tags = UsageLabel.objects.filter(kind=LabelKind.TAG).values_list("label", "runs")
    assert dict(tags) == {"customer=acme": 2, "n=7": 1, "on=true": 1}


def test_names_of_tools_that_no_list_could_be_asked_for_are_left_out(alice: Access) -> None:
    run = make_run(alice)
    step = add_call(run)
    for number, name in enumerate(("web_fetch", 'a"b', ""), start=1):
        ToolCall.objects.create(run=run, step=step, number=number, call_id=f"{number}", name=name)
    bring_to(run, RunStatus.COMPLETED)
    assert [row.label for row in UsageLabel.objects.all()] == ["web_fetch"]


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
