"""The loop, driven in this process: real database, real adapters, a loopback model server."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from config.wakeups import WakeUps
from runs.creation.options import Options
from runs.execution.worker import Worker
from runs.gates import answers
from runs.lifecycle import endings
from runs.models import CallStatus, Channel, Event, Run, RunStatus, Step, StepStatus, ToolCall
from teammates.access import Access
from teammates.llm import catalog
from teammates.models import ModelPrice
from teammates.roster import lookup
from tests.factories import make_run, make_thread
from tests.fake_models import FakeModels, serve
from threads.models import File

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def models() -> Iterator[FakeModels]:
    with serve() as server:
        yield server


def work_until(
    condition: Callable[[], Any], *, meanwhile: Callable[[], None] | None = None
) -> None:
    """Run a worker in this process until `condition` holds."""
    from config.database import in_db

    async def work() -> None:
        wakeups = WakeUps()
        worker = Worker(wakeups)
        tasks = [asyncio.create_task(wakeups.run()), asyncio.create_task(worker.run())]
        try:
            async with asyncio.timeout(90):
                while not await in_db(condition):
                    for task in tasks:
                        if task.done():
                            task.result()
                    await asyncio.sleep(0.02)
                    if meanwhile:
                        await in_db(meanwhile)
        except TimeoutError:
            for task in asyncio.all_tasks():
                task.print_stack()
            raise
        finally:
            worker.stop()
            await asyncio.wait([tasks[1]], timeout=10)
            tasks[0].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(work())


def finish(run: Run) -> Run:
    work_until(lambda: Run.objects.get(pk=run.pk).is_finished)
    return Run.objects.select_related("answer").get(pk=run.pk)


def run_on(access: Access, models: FakeModels, kind: str, model: str, **fields: Any) -> Run:
    """A queued run on a model of the loopback server."""
    base = models.url if kind == "anthropic" else f"{models.url}/v1"
    provider = catalog.create_provider(
        access, name=f"{kind} {model}", kind=kind, api_key="sk-test-0123456789", base_url=base
    )
    catalog.add_model(
        access,
        provider,
        alias=f"{kind}-{model}",
        name=model,
        prices={"uncached_input": "10", "cache_read": "1", "cache_write": "20", "output": "100"},
    )
    return make_run(access, options=Options(model=f"{kind}-{model}"), **fields)


def types(run: Run) -> list[str]:
    return list(Event.objects.filter(run=run).order_by("seq").values_list("type", flat=True))


KINDS = ["openai", "openai_compatible", "ollama", "anthropic"]


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


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
def test_a_tool_call_of_a_real_adapter_is_made_and_told(
    alice: Access, models: FakeModels, kind: str
) -> None:
    run = finish(run_on(alice, models, kind, "tool"))
    assert run.status == RunStatus.COMPLETED, run.error_message
    assert File.objects.get(thread=run.thread).name == "a.txt"
    call = ToolCall.objects.get(run=run)
    assert (call.status, call.arguments) == ("done", {"name": "a.txt", "content": "x"})
    assert len(models.requests) == 2
    order = types(run)
    assert order.index("tool.call") < order.index("file.created") < order.index("tool.result")


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("model", "error_class", "says"),
    [
        ("401", "provider.unauthorized", "Check the key in Models & prices"),
        ("404", "provider.model_not_found", "Choose another in Models & prices"),
        ("400", "provider.rejected", "refused the request"),
    ],
)
def test_a_refusal_of_the_provider_fails_the_run_and_says_what_to_do(
    alice: Access, models: FakeModels, kind: str, model: str, error_class: str, says: str
) -> None:
    run = finish(run_on(alice, models, kind, model))
    assert (run.status, run.error_class) == (RunStatus.FAILED, error_class)
    assert says in run.error_message
    assert len(models.requests) == 1  # the vendor's package retries nothing by itself


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("model", ["once-429", "once-503", "once-reset", "once-truncated"])
def test_a_transient_error_is_retried_as_an_event(
    alice: Access, models: FakeModels, kind: str, model: str
) -> None:
    run = finish(run_on(alice, models, kind, model))
    assert run.status == RunStatus.COMPLETED, run.error_message
    assert len(models.requests) == 2
    assert types(run).count("run.llm.retry") == 1
    assert run.answer is not None
    assert run.answer.content == "Hello wörld"


@pytest.mark.parametrize(
    ("kind", "model", "error_class"),
    [
        ("openai", "429", "provider.rate_limited"),
        ("openai", "503", "provider.overloaded"),
        ("anthropic", "503", "provider.overloaded"),
        ("anthropic", "midstream", "provider.overloaded"),
        ("openai", "truncated", "incomplete_stream"),
        ("anthropic", "truncated", "incomplete_stream"),
        ("openai", "reset", "provider.unreachable"),
        ("openai", "malformed", "provider.malformed"),
        ("openai", "nonsense", ""),
        ("anthropic", "malformed", "provider.malformed"),
    ],
)
def test_what_stays_broken_fails_with_a_class_and_a_sentence(
    alice: Access, models: FakeModels, kind: str, model: str, error_class: str
) -> None:
    run = finish(run_on(alice, models, kind, model))
    assert run.status == RunStatus.FAILED
    assert not error_class or run.error_class == error_class
    assert run.error_message.endswith((".", "…"))


def test_an_unreachable_server_fails_with_a_sentence(alice: Access, models: FakeModels) -> None:
    run = run_on(alice, models, "openai_compatible", "ok")
    assert run.route is not None
    run.route.provider.base_url = "http://127.0.0.1:1/v1"
    run.route.provider.save()
    run = finish(run)
    assert run.error_class == "provider.unreachable"


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


def test_a_run_that_is_at_work_for_too_long_is_stopped_with_what_it_said(
    alice: Access, models: FakeModels, settings: Any
) -> None:
    settings.RUN_SECONDS = 0.5
    run = finish(run_on(alice, models, "openai", "slow"))
    assert (run.status, run.error_class) == (RunStatus.FAILED, "run.too_long")
    assert (run.output_tokens or 0) > 0
    assert Step.objects.get(run=run).status != StepStatus.RUNNING


def test_a_tool_call_with_bad_arguments_is_told_and_bounded(
    alice: Access, models: FakeModels
) -> None:
    """Trap 5.4."""
    for model, wrong in (("badtool", "are not JSON"), ("unknowntool", "there is no tool")):
        run = finish(run_on(alice, models, "openai", model))
        assert (run.status, run.error_class) == (RunStatus.FAILED, "model.bad_tool_calls")
        errors = set(ToolCall.objects.filter(run=run).values_list("error", flat=True))
        assert all(wrong in error for error in errors)
        assert not File.objects.exists()


def test_max_turns_is_a_bound(alice: Access, models: FakeModels) -> None:
    options = Options(model="demo", max_turns=1)
    run = finish(make_run(alice, message="todo file", options=options))
    assert (run.status, run.error_class) == (RunStatus.FAILED, "run.max_turns")


def test_no_price_means_no_cost_rather_than_a_wrong_one(alice: Access, models: FakeModels) -> None:
    run = run_on(alice, models, "openai", "ok")
    ModelPrice.objects.filter(model=run.route).delete()
    run = finish(run)
    assert run.status == RunStatus.COMPLETED
    assert (run.cost, run.credits_used) == (None, None)


def test_a_question_waits_without_a_worker_and_goes_on(alice: Access) -> None:
    run = make_run(alice, message="ask me something")
    work_until(lambda: Run.objects.get(pk=run.pk).status == RunStatus.WAITING)
    run.refresh_from_db()
    assert (run.worker, run.lease_until) == ("", None)
    answers.answer_text(alice, run, "Medium")
    run = finish(run)
    assert run.answer is not None
    assert "Medium" in run.answer.content
    order = types(run)
    assert order.index("tool.call") < order.index("run.waiting_for_input")
    assert order.index("run.input_provided") < order.index("tool.result")


@pytest.mark.parametrize("allow", [True, False])
def test_an_approval_is_asked_before_the_call(alice: Access, allow: bool) -> None:
    run = make_run(alice, message="approve it")
    work_until(lambda: Run.objects.get(pk=run.pk).status == RunStatus.WAITING)
    assert "tool.call" not in types(run)
    run.refresh_from_db()
    answers.answer_text(alice, run, "approve" if allow else "deny: because")
    run = finish(run)
    assert run.answer is not None
    assert ("tool.result" in types(run)) == allow
    assert ("tool.denied" in types(run)) == (not allow)
    assert ("because" in run.answer.content) == (not allow)


def test_a_teammate_that_asks_first_asks_before_it_writes(alice: Access) -> None:
    careful = lookup.get_persona(alice, "work")[0]
    run = make_run(alice, message="file plan.txt", teammate=careful)
    work_until(lambda: Run.objects.get(pk=run.pk).status == RunStatus.WAITING)
    assert not File.objects.exists()
    run.refresh_from_db()
    answers.answer_text(alice, run, "yes")
    finish(run)
    assert File.objects.get().name == "plan.txt"


def test_a_flaky_provider_is_retried_and_nothing_is_billed_for_the_failure(alice: Access) -> None:
    run = finish(make_run(alice, message="flaky please"))
    assert run.status == RunStatus.COMPLETED
    assert types(run).count("run.llm.retry") == 1
    failed, worked = Step.objects.filter(run=run).order_by("number")
    assert (failed.status, failed.input_tokens, failed.cost) == ("stopped", 0, 0)
    assert worked.status == "done"


def test_only_a_run_that_nobody_watches_waits_for_a_swamped_provider(alice: Access) -> None:
    watched = finish(make_run(alice, message="swamped"))
    assert watched.status == RunStatus.FAILED
    assert types(watched).count("run.llm.retry") == 3
    alone = finish(make_run(alice, message="swamped", channel=Channel.SCHEDULE))
    assert alone.status == RunStatus.COMPLETED
    assert types(alone).count("run.llm.retry") == 5
    retry = Event.objects.filter(run=alone, type="run.llm.retry").order_by("seq")[3].data
    assert (retry["attempt"], retry["max_attempts"]) == (4, 7)


def test_runs_that_stop_are_handed_back_with_what_was_finished(alice: Access) -> None:
    run = make_run(alice, message="todo slow 400 20ms")
    work_until(lambda: Event.objects.filter(run=run, type="message.delta", data__step=3).exists())
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED
    released = Event.objects.get(run=run, type="run.attempt.released").data
    assert released["void_step"] == 3
    assert Step.objects.filter(run=run, status="done").count() == 2


def test_history_is_the_thread_with_each_answer_behind_its_question(alice: Access) -> None:
    from runs.execution import context

    thread = make_thread(alice)
    first = make_run(alice, thread=thread, message="first thing")
    second = make_run(alice, thread=thread, message="second thing")
    work_until(lambda: Run.objects.get(pk=second.pk).is_finished)
    third = make_run(alice, thread=thread, message="third thing")
    said = [getattr(s, "text", "") for s in context.conversation(third, context.request_of(third))]
    assert said[0] == "first thing"
    assert "first thing" in said[1]
    assert said[2] == "second thing"
    assert said[-1] == "third thing"
    assert first.position < second.position
