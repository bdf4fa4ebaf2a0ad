"""OpenAI's Responses API: models that reason carry what they thought from step to step."""

import json
from typing import Any

import pytest

from runs.creation.options import Options
from runs.models import Run, RunStatus, Step
from teammates.access import Access
from tests.factories import browser_of, make_run
from tests.fake_models import FakeModels, chat, refused, response
from tests.runs.execution.working import finish, run_on

pytestmark = pytest.mark.django_db(transaction=True)
MODEL = "gpt-5"
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "I look at the files first."}],
    "encrypted_content": "gAAAA-sealed",
}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "list_files",
    "arguments": "{}",
    "status": "completed",
}


def says(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def answered(access: Access, models: FakeModels, *answers: Any, **options: Any) -> Run:
    if len(answers) == 1:  # whoever calls again, since the first call broke off, hears the same
        models.answer = lambda body: answers[0]
    else:
        models.answers = list(answers)
    run = run_on(access, models, "openai", MODEL)
    if options:
        run.delete()
        run = make_run(access, options=Options(model=f"openai-{MODEL}", **options))
    run = finish(run)
    steps = list(run.steps.order_by("number").values_list("status", "error"))
    assert run.status == RunStatus.COMPLETED, (run.error_message, steps)
    return run


def test_what_it_thought_goes_back_sealed_with_the_next_step(
    alice: Access, models: FakeModels
) -> None:
    # By what it was sent: a call that breaks off is made again.
    models.answer = lambda body: (
        response(THOUGHT, says("There are no files."))
        if body["input"][-1].get("type") == "function_call_output"
        else response(THOUGHT, CALL)
    )
    run = answered(alice, models)
    assert run.answer is not None
    assert run.answer.content == "There are no files."
    first, second = models.requests[0], models.requests[-1]
    assert first["path"].endswith("/responses")
    assert first["body"]["store"] is False
    assert first["body"]["include"] == ["reasoning.encrypted_content"]
    assert first["body"]["reasoning"]["summary"] == "auto"
    kinds = [item.get("type", "message") for item in second["body"]["input"]]
    assert kinds[-3:] == ["reasoning", "function_call", "function_call_output"]
    sent = second["body"]["input"][-3]
    assert (sent["id"], sent["encrypted_content"]) == ("rs_1", "gAAAA-sealed")


def test_summaries_are_shown_as_thinking(alice: Access, models: FakeModels) -> None:
    run = answered(alice, models, response(THOUGHT, says("Hello")))
    page = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    assert "I look at the files first." in page


def test_every_lane_is_counted(alice: Access, models: FakeModels) -> None:
    run = answered(alice, models, response(says("Hello")))
    step = Step.objects.get(run=run)
    assert (step.input_tokens, step.cache_read_tokens, step.output_tokens) == (100, 60, 7)


def test_what_it_told_besides_is_kept_and_reasoning_is_told_apart(
    alice: Access, models: FakeModels
) -> None:
    run = answered(alice, models, response(THOUGHT, says("Hi.")))
    step = run.steps.get()
    assert step.usage_details is not None
    assert step.usage_details["reasoning_tokens"] == step.reasoning_tokens == 3
    page = browser_of(alice).get(f"/runs/{run.pk}/steps/{step.number}/").content.decode()
    assert "(3 of it reasoning)" in page


def test_the_effort_is_asked_for(alice: Access, models: FakeModels) -> None:
    answered(alice, models, response(says("Hello")), effort="high")
    assert models.requests[0]["body"]["reasoning"]["effort"] == "high"


def test_a_model_that_does_not_reason_is_asked_through_chat_completions(
    alice: Access, models: FakeModels
) -> None:
    models.answers = [chat({"content": "Hello"})]
    finish(run_on(alice, models, "openai", "gpt-4.1"))
    assert models.requests[0]["path"].endswith("/chat/completions")


def address(status: int, body: Any) -> Any:
    return status, {"Content-Type": "application/json"}, [json.dumps(body).encode()]


@pytest.mark.parametrize(
    "answer",
    [
        refused(404, "Not Found"),
        refused(404, "Unknown request URL: POST /v1/responses.", "unknown_url"),
        refused(404, "Resource not found", "404"),
        refused(400, "The Responses API is enabled only for api-version 2025-03-01 and later"),
        address(404, {"detail": "Not Found"}),
        address(404, {}),
        address(405, {"detail": "Method Not Allowed"}),
        (404, {"Content-Type": "text/html"}, [b"<title>404 Not Found</title>"]),
    ],
)
def test_a_gateway_without_it_is_asked_through_chat_completions(
    alice: Access, models: FakeModels, answer: Any
) -> None:
    answered(alice, models, answer, chat({"content": "Hello"}))
    assert [one["path"].rpartition("/v1")[2] for one in models.requests] == [
        "/responses",
        "/chat/completions",
    ]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "Item with id 'rs_1' not found. Items are not persisted."),
        (400, "Tool choice 'x' not found in 'tools' parameter."),
        (404, "File 'file-abc' not found"),
        (404, "Project not found"),
    ],
)
def test_what_is_no_matter_of_the_address_does_not_change_it(
    alice: Access, models: FakeModels, status: int, said: str
) -> None:
    models.answers = [refused(status, said, "not_found")]
    finish(run_on(alice, models, "openai", MODEL))
    assert [one["path"].rpartition("/v1")[2] for one in models.requests] == ["/responses"]


