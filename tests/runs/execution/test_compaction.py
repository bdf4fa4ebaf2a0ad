"""When a conversation nears its model's window, its beginning is replaced by a summary."""

import pytest
from django.utils import timezone

from runs.execution import compaction, context
from runs.models import Event, Step, StepKind, StepStatus
from teammates.access import Access
from teammates.models import Model
from teammates.providers.base import Media, TextPart, ToolResult, Turn
from tests.factories import claim, make_run
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
    summary = Step.objects.filter(run=run, kind="compaction").first()
    assert summary is not None
    assert summary.output_tokens > 0
    later = Step.objects.filter(run=run, kind="model", number__gt=summary.number).first()
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


def test_what_is_kept_is_whole_steps_that_fit(alice: Access) -> None:
    run = make_run(alice)
    lease = claim(run)
    for number in range(1, 9):
        Step.objects.create(
            run=run,
            number=number,
            kind=StepKind.TOOLS if number % 2 == 0 else StepKind.MODEL,
            status=StepStatus.DONE,
            attempt=lease.attempt,
            first_seq=number,
            started_at=timezone.now(),
            finished_at=timezone.now(),
            response=Turn([TextPart("word " * 400)]).to_json() if number % 2 else None,
        )
    said = [context.request_of(run), *context.steps_of(run)]
    rooms = (10_000, 1_100, 600, 0)
    boundaries = [compaction._boundary(run, said, 0, room) for room in rooms]
    assert boundaries == sorted(boundaries)
    assert boundaries[0] == 0  # all of it fits: nothing is replaced
    assert all(number % 2 == 0 for number in boundaries)  # never between a call and its result
    assert boundaries[-1] == 8


def test_what_is_kept_counts_what_the_model_is_shown(alice: Access) -> None:
    run = make_run(alice)
    lease = claim(run)
    for number in (1, 2):
        Step.objects.create(
            run=run,
            number=number,
            kind=(StepKind.MODEL, StepKind.TOOLS)[number - 1],
            status=StepStatus.DONE,
            attempt=lease.attempt,
            first_seq=number,
            started_at=timezone.now(),
            response=Turn([TextPart("word")]).to_json() if number == 1 else None,
        )
    looked = Media("long.pdf", "pdf", 1, content=b"%PDF-", tokens=50_000)
    shown = ToolResult("c1", "read_file", "{}", media=[looked])
    said = [context.request_of(run), *context.steps_of(run), shown]
    assert compaction._boundary(run, said[:-1], 0, 1_000) == 0
    assert compaction._boundary(run, [said[0], shown], 0, 1_000) == 2
