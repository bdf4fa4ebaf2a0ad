"""When a conversation nears its model's window, its beginning is replaced by a summary."""

import pytest

from runs.models import Event, Step
from teammates.access import Access
from teammates.models import Model
from tests.factories import make_run
from tests.runs.execution.working import finish

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_conversation_that_nears_the_window_is_summarised_and_shorter(alice: Access) -> None:
    Model.objects.filter(alias="demo").update(context_window=400)
    message = "todo file notes.txt " + "and more words " * 20
    first = finish(make_run(alice, message=message))
    Model.objects.filter(alias="demo").update(context_window=220)
    run = finish(make_run(alice, message="read it " + "x " * 40, thread=first.thread))
    assert run.status == "completed", run.error_message
    event = Event.objects.filter(run=run, type="run.context_compacted").first()
    assert event is not None
    assert event.data["after_tokens"] < event.data["before_tokens"]
    assert "Done so far" in event.data["summary"]
    compaction = Step.objects.filter(run=run, kind="compaction").first()
    assert compaction is not None
    assert compaction.output_tokens > 0
    later = Step.objects.filter(run=run, kind="model", number__gt=compaction.number).first()
    assert later is not None
    assert "Summary of what came before" in str(later.request["conversation"][0])


def test_a_summary_that_is_no_shorter_is_not_used(alice: Access) -> None:
    Model.objects.filter(alias="demo").update(context_window=30)
    first = finish(make_run(alice, message="a b"))
    run = finish(make_run(alice, message="c d", thread=first.thread))
    assert run.status == "completed"
    for step in Step.objects.filter(run=run, kind="compaction"):
        events = Event.objects.filter(run=run, type="run.context_compacted")
        assert (step.covers_until is not None) == events.exists()
    for event in Event.objects.filter(run=run, type="run.context_compacted"):
        assert event.data["after_tokens"] < event.data["before_tokens"]