def test_what_it_thought_stays_out_of_chat_completions(alice: Access, models: FakeModels) -> None:
    models.answers = [response(THOUGHT, CALL), refused(404, "Not Found"), chat({"content": "Hi"})]
    run = finish(run_on(alice, models, "openai", MODEL))
    assert run.status == RunStatus.COMPLETED, run.error_message
    said = models.requests[2]["body"]["messages"][-2]
    assert set(said) <= {"role", "content", "tool_calls"}
    assert said["content"] is None


def test_a_model_that_is_not_there_is_not_asked_for_twice(
    alice: Access, models: FakeModels
) -> None:
    models.answers = [refused(404, "The model `gpt-5` does not exist.", "model_not_found")]
    run = finish(run_on(alice, models, "openai", MODEL))
    assert run.error_class == "provider.model_not_found"
    assert len(models.requests) == 1


def test_who_may_see_no_summaries_works_without_them(alice: Access, models: FakeModels) -> None:
    said = "Your organization must be verified to generate reasoning summaries."
    answered(alice, models, refused(400, said, "unsupported_value"), response(says("Hello")))
    assert "summary" not in models.requests[1]["body"].get("reasoning", {})


def test_an_answer_that_reaches_its_limit_says_so(alice: Access, models: FakeModels) -> None:
    details = {"incomplete_details": {"reason": "max_output_tokens"}}
    run = answered(alice, models, response(says("Hel"), status="incomplete", **details))
    assert run.stop_reason == "max_tokens"


def test_a_refusal_is_the_answer(alice: Access, models: FakeModels) -> None:
    refusal = {"type": "refusal", "refusal": "I can't help with that."}
    run = answered(alice, models, response(says("") | {"content": [refusal]}))
    assert run.answer is not None
    assert run.answer.content == "I can't help with that."


def test_a_failure_in_the_middle_is_tried_again(alice: Access, models: FakeModels) -> None:
    failed = response(status="failed", error={"code": "server_error", "message": "Sorry"})
    run = answered(alice, models, failed, response(says("Hello")))
    assert run.answer is not None
    assert run.answer.content == "Hello"


def test_a_stream_that_breaks_off_is_tried_again(alice: Access, models: FakeModels) -> None:
    status, headers, pieces = response(says("Hello"))
    run = answered(alice, models, (status, headers, pieces[:-1]), response(says("Whole")))
    assert run.answer is not None
    assert run.answer.content == "Whole"


def test_arguments_in_pieces_are_put_together(alice: Access, models: FakeModels) -> None:
    arguments = json.dumps({"name": "a.txt", "content": "text"})
    call = CALL | {"name": "write_file", "arguments": arguments}
    run = answered(alice, models, response(call), response(says("Done")))
    assert run.tool_calls.get().arguments == {"name": "a.txt", "content": "text"}
