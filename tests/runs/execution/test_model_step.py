"""One call of a model, streamed as events and written down."""

import json
from typing import Any

import pytest

from runs.creation.options import Options
from runs.lifecycle import endings
from runs.models import CallStatus, Event, Run, RunStatus, Step, ToolCall
from teammates.access import Access
from tests.factories import make_run
from tests.fake_models import FakeModels
from tests.runs.execution.falling_back import add_model, on
from tests.runs.execution.working import KINDS, finish, run_on, work_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_adapter_streams_and_books_usage(
    alice: Access, models: FakeModels, kind: str
) -> None:
    run = finish(run_on(alice, models, kind, "ok"))
    assert run.status == RunStatus.COMPLETED, run.error_message
    assert run.answer is not None
    assert run.answer.content == "Hello wörld"
    assert (run.input_tokens, run.output_tokens, run.cache_read_tokens) == (100, 7, 40)
    cached_write = 10 if kind == "anthropic" else 0
    cost = ((100 - 40 - cached_write) * 10 + 40 * 1 + cached_write * 20 + 7 * 100) / 1_000_000
    assert float(run.cost or 0) == pytest.approx(cost, abs=1e-6)
    assert not run.usage_estimated
    assert "sk-test-0123456789" in str(models.requests[0]["headers"])
    assert "sk-test" not in str(list(Event.objects.values_list("data", flat=True)))


@pytest.mark.parametrize("piece", ['"', "\x01", "🙂"], ids=["quotes", "controls", "emoji"])
def test_no_text_is_too_wide_for_the_log(alice: Access, models: FakeModels, piece: str) -> None:
    wide = json.dumps({"name": "wide.txt", "content": piece * 17_000}, ensure_ascii=False)
    todos = json.dumps({"items": [{"text": piece * 150, "done": False}] * 100}, ensure_ascii=False)
    calls = {"write_file": wide, "read_file": '{"name": "wide.txt"}', "update_todos": todos}
    asked = [f"CALL {name} {arguments}" for name, arguments in calls.items()]
    run = run_on(alice, models, "openai", "obeys", message="\n".join([piece * 11_000, *asked]))
    assert finish(run).status == RunStatus.COMPLETED
    made = ToolCall.objects.filter(run=run).order_by("pk").values_list("name", "status")
    assert list(made) == [(name, CallStatus.DONE) for name in calls]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_thinking_is_streamed_apart_from_the_answer(
    alice: Access, models: FakeModels, kind: str
) -> None:
    run = finish(run_on(alice, models, kind, "think"))
    deltas = [e.data for e in Event.objects.filter(run=run, type="message.delta").order_by("seq")]
    thoughts = "".join(d["content_delta"] for d in deltas if d.get("channel") == "thinking")
    assert thoughts == "Hmm, yes."
    assert run.answer is not None
    assert run.answer.content == "Hello wörld"


def test_a_missing_key_fails_with_the_place_to_set_it(alice: Access) -> None:
    run = finish(make_run(alice, options=Options(model="sonnet")))
    assert (run.status, run.error_class) == (RunStatus.FAILED, "config.missing")
    assert "Models & prices" in run.error_message


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_cancelled_call_hangs_up_and_books_an_estimate(
    alice: Access, models: FakeModels, kind: str
) -> None:
    run = run_on(alice, models, kind, "slow")

    def cancel_once_it_speaks() -> None:
        if Event.objects.filter(run=run, type="message.delta").exists():
            endings.cancel_run(Run.objects.get(pk=run.pk), by=alice.user)

    work_until(lambda: Run.objects.get(pk=run.pk).is_finished, meanwhile=cancel_once_it_speaks)
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED
    assert run.usage_estimated
    assert (run.output_tokens or 0) > 0
    assert run.cost
    assert models.hung_up.wait(10)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_model_that_drips_for_ever_is_given_up(
    alice: Access, models: FakeModels, kind: str, settings: Any, monkeypatch: Any
) -> None:
    settings.MODEL_CALL_SECONDS = 0.3
    run = finish(run_on(alice, models, kind, "slow"))
    assert (run.status, run.error_class) == (RunStatus.FAILED, "provider.too_slow")
    assert "MUSTER_MODEL_CALL_SECONDS" in run.error_message
    assert (run.output_tokens or 0) > 0
    assert models.hung_up.wait(10)


def test_effort_is_clamped_to_the_models_ceiling(alice: Access, models: FakeModels) -> None:
    model = add_model(alice, models, "ok", max_effort="medium")
    run = finish(on(alice, model, effort="max"))
    step = Step.objects.get(run=run)
    assert (run.effort, step.request["effort"]) == ("max", "medium")
