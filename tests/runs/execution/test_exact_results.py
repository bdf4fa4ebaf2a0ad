"""A run that owes a result: who can hold its model to the form is asked to."""

import json
from typing import Any

import pytest

from runs.creation.options import Options
from runs.models import Run, RunStatus
from teammates.access import Access
from teammates.llm import catalog
from teammates.providers.adapting import is_for_good
from tests.factories import browser_of, make_run
from tests.fake_models import FakeModels, chat, gemini, message, refused, response
from tests.runs.execution.working import finish

pytestmark = pytest.mark.django_db(transaction=True)
SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "integer"}},
    "required": ["total"],
    "additionalProperties": False,
}
MODEL = "claude-sonnet-5-5"
HOLD = [
    ("anthropic", MODEL),
    ("openai", "gpt-5"),
    ("openai", "gpt-4.1"),
    ("azure", "gpt-4.1"),
    ("google", "gemini-3-pro-preview"),
]


def calls_anthropic() -> Any:
    call = {"type": "tool_use", "id": "t1", "name": "submit_result", "input": {}}
    return message(
        (call, [{"type": "input_json_delta", "partial_json": '{"total": 3}'}]), stop="tool_use"
    )


def says(text: str) -> Any:
    return message(({"type": "text", "text": ""}, [{"type": "text_delta", "text": text}]))


def calls_openai() -> Any:
    call = {"name": "submit_result", "arguments": '{"total": 3}'}
    return chat({"tool_calls": [{"index": 0, "id": "c1", "function": call}]}, finish="tool_calls")


def in_form(kind: str, model: str) -> Any:
    """A closing answer that is the result."""
    text = json.dumps({"total": 3})
    if kind == "anthropic":
        return says(text)
    if kind == "google":
        return gemini([{"text": text}])
    if model == "gpt-5":
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"type": "message", "id": "m1", "role": "assistant", "status": "completed"}
        return response(item | {"content": [part]})
    return chat({"content": text})


def form_of(body: dict[str, Any]) -> Any:
    """The JSON schema that an answer is asked to have, wherever a vendor wants it said."""
    if "response_format" in body:
        return body["response_format"]["json_schema"]["schema"]
    if "generationConfig" in body:
        return body["generationConfig"].get("responseJsonSchema")
    for name in ("text", "output_config"):
        if "format" in body.get(name, {}):
            return body[name]["format"]["schema"]
    return None


def owing(
    access: Access,
    models: FakeModels,
    kind: str,
    model: str,
    *answers: Any,
    schema: dict[str, Any] = SCHEMA,
) -> Run:
    """A run that owes a result, and gave it."""
    models.answers = list(answers)
    run = finished(access, models, kind, model, schema)
    assert run.output_data == {"total": 3}
    return run


def finished(
    access: Access, models: FakeModels, kind: str, model: str, schema: dict[str, Any] = SCHEMA
) -> Run:
    base = models.url if kind in ("anthropic", "google") else f"{models.url}/v1"
    provider = catalog.create_provider(
        access, name=kind, kind=kind, api_key="sk-0123456789", base_url=base
    )
    catalog.add_model(access, provider, alias="m", name=model)
    run = finish(make_run(access, options=Options(model="m", output_schema=schema)))
    assert run.status == RunStatus.COMPLETED, run.error_message
    return run


@pytest.mark.parametrize(("kind", "model"), HOLD)
def test_who_can_closes_with_an_answer_in_the_form(
    alice: Access, models: FakeModels, kind: str, model: str
) -> None:
    run = owing(alice, models, kind, model, in_form(kind, model))
    [request] = models.requests
    assert form_of(request["body"])["properties"].keys() == {"total"}
    assert "submit_result" not in json.dumps(request["body"].get("tools"))
    assert run.answer is not None
    assert run.answer.content == '{"total": 3}'
    page = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    assert '<code class="language-json">' in page  # and no prose


