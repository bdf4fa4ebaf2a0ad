"""When a model cannot: its fallback, its ceiling, its window."""

from collections.abc import Iterator
from typing import Any

import pytest

from runs.creation import options
from runs.models import Event, Run, Step
from teammates.access import Access
from teammates.errors import Invalid
from teammates.llm import catalog
from teammates.models import Model
from tests.factories import make_run
from tests.fake_models import FakeModels, serve
from tests.runs.test_execution import finish, types

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def models() -> Iterator[FakeModels]:
    with serve() as server:
        yield server


def add_model(access: Access, models: FakeModels, name: str, **limits: Any) -> Model:
    access.organization.is_home = True
    access.organization.save()
    provider = catalog.create_provider(
        access, name=f"Fake {name}", kind="openai_compatible", base_url=f"{models.url}/v1"
    )
    model = catalog.add_model(access, provider, alias=name, name=name)
    Model.objects.filter(pk=model.pk).update(**limits)
    return Model.objects.select_related("provider__organization").get(pk=model.pk)


def fall_back(access: Access, model: Model, to: Model | None) -> None:
    catalog.update_model(
        access,
        model,
        fallback=to,
        max_effort=model.max_effort,
        context_window=model.context_window,
    )


def on(access: Access, model: Model, **fields: Any) -> Run:
    return make_run(access, options=options.Options(model=model.alias, **fields))


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


def test_effort_is_clamped_to_the_models_ceiling(alice: Access, models: FakeModels) -> None:
    model = add_model(alice, models, "ok", max_effort="medium")
    run = finish(on(alice, model, effort="max"))
    step = Step.objects.get(run=run)
    assert (run.effort, step.request["effort"]) == ("max", "medium")


def test_a_conversation_that_nears_the_window_is_summarised_and_shorter(alice: Access) -> None:
    Model.objects.filter(alias="demo").update(context_window=400)
    message = "todo file notes.txt " + "and more words " * 20
    first = finish(make_run(alice, message=message))
    Model.objects.filter(alias="demo").update(context_window=220)
    run = finish(make_run(alice, message="read it " + "x " * 40, thread=first.thread))
    assert run.status == "completed", run.error_message
    event = Event.objects.filter(run=run, type="run.context_compacted").first()
    assert event is not None
    assert event.data["after_tokens"] < event.data["before_tokens"]
    assert "Done so far" in event.data["summary"]
    compaction = Step.objects.filter(run=run, kind="compaction").first()
    assert compaction is not None
    assert compaction.output_tokens > 0
    later = Step.objects.filter(run=run, kind="model", number__gt=compaction.number).first()
    assert later is not None
    assert "Summary of what came before" in str(later.request["conversation"][0])


def test_a_summary_that_is_no_shorter_is_not_used(alice: Access) -> None:
    Model.objects.filter(alias="demo").update(context_window=30)
    first = finish(make_run(alice, message="a b"))
    run = finish(make_run(alice, message="c d", thread=first.thread))
    assert run.status == "completed"
    for step in Step.objects.filter(run=run, kind="compaction"):
        events = Event.objects.filter(run=run, type="run.context_compacted")
        assert (step.covers_until is not None) == events.exists()
    for event in Event.objects.filter(run=run, type="run.context_compacted"):
        assert event.data["after_tokens"] < event.data["before_tokens"]
