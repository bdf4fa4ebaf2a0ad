"""A new run takes its place in the queue of its thread."""

import pytest

from runs.models import Event, Run, RunStatus
from teammates.access import Access
from teammates.errors import TooMany
from tests.factories import make_run, make_thread
from tests.runs.lifecycle.helpers import event_types
from threads.models import Message


def test_a_new_run_is_queued_with_its_first_event(alice: Access) -> None:
    run = make_run(alice)
    assert run.status == RunStatus.QUEUED
    assert event_types(run) == ["run.started"]
    assert len(run.trace_id) == 32
    assert Event.objects.get(run=run).data["trace_id"] == run.trace_id


def test_a_full_queue_refuses_and_leaves_nothing_behind(alice: Access, settings: object) -> None:
    settings.THREAD_QUEUE_LIMIT = 2  # type: ignore[attr-defined]
    thread = make_thread(alice)
    make_run(alice, thread=thread)
    make_run(alice, thread=thread)
    before = Message.objects.count()
    with pytest.raises(TooMany, match="2 runs wait"):
        make_run(alice, thread=thread)
    assert Message.objects.count() == before
    assert Run.objects.filter(thread=thread).count() == 2
