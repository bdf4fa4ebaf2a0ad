"""A run that owes a result: who can hold its model to the form is asked to."""

import json
from typing import Any

import pytest

from runs.creation.options import Options
from runs.models import Run, RunStatus
from teammates.access import Access
from teammates.llm import catalog
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
# A form that no vendor holds a model to, though its tools may be exact.
IN_PART = SCHEMA | {"properties": {"total": {"type": "integer", "minimum": 0}}}
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
    models.answers = list(answers)
    base = models.url if kind in ("anthropic", "google") else f"{models.url}/v1"
    provider = catalog.create_provider(
        access, name=kind, kind=kind, api_key="sk-0123456789", base_url=base
    )
    catalog.add_model(access, provider, alias="m", name=model)
    run = finish(make_run(access, options=Options(model="m", output_schema=schema)))
    assert run.status == RunStatus.COMPLETED, run.error_message
    assert run.output_data == {"total": 3}
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


def test_a_closing_answer_that_misses_the_form_is_no_result(
    alice: Access, models: FakeModels
) -> None:
    models.answers = [chat({"content": '{"total": "three"}'})]
    provider = catalog.create_provider(
        alice, name="o", kind="openai", api_key="sk-0123456789", base_url=f"{models.url}/v1"
    )
    catalog.add_model(alice, provider, alias="m", name="gpt-4.1")
    run = finish(make_run(alice, options=Options(model="m", output_schema=SCHEMA)))
    assert (run.status, run.output_data) == (RunStatus.COMPLETED, None)


def strict(models: FakeModels, number: int) -> dict[str, Any]:
    tools = models.requests[number]["body"]["tools"]
    named = [tool.get("function", tool) for tool in tools]
    return {tool["name"]: tool.get("strict") for tool in named}


def test_anthropic_is_asked_to_hold_the_model_to_the_form_of_a_call(
    alice: Access, models: FakeModels
) -> None:
    answers = (calls_anthropic(), says("Done"))
    owing(alice, models, "anthropic", MODEL, *answers, schema=IN_PART)
    asked = strict(models, 0)
    assert asked.pop("submit_result") is True
    assert not any(asked.values())


@pytest.mark.parametrize(
    "said",
    ["tools.3.strict: Extra inputs are not permitted", "Schema is too complex for compilation"],
)
def test_where_that_is_refused_it_is_asked_without(
    alice: Access, models: FakeModels, said: str
) -> None:
    no = refused(400, said)
    answers = (no, calls_anthropic(), says("Done"))
    owing(alice, models, "anthropic", MODEL, *answers, schema=IN_PART)
    assert [strict(models, n)["submit_result"] for n in range(3)] == [True, None, None]


def test_of_a_model_that_is_held_to_nothing_it_is_asked_in_the_end_without(
    alice: Access, models: FakeModels
) -> None:
    no = refused(400, "This model does not support structured outputs")
    owing(alice, models, "anthropic", MODEL, no, no, calls_anthropic(), says("Done"))
    forms = [form_of(request["body"]) is not None for request in models.requests]
    assert forms == [True, False, False, False]
    assert [strict(models, n)["submit_result"] for n in (1, 2, 3)] == [True, None, None]


def test_an_older_model_is_not_asked(alice: Access, models: FakeModels) -> None:
    owing(alice, models, "anthropic", "claude-3-haiku", calls_anthropic(), says("Done"))
    assert strict(models, 0)["submit_result"] is None
