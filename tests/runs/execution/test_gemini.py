"""Google's Gemini, as it really speaks."""

import asyncio
import base64
import json
from typing import Any

import pytest

from runs.creation.attachments import Attachment
from runs.creation.options import Options
from runs.models import Run, RunStatus, Step
from teammates.access import Access
from teammates.llm import catalog
from teammates.providers.listing import list_models
from tests.factories import browser_of, make_run
from tests.fake_models import STREAM, FakeModels, gemini, sse
from tests.pictures import picture
from tests.runs.execution.working import finish, run_on
from tests.teammates.test_file_text import pdf

pytestmark = pytest.mark.django_db(transaction=True)
MODEL = "gemini-3-pro"
SIGNATURE = base64.b64encode(b"sealed thought").decode()
CALL = {"functionCall": {"name": "list_files", "args": {}}, "thoughtSignature": SIGNATURE}
HELLO = gemini([{"text": "Hel"}], [{"text": "lo"}])


def answered(access: Access, models: FakeModels, *answers: Any, **fields: Any) -> Run:
    models.answers = list(answers)
    run = finish(run_on(access, models, "google", MODEL, **fields))
    assert run.status == RunStatus.COMPLETED, run.error_message
    return run


def sent(models: FakeModels, number: int = 0) -> dict[str, Any]:
    body: dict[str, Any] = models.requests[number]["body"]
    return body


def test_it_answers_in_pieces(alice: Access, models: FakeModels) -> None:
    run = answered(alice, models, HELLO)
    assert run.answer is not None
    assert run.answer.content == "Hello"
    request = models.requests[0]
    assert request["path"].startswith(f"/v1beta/models/{MODEL}:streamGenerateContent")
    assert request["headers"]["x-goog-api-key"] == "sk-test-0123456789"
    assert "sk-test" not in request["path"]


def test_what_it_thought_goes_back_signed_with_the_call(alice: Access, models: FakeModels) -> None:
    thought = {"text": "Let me look.", "thought": True}
    run = answered(alice, models, gemini([thought], [CALL]), HELLO)
    model_said, returned = sent(models, 1)["contents"][-2:]
    calls = [part for part in model_said["parts"] if "functionCall" in part]
    assert calls[0]["functionCall"]["name"] == "list_files"
    assert base64.urlsafe_b64decode(calls[0]["thoughtSignature"]) == b"sealed thought"
    assert returned["parts"][0]["functionResponse"]["name"] == "list_files"
    page = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    assert "Let me look." in page


def test_calls_side_by_side_are_all_made(alice: Access, models: FakeModels) -> None:
    other = {"functionCall": {"name": "update_todos", "args": {"items": []}}}
    run = answered(alice, models, gemini([CALL, other, CALL]), HELLO)
    assert [call.name for call in run.tool_calls.order_by("number")] == [
        "list_files",
        "update_todos",
        "list_files",
    ]
    assert len({call.call_id for call in run.tool_calls.all()}) == 3


def test_tools_and_instructions_are_sent(alice: Access, models: FakeModels) -> None:
    answered(alice, models, HELLO)
    body = sent(models)
    names = [one["name"] for tool in body["tools"] for one in tool["functionDeclarations"]]
    assert "write_file" in names
    assert body["systemInstruction"]["parts"][0]["text"]


def test_pictures_and_pdfs_are_shown(alice: Access, models: FakeModels) -> None:
    chart, report = picture(), pdf("Sales rose by 7 %")
    both = [Attachment("chart.png", chart), Attachment("report.pdf", report)]
    answered(alice, models, HELLO, message="Look", attachments=both)
    parts = sent(models)["contents"][-1]["parts"]
    shown = {
        part["inlineData"]["mime_type"]: base64.urlsafe_b64decode(part["inlineData"]["data"])
        for part in parts
        if "inlineData" in part
    }
    assert shown == {"image/png": chart, "application/pdf": report}


def test_every_lane_is_counted(alice: Access, models: FakeModels) -> None:
    used = {"cachedContentTokenCount": 60, "thoughtsTokenCount": 30}
    run = answered(alice, models, gemini([{"text": "Hi"}], **used))
    step = Step.objects.get(run=run)
    assert (step.input_tokens, step.cache_read_tokens, step.output_tokens) == (100, 60, 37)


