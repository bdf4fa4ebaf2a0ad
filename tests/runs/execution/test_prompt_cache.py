"""What a provider keeps of a prompt is asked for, and found again at the next step."""

from decimal import Decimal
from itertools import pairwise

import pytest

from runs.models import RunStatus, Step, StepKind
from teammates.access import Access
from tests.fake_models import STEPS, FakeModels, chat, gemini, response
from tests.runs.execution.test_responses import CALL, says
from tests.runs.execution.working import finish, run_on

pytestmark = pytest.mark.django_db(transaction=True)


def test_of_ten_steps_everything_but_the_new_is_read_from_the_cache(
    alice: Access, models: FakeModels
) -> None:
    run = finish(run_on(alice, models, "anthropic", "steps"))
    assert run.status == RunStatus.COMPLETED, run.error_message
    steps = list(Step.objects.filter(run=run, kind=StepKind.MODEL).order_by("number"))
    sizes = models.prompt_cache.sizes
    assert len(steps) == len(sizes) == STEPS + 1
    assert steps[0].cache_read_tokens == 0
    for step, before, size in zip(steps[1:], sizes, sizes[1:], strict=False):
        assert (step.input_tokens, step.cache_read_tokens) == (size, before)
        assert step.cache_write_tokens == size - before


def test_each_lane_has_its_price(alice: Access, models: FakeModels) -> None:
    run = finish(run_on(alice, models, "anthropic", "steps"))
    for step in Step.objects.filter(run=run, kind=StepKind.MODEL):
        uncached = step.input_tokens - step.cache_read_tokens - step.cache_write_tokens
        lanes = 10 * uncached + step.cache_read_tokens + 20 * step.cache_write_tokens
        assert step.cost == Decimal(lanes + 100 * step.output_tokens) / 1_000_000


def test_what_is_asked_once_is_not_kept(alice: Access, models: FakeModels) -> None:
    from asgiref.sync import async_to_sync

    from teammates.providers import Connection, try_out

    connection = Connection("anthropic", models.url, "sk-test-0123456789", may_be_private=True)
    assert not async_to_sync(try_out)(connection, "ok").error
    assert "cache_control" not in str(models.requests[0]["body"])


def test_tools_are_sent_by_name(alice: Access, models: FakeModels) -> None:
    finish(run_on(alice, models, "anthropic", "ok"))
    names = [tool["name"] for tool in models.requests[0]["body"]["tools"]]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("kind", "model", "conversation"),
    [
        ("openai_compatible", "ok", "messages"),
        ("openai", "gpt-5", "input"),
        ("google", "gemini-3-pro", "contents"),
    ],
)
def test_what_was_sent_before_is_sent_again_as_it_was(
    alice: Access, models: FakeModels, kind: str, model: str, conversation: str
) -> None:
    """So that providers that cache by prefix, without marks, find it."""
    named = {"name": "list_files", "arguments": "{}"}
    call = {"index": 0, "id": "call_1", "type": "function", "function": named}
    calls = {
        "openai_compatible": chat({"tool_calls": [call]}, finish="tool_calls"),
        "openai": response(CALL),
        "google": gemini([{"functionCall": {"name": "list_files", "args": {}}}]),
    }[kind]
    last = {
        "openai_compatible": chat({"content": "Done"}),
        "openai": response(says("Done")),
        "google": gemini([{"text": "Done"}]),
    }[kind]
    models.answers = [calls, calls, calls, last]
    run = finish(run_on(alice, models, kind, model))
    assert run.status == RunStatus.COMPLETED, run.error_message
    bodies = [request["body"] for request in models.requests]
    assert len(bodies) == 4
    for before, after in pairwise(bodies):
        told = before[conversation]
        assert after[conversation][: len(told)] == told
        for name in ("tools", "instructions", "systemInstruction"):
            assert after.get(name) == before.get(name)
