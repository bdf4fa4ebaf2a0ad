"""A worker: claims queued runs, executes many at once on one event loop, renews their leases."""

from typing import Any

import pytest

from runs.models import Event, RunStatus, Step, StepStatus
from teammates.access import Access
from tests.factories import make_run
from tests.fake_models import FakeModels
from tests.runs.execution.working import finish, run_on, work_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_run_that_is_at_work_for_too_long_is_stopped_with_what_it_said(
    alice: Access, models: FakeModels, settings: Any
) -> None:
    finish(run_on(alice, models, "openai", "ok"))  # its library takes its time to be imported
    settings.RUN_SECONDS = 1
    run = finish(run_on(alice, models, "openai_compatible", "slow"))
    assert (run.status, run.error_class) == (RunStatus.FAILED, "run.too_long")
    assert (run.output_tokens or 0) > 0
    assert Step.objects.get(run=run).status != StepStatus.RUNNING


def test_runs_that_stop_are_handed_back_with_what_was_finished(alice: Access) -> None:
    run = make_run(alice, message="todo slow 400 20ms")
    work_until(lambda: Event.objects.filter(run=run, type="message.delta", data__step=3).exists())
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED
    released = Event.objects.get(run=run, type="run.attempt.released").data
    assert released["void_step"] == 3
    assert Step.objects.filter(run=run, status="done").count() == 2
