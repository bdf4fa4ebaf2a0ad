"""A run that owes a result: who can hold its model to the form is asked to."""

from typing import Any

import pytest

from runs.creation.options import Options
from runs.models import Run, RunStatus
from teammates.access import Access
from teammates.llm import catalog
from tests.factories import make_run
from tests.fake_models import FakeModels, chat, message, refused
from tests.runs.execution.working import finish

pytestmark = pytest.mark.django_db(transaction=True)
SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "integer"}},
    "required": ["total"],
    "additionalProperties": False,
}
MODEL = "claude-sonnet-5-5"


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


def owing(access: Access, models: FakeModels, kind: str, model: str, *answers: Any) -> Run:
    models.answers = list(answers)
    base = models.url if kind == "anthropic" else f"{models.url}/v1"
    provider = catalog.create_provider(
        access, name=kind, kind=kind, api_key="sk-0123456789", base_url=base
    )
    catalog.add_model(access, provider, alias="m", name=model)
    run = finish(make_run(access, options=Options(model="m", output_schema=SCHEMA)))
    assert run.status == RunStatus.COMPLETED, run.error_message
    assert run.output_data == {"total": 3}
    return run


def strict(models: FakeModels, number: int) -> dict[str, Any]:
    tools = models.requests[number]["body"]["tools"]
    named = [tool.get("function", tool) for tool in tools]
    return {tool["name"]: tool.get("strict") for tool in named}


def test_anthropic_is_asked_to_hold_the_model_to_the_form(
    alice: Access, models: FakeModels
) -> None:
    owing(alice, models, "anthropic", MODEL, calls_anthropic(), says("Done"))
    asked = strict(models, 0)
    assert asked.pop("submit_result") is True
    assert not any(asked.values())


def test_openai_is_too(alice: Access, models: FakeModels) -> None:
    owing(alice, models, "openai", "gpt-4.1", calls_openai(), chat({"content": "Done"}))
    assert strict(models, 0)["submit_result"] is True


@pytest.mark.parametrize(
    "said",
    ["tools.3.strict: Extra inputs are not permitted", "Schema is too complex for compilation"],
)
def test_where_that_is_refused_it_is_asked_without(
    alice: Access, models: FakeModels, said: str
) -> None:
    no = refused(400, said)
    owing(alice, models, "anthropic", MODEL, no, calls_anthropic(), says("Done"))
    assert [strict(models, n)["submit_result"] for n in range(3)] == [True, None, None]


def test_an_older_model_is_not_asked(alice: Access, models: FakeModels) -> None:
    owing(alice, models, "anthropic", "claude-3-haiku", calls_anthropic(), says("Done"))
    assert strict(models, 0)["submit_result"] is None
