"""How a run ends, once: completed, failed, cancelled, closed; with its last event and its cost."""

from datetime import timedelta

import pytest
from django.utils import timezone

from runs.events import log
from runs.lifecycle import endings, leases, transitions
from runs.lifecycle.endings import Outcome
from runs.models import Event, Run, RunStatus, Step, StepKind, Usage
from teammates.access import Access
from tests.factories import claim, make_run, say
from tests.runs.lifecycle.helpers import assert_gapless, event_types, in_threads


def test_the_end_writes_message_usage_and_event_together(alice: Access) -> None:
    run = make_run(alice)
    lease = claim(run)
    step = Step.objects.create(
        run=run,
        number=1,
        kind=StepKind.MODEL,
        attempt=1,
        first_seq=3,
        started_at=timezone.now(),
        model_name="m",
        input_tokens=10,
        output_tokens=5,
        cost="0.25",
        status="done",
    )
    done = endings.finish_run(lease, [say("Hi")], Outcome(RunStatus.COMPLETED, text="Hi"))
    assert done.status == RunStatus.COMPLETED
    assert done.answer is not None
    assert done.answer.content == "Hi"
    assert (done.input_tokens, done.output_tokens, str(done.cost)) == (10, 5, "0.250000")
    assert Usage.objects.get(run=run).input_tokens == step.input_tokens
    assert event_types(run)[-2:] == ["message.delta", "run.completed"]
    assert_gapless(run)


def test_cancelling_a_finished_run_changes_nothing(alice: Access) -> None:
    run = make_run(alice, status=RunStatus.COMPLETED)
    assert endings.cancel_run(run).status == RunStatus.COMPLETED
    assert event_types(run)[-1] == "run.completed"


def test_cancelling_a_queued_run_ends_it_at_once(alice: Access) -> None:
    run = endings.cancel_run(make_run(alice), by=alice.user)
    assert run.status == RunStatus.CANCELLED
    assert event_types(run)[-2:] == ["run.cancel_requested", "run.cancelled"]
    assert Event.objects.get(run=run, type="run.cancelled").data["usage"]["input_tokens"] == 0


def test_cancelling_a_running_run_leaves_the_end_to_its_worker(alice: Access) -> None:
    run = make_run(alice, status=RunStatus.RUNNING)
    run = endings.cancel_run(run)
    assert run.status == RunStatus.RUNNING
    assert run.cancel_requested_at is not None
    endings.cancel_run(run)
    assert event_types(run).count("run.cancel_requested") == 1


def test_a_swept_run_that_was_to_be_cancelled_is_cancelled(alice: Access) -> None:
    run = make_run(alice, status=RunStatus.RUNNING)
    endings.cancel_run(run)
    Run.objects.filter(pk=run.pk).update(lease_until=timezone.now() - timedelta(hours=1))
    leases.sweep_expired()
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED


@pytest.mark.django_db(transaction=True)
def test_a_cancel_and_an_end_at_once_leave_one_terminal_event(alice: Access) -> None:
    for _ in range(10):
        run = make_run(alice)
        lease = claim(run)

        def act(number: int, run: Run = run, lease: transitions.Lease = lease) -> object:
            if number:
                return endings.cancel_run(run)
            return endings.finish_run(lease, [], Outcome(RunStatus.COMPLETED, text="ok"))

        in_threads(2, act)
        assert sum(t in log.TERMINAL for t in event_types(run)) == 1
        assert_gapless(run)
