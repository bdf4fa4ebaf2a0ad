"""A model that makes the same call over and over is told at the third, and stopped at the fifth."""

import json
from itertools import count
from typing import Any

import pytest

from runs.execution.repeats import WINDOW, count_repeats, count_to_ask_about, with_note
from runs.gates import answers
from runs.models import CallStatus, GateKind, Run, RunStatus
from teammates.access import Access
from teammates.errors import Invalid
from teammates.providers.base import (
    ChatMessage,
    ToolRequest,
    ToolResult,
    Turn,
    UserMessage,
)
from tests.factories import browser_of
from tests.fake_models import FakeModels, chat
from tests.runs.execution.calling import wait
from tests.runs.execution.working import finish, run_on, work_until

pytestmark = pytest.mark.django_db(transaction=True)


def turn(*arguments: str, of: str = "list_files") -> list[ChatMessage]:
    """Calls of a turn, and what they gave: the same for the same arguments."""
    calls = [ToolRequest(new_id(), of, one) for one in arguments]
    return [Turn(list(calls)), *(ToolResult(one.call_id, of, "[]") for one in calls)]


def new_id() -> str:
    return str(next(_ids))


_ids = count()


def test_calls_that_mean_the_same_are_counted() -> None:
    asked: ChatMessage = UserMessage("Do.")
    assert count_repeats([]) == count_repeats([asked]) == 0
    assert count_repeats([asked, *turn("{}")]) == 1
    same = [*turn('{"a": 1, "b": 2}'), *turn('{"b":2,"a":1}')]
    assert count_repeats([*turn("{}"), *same]) == 2
    assert count_repeats([*same, *turn('{"a": 2}')]) == 1
    assert count_repeats([*turn("{}"), asked, *turn("{}")]) == 1
    assert count_repeats([*turn("not json"), *turn("not json")]) == 2


def test_several_in_a_turn_and_others_in_between_count_too() -> None:
    assert count_repeats(turn("{}", "{}", "{}")) == 3
    assert count_repeats([*turn("{}"), *turn("{}", of="other"), *turn("{}")]) == 2
    assert count_repeats([m for n in range(4) for m in turn("{}", f'{{"n": {n}}}')]) == 4
    assert count_repeats([m for _ in range(99) for m in turn("{}")]) == WINDOW


def test_another_result_begins_anew() -> None:
    """Who polls is told something new one day."""
    call = ToolRequest("x", "list_files", "{}")
    changed = [Turn([call]), ToolResult("x", "list_files", "[1]")]
    assert count_repeats([*turn("{}"), *turn("{}"), *changed]) == 1
    assert count_repeats([*changed, *turn("{}"), *turn("{}")]) == 2


def test_a_call_that_is_about_to_be_made_counts() -> None:
    pending = Turn([ToolRequest("x", "list_files", "{}")])
    assert count_repeats([*turn("{}"), *turn("{}"), pending]) == 3


@pytest.mark.parametrize(
    ("at_once", "asked"), [(1, [5, 10, 15]), (2, [6, 10, 16]), (3, [6, 12, 15])]
)
def test_a_person_is_asked_whenever_five_more_have_come(at_once: int, asked: list[int]) -> None:
    said: list[ChatMessage] = []
    found = []
    while len(found) < 3:
        said += turn(*["{}"] * at_once)
        if count := count_to_ask_about(said):
            found.append(count)
    assert found == asked


def test_each_call_is_counted_by_itself() -> None:
    said = [m for n in range(4) for m in turn("{}", f'{{"n": {n}}}')]
    assert count_to_ask_about(said) == 0
    assert count_to_ask_about([*said, *turn('{"n": 9}', "{}")]) == 5


def test_it_is_told_from_the_third_on() -> None:
    twice = [*turn("{}"), *turn("{}")]
    assert with_note(twice) == twice
    *_, note = with_note([*twice, *turn("{}")])
    assert isinstance(note, UserMessage)
    assert "3 times" in note.text


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
    assert wait(run).kind == GateKind.LOOP


def test_four_times_is_told_and_goes_on(alice: Access, models: FakeModels) -> None:
    run = finish(circling(alice, models, times=4))
    assert (run.status, run.tool_calls.count()) == (RunStatus.COMPLETED, 4)
    told = ["the same result" in json.dumps(one["body"]["messages"]) for one in models.requests]
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
    for words in ("what?", "not sure", "now go on"):
        with pytest.raises(Invalid, match="'go on'"):
            answers.answer_text(alice, run, words)
    answers.answer_text(alice, run, "Finish with a summary")
    run = finish(run)
    assert (run.status, run.answer and run.answer.content) == (RunStatus.COMPLETED, "Enough.")
    last = run.tool_calls.order_by("pk").last()
    assert last is not None
    assert (last.status, "not made" in last.error) == (CallStatus.FAILED, True)
