"""A model that makes the same call over and over is told at the third, and stopped at the fifth."""

import json
from typing import Any

import pytest

from runs.execution.repeats import count_repeats, with_note
from runs.gates import answers, decisions
from runs.models import CallStatus, GateKind, Run, RunStatus
from teammates.access import Access
from teammates.errors import Invalid
from teammates.providers.base import TextPart, ToolRequest, ToolResult, Turn, UserMessage
from tests.factories import browser_of
from tests.fake_models import FakeModels, chat
from tests.runs.execution.working import finish, run_on, work_until

pytestmark = pytest.mark.django_db(transaction=True)


def turn(*arguments: str) -> Turn:
    return Turn([ToolRequest(f"c{n}", "list_files", one) for n, one in enumerate(arguments)])


def test_calls_that_mean_the_same_are_counted() -> None:
    asked, result = UserMessage("Do."), ToolResult("c0", "list_files", "[]")
    assert count_repeats([]) == count_repeats([asked, result]) == 0
    assert count_repeats([asked, turn("{}")]) == 1
    same = turn('{"a": 1, "b": 2}'), result, turn('{"b":2,"a":1}'), result
    assert count_repeats([turn("{}"), result, *same]) == 2
    assert count_repeats([*same, turn('{"a": 2}')]) == 1
    assert count_repeats([turn("{}"), asked, turn("{}")]) == 1
    assert count_repeats([turn("{}"), Turn([TextPart("Hm.")]), turn("{}")]) == 1
    assert count_repeats([turn("not json"), result, turn("not json")]) == 2


def test_it_is_told_from_the_third_on() -> None:
    twice = [turn("{}"), turn("{}")]
    assert with_note(twice) == twice
    *_, note = with_note([*twice, turn("{}")])
    assert isinstance(note, UserMessage)
    assert "3 times in a row" in note.text


def circling(access: Access, models: FakeModels, *, times: int = 99) -> Run:
    """A run whose model lists the files again and again, and then answers."""
    call = {"index": 0, "function": {"name": "list_files", "arguments": "{}"}}

    def answer(body: dict[str, Any]) -> Any:
        made = sum(m["role"] == "tool" for m in body["messages"])
        if made >= times or "ends with your next answer" in json.dumps(body["messages"]):
            return chat({"content": "Enough."})
        return chat({"tool_calls": [call | {"id": f"c{made}"}]}, finish="tool_calls")

    models.answer = answer
    return run_on(access, models, "openai_compatible", "ok")


def stopped(run: Run) -> None:
    work_until(lambda: Run.objects.get(pk=run.pk).status in (RunStatus.WAITING, "completed"))
    run.refresh_from_db()
    gate = decisions.pending_gate(run)
    assert gate is not None
    assert gate.kind == GateKind.LOOP


def test_four_times_is_told_and_goes_on(alice: Access, models: FakeModels) -> None:
    run = finish(circling(alice, models, times=4))
    assert (run.status, run.tool_calls.count()) == (RunStatus.COMPLETED, 4)
    told = ["in a row" in json.dumps(one["body"]["messages"]) for one in models.requests]
    assert told == [False, False, False, True, True]


def test_the_fifth_is_not_made_before_a_person_says_so(alice: Access, models: FakeModels) -> None:
    stopped(run := circling(alice, models))
    assert run.tool_calls.filter(status=CallStatus.DONE).count() == 4
    page = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    assert "may be going in circles" in page
    answers.answer_text(alice, run, "go on")
    work_until(lambda: run.tool_calls.filter(status=CallStatus.DONE).count() == 9)
    stopped(run)
    answers.answer_text(alice, run, "stop")
    assert Run.objects.get(pk=run.pk).status == RunStatus.CANCELLED


def test_a_run_that_is_to_finish_makes_the_call_no_more(alice: Access, models: FakeModels) -> None:
    stopped(run := circling(alice, models))
    with pytest.raises(Invalid, match="'go on'"):
        answers.answer_text(alice, run, "what?")
    answers.answer_text(alice, run, "Finish with a summary")
    run = finish(run)
    assert (run.status, run.answer and run.answer.content) == (RunStatus.COMPLETED, "Enough.")
    last = run.tool_calls.order_by("pk").last()
    assert last is not None
    assert (last.status, "not made" in last.error) == (CallStatus.FAILED, True)
