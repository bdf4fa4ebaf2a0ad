"""A model that failed: tried again, another one instead, or the end of the run."""

import pytest

from runs.models import Channel, Event, RunStatus, Step
from teammates.access import Access
from teammates.errors import Invalid
from teammates.models import Model
from tests.factories import make_run
from tests.fake_models import FakeModels
from tests.runs.execution.falling_back import add_model, fall_back, on
from tests.runs.execution.working import finish, run_on, types

pytestmark = pytest.mark.django_db(transaction=True)


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


def test_a_model_that_cannot_answer_is_replaced_by_its_fallback(
    alice: Access, models: FakeModels
) -> None:
    broken, ok = add_model(alice, models, "401"), add_model(alice, models, "ok")
    fall_back(alice, broken, ok)
    run = finish(on(alice, broken))
    assert run.status == "completed", run.error_message
    assert run.answer is not None
    assert run.answer.content == "Hello wörld"
    event = Event.objects.get(run=run, type="run.provider_fallback").data
    assert (event["from_model"], event["to_model"]) == ("401", "ok")
    assert types(run).count("run.route.selected") == 2


def test_a_transient_error_is_retried_before_the_fallback_takes_over(
    alice: Access, models: FakeModels
) -> None:
    busy, ok = add_model(alice, models, "503"), add_model(alice, models, "ok")
    fall_back(alice, busy, ok)
    run = finish(on(alice, busy))
    assert run.status == "completed"
    assert types(run).count("run.llm.retry") == 3
    assert len(models.requests) == 5


def test_a_refused_request_is_not_sent_to_another_model(alice: Access, models: FakeModels) -> None:
    picky, ok = add_model(alice, models, "400"), add_model(alice, models, "ok")
    fall_back(alice, picky, ok)
    run = finish(on(alice, picky))
    assert (run.status, run.error_class) == ("failed", "provider.rejected")


def test_a_chain_of_fallbacks_ends_and_a_circle_is_refused(
    alice: Access, models: FakeModels
) -> None:
    first, second = add_model(alice, models, "401"), add_model(alice, models, "404")
    fall_back(alice, first, second)
    with pytest.raises(Invalid, match="come back to itself"):
        fall_back(alice, second, first)
    run = finish(on(alice, first))
    assert (run.status, run.error_class) == ("failed", "provider.model_not_found")
    sonnet = Model.objects.get(alias="sonnet")  # has no key: passed over
    ok = add_model(alice, models, "ok")
    fall_back(alice, sonnet, ok)
    fall_back(alice, second, sonnet)
    assert finish(on(alice, first)).status == "completed"
