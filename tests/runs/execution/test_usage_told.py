"""What each kind of provider tells of a call's usage, as it tells it, and which lanes that is."""

from typing import Any

import pytest

from runs.models import RunStatus, Step
from teammates.access import Access
from tests.factories import browser_of
from tests.fake_models import (
    CHUNK,
    USED_MESSAGE,
    FakeModels,
    chat,
    gemini,
    message,
    response,
    sse,
)
from tests.runs.execution.working import finish, run_on

pytestmark = pytest.mark.django_db(transaction=True)
CACHED = {"prompt_tokens_details": {"cached_tokens": 60}}
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hi.", "annotations": []}],
}
THOUGHT = {"completion_tokens_details": {"reasoning_tokens": 30}}
PLAIN = {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}
# Kind, model, what it tells; uncached input, read from and written to the cache, output, reasoning.
TOLD: list[tuple[str, str, dict[str, Any], tuple[int, int, int, int, int]]] = [
    ("openai", "gpt-4.1", PLAIN | CACHED, (40, 60, 0, 40, 0)),
    ("azure", "gpt-4.1", PLAIN | CACHED, (40, 60, 0, 40, 0)),
    ("openai_compatible", "llama", PLAIN, (100, 0, 0, 40, 0)),
    ("openai_compatible", "qwen", PLAIN | CACHED | THOUGHT, (40, 60, 0, 40, 30)),
    ("ollama", "llama3", PLAIN, (100, 0, 0, 40, 0)),
    ("groq", "openai/gpt-oss-120b", PLAIN | CACHED | THOUGHT, (40, 60, 0, 40, 30)),
    ("mistral", "mistral-large-latest", PLAIN, (100, 0, 0, 40, 0)),
    (
        "deepseek",
        "deepseek-chat",
        PLAIN | CACHED | {"prompt_cache_hit_tokens": 60, "prompt_cache_miss_tokens": 40},
        (40, 60, 0, 40, 0),
    ),
    (
        "openrouter",
        "anthropic/claude-sonnet-4.5",
        PLAIN | {"prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10}},
        (30, 60, 10, 40, 0),
    ),
    ("bedrock", "openai.gpt-oss-120b-1:0", PLAIN, (100, 0, 0, 40, 0)),
    # What it thought is not a part of what it tells of its output, but of the total.
    ("xai", "grok-4", PLAIN | CACHED | THOUGHT | {"total_tokens": 170}, (40, 60, 0, 70, 30)),
]


@pytest.mark.parametrize(("kind", "model", "told", "lanes"), TOLD)
def test_each_token_is_in_one_lane(
    alice: Access,
    models: FakeModels,
    kind: str,
    model: str,
    told: dict[str, Any],
    lanes: tuple[int, int, int, int, int],
) -> None:
    status, headers, pieces = chat({"content": "Hello"}, usage=False, done=False)
    last = sse(CHUNK | {"choices": [], "usage": told})
    models.answer = lambda body: (status, headers, [*pieces, last, sse("[DONE]")])
    run = finish(run_on(alice, models, kind, model))
    assert run.status == RunStatus.COMPLETED, run.error_message
    step = Step.objects.get(run=run)
    read, written = step.cache_read_tokens, step.cache_write_tokens
    found = step.input_tokens - read - written, read, written, step.output_tokens
    assert (*found, step.reasoning_tokens) == lanes
    assert sum(found) == told["total_tokens"]
    assert step.usage_told == told


@pytest.mark.parametrize(
    ("kind", "model", "answer", "told"),
    [
        (
            "anthropic",
            "ok",
            message(({"type": "text", "text": ""}, [{"type": "text_delta", "text": "Hi."}])),
            USED_MESSAGE | {"output_tokens": 7},
        ),
        (
            "google",
            "gemini-2.5-pro",
            gemini([{"text": "Hi."}], thoughtsTokenCount=5, totalTokenCount=112),
            {
                "promptTokenCount": 100,
                "candidatesTokenCount": 7,
                "totalTokenCount": 112,
                "thoughtsTokenCount": 5,
            },
        ),
        (
            "openai",
            "gpt-5",
            response(SAID),
            {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 60},
                "output_tokens": 7,
                "output_tokens_details": {"reasoning_tokens": 3},
                "total_tokens": 107,
            },
        ),
    ],
)
def test_what_was_told_is_kept_word_for_word(
    alice: Access, models: FakeModels, kind: str, model: str, answer: Any, told: dict[str, Any]
) -> None:
    models.answer = lambda body: answer
    run = finish(run_on(alice, models, kind, model))
    step = Step.objects.get(run=run)
    assert step.usage_told == told
    page = browser_of(alice).get(f"/runs/{run.pk}/steps/{step.number}/").content.decode()
    assert "Usage, as the provider told it" in page


def test_usage_that_cannot_be_stored_takes_no_answer_along(
    alice: Access, models: FakeModels
) -> None:
    status, headers, pieces = chat({"content": "Hello"}, usage=False, done=False)
    told = PLAIN | {"tier": "a\x00b\ud800", "share": float("nan")}
    last = sse(CHUNK | {"choices": [], "usage": told})
    models.answer = lambda body: (status, headers, [*pieces, last, sse("[DONE]")])
    run = finish(run_on(alice, models, "openai_compatible", "llama"))
    assert run.status == RunStatus.COMPLETED, run.error_message
    step = Step.objects.get(run=run)
    assert step.usage_told["tier"] == "a\ufffdb\ufffd"
    assert (step.input_tokens, step.output_tokens) == (100, 40)