def test_the_effort_is_asked_for(alice: Access, models: FakeModels) -> None:
    models.answers = [HELLO, HELLO]
    finish(run_on(alice, models, "google", MODEL))
    run = finish(make_run(alice, options=Options(model=f"google-{MODEL}", effort="high")))
    assert run.status == RunStatus.COMPLETED
    asked = sent(models, 1)["generationConfig"]["thinkingConfig"]
    assert asked["thinking_level"] == "HIGH"
    assert asked["include_thoughts"] is True


@pytest.mark.parametrize("reason", ["SAFETY", "PROHIBITED_CONTENT", "RECITATION"])
def test_an_answer_that_its_filter_stopped_says_so(
    alice: Access, models: FakeModels, reason: str
) -> None:
    models.answers = [gemini([], finish=reason)]
    run = finish(run_on(alice, models, "google", MODEL))
    assert "filter" in run.error_message


def test_a_question_that_its_filter_stopped_says_so(alice: Access, models: FakeModels) -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": "m", "responseId": "r1"}
    models.answers = [(200, STREAM, [sse(blocked)])]
    run = finish(run_on(alice, models, "google", MODEL))
    assert "filter" in run.error_message
    assert len(models.requests) == 1


def test_an_answer_that_reaches_its_limit_says_so(alice: Access, models: FakeModels) -> None:
    run = answered(alice, models, gemini([{"text": "Hel"}], finish="MAX_TOKENS"))
    assert run.stop_reason == "max_tokens"


def test_a_stream_that_breaks_off_is_tried_again(alice: Access, models: FakeModels) -> None:
    run = answered(alice, models, gemini([{"text": "Hel"}], finish=None), HELLO)
    assert run.answer is not None
    assert run.answer.content == "Hello"


def refused(status: int, word: str, message: str) -> Any:
    error = {"error": {"code": status, "message": message, "status": word}}
    return status, {"Content-Type": "application/json"}, [json.dumps(error).encode()]


@pytest.mark.parametrize(
    ("status", "word", "message", "error_class"),
    [
        (400, "INVALID_ARGUMENT", "API key not valid.", "provider.unauthorized"),
        (403, "PERMISSION_DENIED", "Denied.", "provider.unauthorized"),
        (404, "NOT_FOUND", "models/x is not found.", "provider.model_not_found"),
    ],
)
def test_a_refusal_says_what_to_do(
    alice: Access, models: FakeModels, status: int, word: str, message: str, error_class: str
) -> None:
    models.answers = [refused(status, word, message)] * 3
    run = finish(run_on(alice, models, "google", MODEL))
    assert run.error_class == error_class, run.error_message


@pytest.mark.parametrize(
    ("status", "word"), [(429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL"), (503, "UNAVAILABLE")]
)
def test_trouble_is_waited_for(alice: Access, models: FakeModels, status: int, word: str) -> None:
    run = answered(alice, models, refused(status, word, "Try again."), HELLO)
    assert run.answer is not None
    assert run.answer.content == "Hello"


def test_a_conversation_that_is_too_long_is_compacted(alice: Access, models: FakeModels) -> None:
    said = "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576)."
    models.answers = [refused(400, "INVALID_ARGUMENT", said), HELLO, HELLO, HELLO]
    run = finish(run_on(alice, models, "google", MODEL, message="word " * 50))
    assert "too long" in run.error_message or run.status == RunStatus.COMPLETED


def test_its_models_are_listed(alice: Access, models: FakeModels) -> None:
    listed = [
        {"name": "models/gemini-3-pro", "supportedGenerationMethods": ["generateContent"]},
        {"name": "models/embedding-1", "supportedGenerationMethods": ["embedContent"]},
    ]
    models.listed = (200, {"models": listed})
    provider = catalog.create_provider(
        alice, name="Google", kind="google", api_key="key-0123456789", base_url=models.url
    )
    assert [one.name for one in asyncio.run(list_models(provider.connection))] == ["gemini-3-pro"]
    assert models.requests[0]["headers"]["x-goog-api-key"] == "key-0123456789"
