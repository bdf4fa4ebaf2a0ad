"""One attempt of a worker at a run, and what came of its model calls."""

from types import SimpleNamespace
from typing import Any

import pytest

from runs.execution import attempt
from runs.execution.attempt import OUTCOMES, StreamedTurn
from runs.models import RunStatus, Step
from teammates.providers.base import (
    ModelRequest,
    ProviderError,
    TextPart,
    TokenUsage,
    Turn,
    UserMessage,
)

REQUEST = ModelRequest("demo", "Be brief.", [UserMessage("word " * 100)])


def streamed(call: Any = None) -> StreamedTurn:
    turn = StreamedTurn(REQUEST, Step(number=1))
    turn.call = call
    return turn


def test_the_first_word_and_no_other_is_the_first() -> None:
    turn = streamed()
    assert [turn.note("a"), turn.note("b"), turn.note("c")] == [True, False, False]
    assert turn.result().first_token_ms is not None


def test_a_turn_that_never_ends_is_stopped(monkeypatch: Any) -> None:
    monkeypatch.setattr(attempt, "LARGEST_TURN", 10)
    turn = streamed()
    turn.note("ü" * 5)
    with pytest.raises(ProviderError, match="larger than"):
        turn.note("x")


def test_what_the_provider_told_counts_once_the_call_is_over() -> None:
    call = SimpleNamespace(turn=Turn([TextPart("Hi")]), usage=TokenUsage(7, 3))
    turn = streamed(call)
    turn.is_finished = True
    assert turn.result().usage == TokenUsage(7, 3)


def test_a_call_that_is_cut_short_is_estimated_and_says_so() -> None:
    turn = streamed()
    turn.note("word " * 8)
    usage = turn.result().usage
    assert usage.estimated
    assert (usage.input > 100, usage.output) == (True, 10)
    told = streamed(SimpleNamespace(turn=Turn([]), usage=TokenUsage(50, 0)))
    told.note("word " * 8)
    assert (told.result().usage.input, told.result().usage.output) == (50, 10)


def test_each_reason_to_stop_has_its_end() -> None:
    assert OUTCOMES["cancel"]().status == RunStatus.CANCELLED
    too_long = OUTCOMES["too_long"]()
    assert too_long.status == RunStatus.FAILED
    assert "MUSTER_RUN_SECONDS" in too_long.error_message