def test_a_model_that_cannot_gives_it_as_a_call(alice: Access, models: FakeModels) -> None:
    owing(alice, models, "anthropic", "claude-3-haiku", calls_anthropic(), says("Done"))
    assert form_of(models.requests[0]["body"]) is None


@pytest.mark.parametrize("kind", ["openai_compatible", "mistral", "groq"])
def test_servers_that_drop_their_tools_for_a_form_are_not_asked_for_one(
    alice: Access, models: FakeModels, kind: str
) -> None:
    owing(alice, models, kind, "gpt-4.1", calls_openai(), chat({"content": "Done"}))
    assert form_of(models.requests[0]["body"]) is None


@pytest.mark.parametrize(
    "said",
    [
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported",
        "Invalid schema for response_format 'result'",
    ],
)
def test_where_a_form_is_refused_the_result_is_a_call(
    alice: Access, models: FakeModels, said: str
) -> None:
    refusal = refused(400, said)
    owing(alice, models, "openai", "gpt-4.1", refusal, calls_openai(), chat({"content": "Done"}))
    forms = [form_of(request["body"]) for request in models.requests]
    assert [form is None for form in forms] == [False, True, True]


@pytest.mark.parametrize(
    "missing",
    [
        chat({"content": '{"total": "three"}'}),
        chat({"content": '{"total": 3'}, finish="length"),
        chat({"content": "It is three."}),
    ],
)
def test_a_closing_answer_without_the_result_is_asked_once_more_for_it(
    alice: Access, models: FakeModels, missing: Any
) -> None:
    run = owing(alice, models, "openai", "gpt-4.1", missing, calls_openai(), chat({"content": "3"}))
    forms = [form_of(request["body"]) is not None for request in models.requests]
    assert forms[:2] == [True, False]  # and then, as of every model, as a call
    assert run.answer is not None
    assert run.answer.content == "3"
    assert run.steps.filter(error__contains="without the result").count() == 1


def test_what_never_comes_ends_the_run_without_it(alice: Access, models: FakeModels) -> None:
    run = closed(alice, models, lambda body: chat({"content": "It is three."}))
    assert (run.status, run.output_data) == (RunStatus.COMPLETED, None)
    assert len(models.requests) == 2


def test_a_refusal_is_not_asked_again(alice: Access, models: FakeModels) -> None:
    run = closed(alice, models, lambda body: chat({"refusal": "I will not."}))
    assert (run.status, run.output_data) == (RunStatus.COMPLETED, None)
    assert len(models.requests) == 1


def closed(access: Access, models: FakeModels, answer: Any) -> Run:
    """A run that owes a result, of a model that always answers so."""
    models.answer = answer
    return finished(access, models, "openai", "gpt-4.1")


def test_a_schema_that_is_refused_says_nothing_about_the_next() -> None:
    assert not is_for_good("Invalid schema for response_format 'result': too complex")
    assert is_for_good("'response_format' of type 'json_schema' is not supported")
    assert is_for_good("This model does not support structured outputs")


ODD: list[dict[str, Any]] = [
    {"total": {"type": "integer"}, "note": {"type": ["string", "null"]}},
    {"total": {"type": "integer"}, "note": {}},
    {"total": {"type": "integer"}, "note": True},
    {"total": {"type": "integer"}, "note": {"properties": {"a": {"type": "string"}}}},
    {"total": {"type": "integer", "minimum": 0}},
]


@pytest.mark.parametrize("properties", ODD)
@pytest.mark.parametrize(("kind", "model"), [("anthropic", MODEL), ("openai", "gpt-4.1")])
def test_what_no_vendor_holds_a_model_to_is_a_call(
    alice: Access, models: FakeModels, kind: str, model: str, properties: dict[str, Any]
) -> None:
    called = calls_anthropic() if kind == "anthropic" else calls_openai()
    done = says("Done") if kind == "anthropic" else chat({"content": "Done"})
    schema = {"type": "object", "properties": properties, "required": ["total"]}
    owing(alice, models, kind, model, called, done, schema=schema)
    assert form_of(models.requests[0]["body"]) is None
