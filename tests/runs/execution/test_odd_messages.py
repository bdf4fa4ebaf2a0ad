"""What Anthropic's messages have besides plain text, and what becomes of it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic_ai.usage import RequestUsage

from runs.models import Run, RunStatus
from teammates.access import Access
from teammates.providers.raw_usage import Told
from teammates.providers.vendor import VendorCall
from tests.factories import browser_of
from tests.fake_models import Answer, FakeModels, message
from tests.runs.execution.working import finish, run_on, types

pytestmark = pytest.mark.django_db(transaction=True)

Block = tuple[dict[str, Any], list[dict[str, Any]]]


def text(*words: str) -> Block:
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in words]


def thinking(thought: str, signature: str) -> Block:
    return {"type": "thinking", "thinking": "", "signature": ""}, [
        {"type": "thinking_delta", "thinking": thought},
        {"type": "signature_delta", "signature": signature},
    ]


def call(id: str, *arguments: str) -> Block:
    return {"type": "tool_use", "id": id, "name": "list_files", "input": {}}, [
        {"type": "input_json_delta", "partial_json": piece} for piece in arguments
    ]


def answered(alice: Access, models: FakeModels, *answers: Answer) -> Run:
    models.answers = list(answers)
    run = finish(run_on(alice, models, "anthropic", "ok"))
    assert run.status == RunStatus.COMPLETED, run.error_message
    return run


def said_before(models: FakeModels) -> list[dict[str, Any]]:
    """What the second request has of the first answer."""
    (turn,) = [m for m in models.requests[1]["body"]["messages"] if m["role"] == "assistant"]
    return [{k: v for k, v in b.items() if k != "cache_control"} for b in turn["content"]]


def test_signed_thoughts_go_back_as_they_came(alice: Access, models: FakeModels) -> None:
    answer = message(thinking("Hm, yes.", "sig=="), text("Wait."), call("a", "{}"), stop="tool_use")
    answered(alice, models, answer)
    assert said_before(models)[:2] == [
        {"type": "thinking", "thinking": "Hm, yes.", "signature": "sig=="},
        {"type": "text", "text": "Wait."},
    ]


def test_thoughts_that_nobody_may_read_go_back_too(alice: Access, models: FakeModels) -> None:
    hidden: Block = ({"type": "redacted_thinking", "data": "c2VjcmV0"}, [])
    run = answered(alice, models, message(hidden, call("a", "{}"), stop="tool_use"))
    assert said_before(models)[0] == {"type": "redacted_thinking", "data": "c2VjcmV0"}
    assert "c2VjcmV0" not in browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()


def test_calls_side_by_side_with_arguments_in_pieces(alice: Access, models: FakeModels) -> None:
    calls = call("a", "{", "}"), call("b"), call("c", "")
    run = answered(alice, models, message(*calls, stop="tool_use"))
    assert types(run).count("tool.call") == 3
    said = models.requests[1]["body"]["messages"][-1]["content"]
    results = [one for one in said if one["type"] == "tool_result"]
    assert [result["tool_use_id"] for result in results] == ["a", "b", "c"]
    assert not any(result.get("is_error") for result in results)


def test_null_is_sent_back_as_no_arguments(alice: Access, models: FakeModels) -> None:
    answered(alice, models, message(call("a", "null"), stop="tool_use"))
    [used] = [one for one in said_before(models) if one["type"] == "tool_use"]
    assert used["input"] == {}


@pytest.mark.parametrize(
    ("stop", "reason", "goes_on"),
    [
        ("max_tokens", "max_tokens", True),
        ("pause_turn", "pause_turn", True),
        ("refusal", "content_filter", False),
        ("stop_sequence", "end_turn", False),
    ],
)
def test_an_answer_that_is_not_whole_is_marked(
    alice: Access, models: FakeModels, stop: str, reason: str, goes_on: bool
) -> None:
    run = answered(alice, models, message(text("So ", "far"), stop=stop))
    assert run.answer is not None
    assert (run.answer.content, run.stop_reason) == ("So far", reason)
    page = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    assert (f"/runs/{run.pk}/continue/" in page) == goes_on


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ({"input_tokens": 5, "cache_read_input_tokens": 95}, (100, 95, False)),
        ({"input_tokens": -50, "cache_read_input_tokens": 95}, (95, 95, True)),
    ],
)
def test_a_part_of_the_input_is_never_more_than_it(
    told: dict[str, int], kept: tuple[int, int, bool]
) -> None:
    read = told["cache_read_input_tokens"]
    stream = SimpleNamespace(
        usage=RequestUsage(input_tokens=told["input_tokens"] + read, cache_read_tokens=read)
    )
    usage = VendorCall(cast(Any, stream), Told([]), "x", "m").usage
    assert usage is not None
    assert (usage.input, usage.cache_read, usage.estimated) == kept
    assert sum(usage.lanes.values()) == usage.input + usage.output


def test_reasoning_that_is_told_beside_the_output_is_added() -> None:
    used = RequestUsage(input_tokens=10, output_tokens=5, details={"reasoning_tokens": 90})
    usage = VendorCall(cast(Any, SimpleNamespace(usage=used)), Told([]), "x", "m").usage
    assert usage is not None
    assert (usage.output, usage.estimated) == (95, True)


def test_usage_that_is_told_again_at_the_end_counts_once(alice: Access, models: FakeModels) -> None:
    run = answered(alice, models, message(text("Hi")))
    assert (run.input_tokens, run.output_tokens) == (100, 7)
    assert (run.cache_read_tokens, run.cache_write_tokens) == (40, 10)
