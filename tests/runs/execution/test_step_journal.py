"""What a worker writes down before it acts, and once a batch of calls is over."""

import pytest
from django.utils import timezone

from runs.events.log import StaleLease
from runs.execution.step_journal import (
    BeginModelStep,
    Write,
    begin_model_steps,
    complete_tools_step,
)
from runs.lifecycle.transitions import Lease
from runs.models import Event, Run, Step, StepKind, StepStatus
from teammates.access import Access
from teammates.providers.base import ModelRequest, UserMessage
from tests.factories import claim, make_run, say

pytestmark = pytest.mark.django_db


def test_a_step_that_begins_is_there_with_its_request_and_events(alice: Access) -> None:
    run = make_run(alice)
    lease = claim(run)
    run = Run.objects.select_related("route__provider").get(pk=run.pk)
    assert run.route is not None
    request = ModelRequest("demo", "Be kind.", [UserMessage("Hello")])
    begin = BeginModelStep(run, 1, request, run.route)
    (step,) = begin_model_steps([Write(lease, [say("before")], begin)]).values()
    kept = Step.objects.get()
    assert (kept.pk, kept.first_seq, kept.status) == (step.pk, step.first_seq, StepStatus.RUNNING)
    assert kept.request is not None
    assert kept.request["instructions"] == "Be kind."
    types = list(Event.objects.filter(run=run).order_by("seq").values_list("type", flat=True))
    assert types[-3:] == ["message.delta", "run.route.selected", "step.started"]
    run.refresh_from_db()
    assert (run.model_name, run.last_seq) == ("demo", kept.first_seq)


def test_a_batch_is_closed_by_whoever_holds_the_run(alice: Access) -> None:
    run = make_run(alice)
    lease = claim(run)
    step = Step.objects.create(
        run=run, number=1, kind=StepKind.TOOLS, attempt=1, first_seq=1, started_at=timezone.now()
    )
    with pytest.raises(StaleLease):
        complete_tools_step(Lease(run.pk, lease.fence - 1, 1), [], step=step)
    step.refresh_from_db()
    assert step.status == StepStatus.RUNNING
    written = complete_tools_step(lease, [], step=step)
    step.refresh_from_db()
    assert (step.status, step.last_seq) == (StepStatus.DONE, written.last_seq)
