"""What each kind of provider tells of a call's usage, as it tells it, and which lanes that is."""

from typing import Any

import pytest

from runs.models import RunStatus, Step
from teammates.access import Access
from tests.fake_models import CHUNK, FakeModels, chat, sse
from tests.runs.execution.working import finish, run_on

pytestmark = pytest.mark.django_db(transaction=True)
CACHED = {"prompt_tokens_details": {"cached_tokens": 60}}
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
