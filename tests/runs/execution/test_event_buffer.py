"""One ordered buffer of events per run, and the group commit of all of a worker's runs."""

import asyncio
from typing import Any

import pytest
from django.db import connection

from runs.events.log import UnstorableEvent
from runs.execution.event_buffer import EventBuffer, EventWriter, NotTaken
from runs.execution.step_completion import CompleteModelStep, ModelResult, complete_model_steps
from runs.execution.step_journal import BeginModelStep, begin_model_steps
from runs.lifecycle import endings
from runs.lifecycle.endings import Outcome
from runs.models import Run, RunStatus, Step, Usage, UsageDay
from teammates.access import Access
from teammates.providers.base import ModelRequest, TextPart, TokenUsage, Turn
from tests.factories import claim, make_run

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_event_that_cannot_be_stored_fails_its_run_and_is_not_paid_for_again(
    alice: Access,
) -> None:
    run = make_run(alice)
    lease = claim(run)

    async def work() -> None:
        writer = EventWriter()
        buffer = writer.open(lease)
        buffer.emit("x", {"number": 10**5000})
        await writer.flush()
        with pytest.raises(UnstorableEvent):
            buffer.raise_if_stale()
        failed = Outcome(RunStatus.FAILED, error_class="internal.error", error_message="It broke.")
        await buffer.commit(endings.finish_run, failed)

    asyncio.run(work())
    assert Run.objects.get(pk=run.pk).status == RunStatus.FAILED


def test_runs_of_one_tick_do_not_share_their_troubles(alice: Access) -> None:
    """In one set: one that goes on, one that is another worker's, one that should be cancelled,
    one whose data cannot be stored, and one that only has something to say."""
    runs = {name: make_run(alice) for name in ("fine", "stale", "cancelled", "broken", "says")}
    leases = {name: claim(run) for name, run in runs.items()}
    Run.objects.filter(pk=runs["stale"].pk).update(fence=leases["stale"].fence + 1)
    endings.cancel_run(runs["cancelled"])
    before = {name: Run.objects.get(pk=run.pk).last_seq for name, run in runs.items()}

    async def work() -> tuple[dict[str, EventBuffer], dict[str, Any]]:
        writer = EventWriter()
        buffers = {name: writer.open(lease) for name, lease in leases.items()}
        for buffer in buffers.values():
            buffer.emit("x", {"said": "before the step"})
        buffers["broken"].emit("x", {"number": 10**5000})
        begins = {
            name: asyncio.ensure_future(
                buffers[name].write(begin_model_steps, begin_of(runs[name]))
            )
            for name in ("fine", "stale", "cancelled", "broken")
        }
        await asyncio.sleep(0)
        await writer.flush()
        results = await asyncio.gather(*begins.values(), return_exceptions=True)
        return buffers, dict(zip(begins, results, strict=True))

    buffers, results = asyncio.run(work())
    assert isinstance(results["fine"], Step)
    assert isinstance(results["stale"], NotTaken)
    assert isinstance(results["cancelled"], NotTaken)
    assert isinstance(results["broken"], Exception)
    assert not buffers["says"].is_stale
    grown = {name: Run.objects.get(pk=run.pk).last_seq - before[name] for name, run in runs.items()}
    assert grown["fine"] == 3  # what it said, its model, its step
    assert grown["says"] == 1
    assert (grown["stale"], grown["cancelled"], grown["broken"]) == (0, 0, 0)
    assert Step.objects.get().run == runs["fine"]
    # What was pending of a run that was left out goes in front of what is written next for it.
    assert [event.type for event in buffers["cancelled"].take()] == ["x"]


def test_runs_that_complete_in_one_tick_each_have_their_own_end(alice: Access) -> None:
    runs = [make_run(alice, message=f"Number {number}") for number in range(3)]
    leases = [claim(run) for run in runs]
    runs = list(Run.objects.select_related("route__provider").order_by("pk"))

    async def work() -> None:
        writer = EventWriter()
        writing = asyncio.create_task(writer.run())
        buffers = [writer.open(lease) for lease in leases]
        begins = [
            b.write(begin_model_steps, begin_of(r)) for b, r in zip(buffers, runs, strict=True)
        ]
        steps = await asyncio.gather(*begins)
        await asyncio.gather(
            *(
                buffer.write(complete_model_steps, completed(run, step, number))
                for number, (buffer, run, step) in enumerate(zip(buffers, runs, steps, strict=True))
            )
        )
        writing.cancel()

    asyncio.run(work())
    for number, run in enumerate(runs):
        ended = Run.objects.select_related("answer").get(pk=run.pk)
        assert ended.answer is not None
        assert (ended.status, ended.answer.content) == (RunStatus.COMPLETED, f"Answer {number}")
        assert (ended.input_tokens, ended.output_tokens) == (10 + number, 1)
        assert Usage.objects.get(run=run).input_tokens == 10 + number
        assert list(run.events.values_list("seq", flat=True)) == list(range(1, ended.last_seq + 1))
    day = UsageDay.objects.get(organization=alice.organization)
    assert (day.runs, day.input_tokens) == (3, 33)


def test_an_end_that_the_database_undid_is_written_again(
    alice: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(alice)
    lease = claim(run)
    run = Run.objects.select_related("route__provider").get(pk=run.pk)
    booked = endings.add_to_days
    undone: list[int] = []

    def add_to_days(ended: Any) -> None:
        booked(ended)
        if not undone:
            undone.append(1)
            with connection.cursor() as cursor:
                cursor.execute("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40P01'; END $$")

    monkeypatch.setattr(endings, "add_to_days", add_to_days)

    async def work() -> None:
        writer = EventWriter()
        writing = asyncio.create_task(writer.run())
        buffer = writer.open(lease)
        step = await buffer.write(begin_model_steps, begin_of(run))
        await buffer.write(complete_model_steps, completed(run, step, 0))
        writing.cancel()

    asyncio.run(work())
    assert undone
    assert Run.objects.get(pk=run.pk).status == RunStatus.COMPLETED
    assert Usage.objects.filter(run=run).count() == 1
    assert UsageDay.objects.get().runs == 1


def begin_of(run: Run) -> BeginModelStep:
    assert run.route is not None
    return BeginModelStep(run, 1, ModelRequest("demo", "", []), run.route)


def completed(run: Run, step: Any, number: int) -> CompleteModelStep:
    assert run.route is not None
    text = f"Answer {number}"
    result = ModelResult(Turn([TextPart(text)], "stop"), TokenUsage(10 + number, 1), 5)
    return CompleteModelStep(
        run, step, run.route, result, outcome=Outcome(RunStatus.COMPLETED, text=text)
    )
