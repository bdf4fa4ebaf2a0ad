"""What a model is told: instructions, history, and this run's steps so far."""

import pytest

from runs.creation.options import Options
from runs.models import Run
from teammates.access import Access
from teammates.knowledge import memories
from teammates.models import Memory
from teammates.roster import lookup
from tests.factories import make_run, make_thread
from tests.runs.execution.working import finish, work_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_history_is_the_thread_with_each_answer_behind_its_question(alice: Access) -> None:
    from runs.execution import context

    thread = make_thread(alice)
    first = make_run(alice, thread=thread, message="first thing")
    second = make_run(alice, thread=thread, message="second thing")
    work_until(lambda: Run.objects.get(pk=second.pk).is_finished)
    third = make_run(alice, thread=thread, message="third thing")
    said = [
        getattr(s, "text", "") for s in context.conversation(third, context.request_of(third), [])
    ]
    assert said[0] == "first thing"
    assert "first thing" in said[1]
    assert said[2] == "second thing"
    assert said[-1] == "third thing"
    assert first.position < second.position


def test_memories_are_kept_told_and_shown_with_the_reason(alice: Access) -> None:
    finish(make_run(alice, message="remember that invoices go to Kim"))
    memory = Memory.objects.get()
    assert (memory.author, memory.end_user) == ("agent", None)
    run = finish(make_run(alice, message="what about invoices"))
    run.refresh_from_db()
    assert run.told is not None
    assert [one["why"] for one in run.told["memories"]] == ["fits the request"]
    step = run.steps.first()
    assert step is not None
    assert "invoices go to Kim" in step.request["instructions"]
    memory.refresh_from_db()
    assert memory.used_count == 1
    off = finish(make_run(alice, message="plain", options=Options(memory=False)))
    assert off.told is not None
    assert not any(off.told.values())


def test_what_fits_the_request_is_told_first_when_not_everything_is(alice: Access) -> None:
    memories.add_memory(alice, "Refunds need the signature of Bo.")
    for number in range(60):
        memories.add_memory(alice, f"Fact number {number}.")
    normal = lookup.get_persona(alice, "normal")[0]
    told = memories.memories_for(alice, normal, "please look at the refunds")
    assert len(told) == memories.TOLD_MEMORIES
    assert (told[0].memory.content, told[0].why) == (
        "Refunds need the signature of Bo.",
        "fits the request",
    )
