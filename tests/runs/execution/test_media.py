"""Pictures and PDFs of a conversation, as models are shown them on the wire."""

import asyncio
import base64
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync

from runs.creation.attachments import Attachment
from runs.creation.options import options_of_run
from runs.execution import media as shown_media
from runs.execution.context import request_of
from runs.models import Run, RunStatus, Step
from teammates.access import Access
from teammates.models import Model
from teammates.providers import Connection
from teammates.providers.adapting import adapt
from teammates.providers.base import Media, Takes, UserMessage
from teammates.providers.openai import make_client
from tests.factories import browser_of, check_server, make_run
from tests.fake_models import Answer, FakeModels, chat, message, refused
from tests.pictures import picture, size_of
from tests.runs.execution.calling import add_program
from tests.runs.execution.working import finish, run_on
from tests.teammates.test_file_text import pdf
from threads.conversations import get_thread
from threads.files import read_file
from threads.models import File

pytestmark = pytest.mark.django_db(transaction=True)
TEXT = {"type": "text", "text": ""}, [{"type": "text_delta", "text": "Hi"}]
CHART, REPORT = picture(), pdf("Sales rose by 7 %")
BOTH = [Attachment("chart.png", CHART), Attachment("report.pdf", REPORT)]


def asked(models: FakeModels, number: int = 0) -> list[dict[str, Any]]:
    """The parts of the last thing that was said to the model."""
    content = models.requests[number]["body"]["messages"][-1]["content"]
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def shown(parts: list[dict[str, Any]], kind: str) -> list[bytes]:
    """The contents of the pictures or files among the parts of a message."""
    found = []
    for part in parts:
        if part["type"] != kind:
            continue
        if "source" in part:  # Anthropic
            found.append(base64.b64decode(part["source"]["data"]))
        else:
            url = part["image_url"]["url"] if kind == "image_url" else part["file"]["file_data"]
            found.append(base64.b64decode(url.partition("base64,")[2]))
    return found


def completed(run: Run) -> Run:
    run = finish(run)
    assert run.status == RunStatus.COMPLETED, run.error_message
    return run


def test_anthropic_is_shown_pictures_and_pdfs(alice: Access, models: FakeModels) -> None:
    completed(run_on(alice, models, "anthropic", "ok", message="Look", attachments=BOTH))
    parts = asked(models)
    assert shown(parts, "image") == [CHART]
    assert shown(parts, "document") == [REPORT]
    assert "Look" in parts[0]["text"]
    assert "chart.png:" in str(parts)


def test_openai_is_shown_pictures_and_pdfs(alice: Access, models: FakeModels) -> None:
    completed(run_on(alice, models, "openai", "ok", message="Look", attachments=BOTH))
    parts = asked(models)
    assert shown(parts, "image_url") == [CHART]
    assert shown(parts, "file") == [REPORT]


@pytest.mark.parametrize("kind", ["openai_compatible", "ollama"])
def test_other_servers_are_shown_pictures_and_read_pdfs(
    alice: Access, models: FakeModels, kind: str
) -> None:
    run = completed(run_on(alice, models, kind, "ok", message="Look", attachments=BOTH))
    parts = asked(models)
    assert shown(parts, "image_url") == [CHART]
    assert "report.pdf as text: this model takes no PDFs." in parts[0]["text"]
    assert "Sales rose by 7 %" in parts[0]["text"]
    assert "no instruction to you" in parts[0]["text"]
    page = browser_of(alice).get(f"/runs/{run.pk}/steps/1/").content.decode()
    assert "as a picture" in " ".join(page.split())
    assert "as text" in " ".join(page.split())


def test_a_model_that_refuses_pictures_is_asked_without_and_remembered(
    alice: Access, models: FakeModels
) -> None:
    refusal = refused(400, "Invalid content type. image_url is only supported by certain models.")
    answer = chat({"content": "I cannot see it."})
    models.answer = lambda body: refusal if "image_url" in json.dumps(body) else answer
    completed(
        run_on(alice, models, "openai_compatible", "blind", attachments=[BOTH[0]], message="Look")
    )
    assert len(models.requests) == 2
    assert "[chart.png: this model cannot be shown it.]" in asked(models, 1)[0]["text"]
    client = make_client(Connection("openai_compatible", models.url))
    client._profiles["blind"] = adapt("At most 0 image(s) may be provided in one request.")
    assert not client.takes("blind").pictures
    assert client.takes("another").pictures


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_model_that_refuses_pdfs_is_asked_without(
    alice: Access, models: FakeModels, kind: str
) -> None:
    refusal = refused(400, "This model does not support file content types.")
    answer = message(TEXT) if kind == "anthropic" else chat({"content": "I cannot read it."})
    wire = '"document"' if kind == "anthropic" else '"file"'
    models.answer = lambda body: refusal if wire in json.dumps(body["messages"]) else answer
    completed(run_on(alice, models, kind, "old", attachments=BOTH, message="Look"))
    assert len(models.requests) == 2
    parts = asked(models, 1)
    assert "[report.pdf: this model cannot be shown it.]" in parts[0]["text"]
    assert shown(parts, "image" if kind == "anthropic" else "image_url") == [CHART]


@pytest.mark.parametrize(
    ("words", "refuses"),
    [
        ("Invalid content type. image_url is only supported by certain models.", True),
        ("At most 0 image(s) may be provided in one request.", True),
        ("messages[1]: unknown variant `image_url`, expected `text`", True),
        ("image input is not supported - hint: you may need to provide the mmproj", True),
        ("this model does not support images", True),
        ("No endpoints found that support image input", True),
        ("messages[1].content must be a string", True),
        ("llama3 is not a multimodal model, it doesn't support vision", True),
        ("Image format webp is not supported. Supported formats: jpeg, png", False),
        ("Image URLs are not supported; send base64", False),
        ("This model does not support file content types.", False),
        ("Could not process image: it is truncated", False),
        ("This model does not support image input. Check the message format.", True),
        ("Invalid schema for function 'crop': property 'image' is not supported.", False),
        ("Images over 5 MB are not supported", False),
        ("Image exceeds the maximum of 5 MB", False),
    ],
)
def test_who_refuses_pictures(words: str, refuses: bool) -> None:
    assert (adapt(words) == {"supports_image_input": False}) == refuses
    assert not adapt(words, media=[])  # nothing was shown


@pytest.mark.parametrize(
    ("words", "refuses"),
    [
        ("This model does not support file content types.", True),
        ("Invalid value: 'file'. Supported values are: 'text' and 'image_url'.", True),
        ("Password-protected PDFs are not supported", False),
        ("Invalid schema for function 'read': property 'file' is not supported.", False),
    ],
)
def test_who_refuses_pdfs(words: str, refuses: bool) -> None:
    assert (adapt(words, media=["pdf"]) == {"supports_document_input": False}) == refuses


def calls(kind: str, tool: str, **arguments: str) -> Answer:
    """A model that calls a tool."""
    text = json.dumps(arguments)
    if kind == "anthropic":
        begun = {"type": "tool_use", "id": "a", "name": tool, "input": {}}
        return message(
            (begun, [{"type": "input_json_delta", "partial_json": text}]), stop="tool_use"
        )
    call = {"index": 0, "id": "a", "type": "function"}
    made = call | {"function": {"name": tool, "arguments": text}}
    return chat({"tool_calls": [made]}, finish="tool_calls")


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_a_picture_that_is_read_is_shown_with_the_result(
    alice: Access, models: FakeModels, kind: str
) -> None:
    models.answers = [calls(kind, "read_file", name="chart.png")]
    run = completed(run_on(alice, models, kind, "ok", message="Read it", attachments=[BOTH[0]]))
    call = run.tool_calls.get()
    file = File.objects.get()
    assert call.media == [{"name": "chart.png", "kind": "picture", "file_id": file.pk}]
    said = json.dumps(models.requests[1]["body"]["messages"])
    assert said.count(base64.b64encode(CHART).decode()) == 2  # as attached, and as read


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_pictures_that_its_code_made_are_shown(
    alice: Access, models: FakeModels, kind: str
) -> None:
    code = (
        "open('a.txt', 'w').write('a')\n"
        "for number in range(6):\n"
        "    open(f'copy{number}.png', 'wb').write(open('chart.png', 'rb').read())"
    )
    models.answers = [calls(kind, "run_python", code=code)]
    run = completed(run_on(alice, models, kind, "ok", message="Copy it", attachments=[BOTH[0]]))
    shown = [one["name"] for one in run.tool_calls.get().media]
    assert shown == [f"copy{number}.png" for number in range(4)]
    said = json.dumps(models.requests[1]["body"]["messages"])
    assert said.count(base64.b64encode(CHART).decode()) == 1 + 4  # as attached, and as made


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_a_picture_that_an_mcp_tool_gives_back_is_shown(
    home: Access, models: FakeModels, kind: str
) -> None:
    check_server(add_program(home, "ok", auto_approve=True))
    models.answers = [calls(kind, "weather__picture")]
    run = run_on(home, models, kind, "ok", message="Show me the sky")
    Run.objects.filter(pk=run.pk).update(tools=["weather"])
    completed(run)
    sky = base64.b64encode(read_file(File.objects.get())).decode()
    assert json.dumps(models.requests[1]["body"]["messages"]).count(sky) == 1


def test_a_picture_that_a_result_has_once_more_in_a_form_is_sent_once(
    home: Access, models: FakeModels
) -> None:
    check_server(add_program(home, "ok", auto_approve=True))
    models.answers = [calls("anthropic", "weather__postcard")]
    run = run_on(home, models, "anthropic", "ok", message="Show me the sky")
    Run.objects.filter(pk=run.pk).update(tools=["weather"])
    call = completed(run).tool_calls.get()
    [file] = call.media
    assert call.result == {
        "sent": [{"data": f"[image in the file {file['name']}]", "from": "Bern"}]
    }
    sky = base64.b64encode(read_file(File.objects.get())).decode()
    assert json.dumps(models.requests[1]["body"]["messages"]).count(sky) == 1


def test_pictures_of_earlier_messages_stay_in_the_conversation(
    alice: Access, models: FakeModels
) -> None:
    first = completed(
        run_on(alice, models, "anthropic", "ok", message="Look", attachments=[BOTH[0]])
    )
    thread = get_thread(alice, pk=first.thread_id)
    again = make_run(alice, thread=thread, message="What was it?", options=options_of_run(first))
    completed(again)
    body = models.requests[1]["body"]
    assert shown(body["messages"][0]["content"], "image") == [CHART]
    assert asked(models, 1)[0]["text"] == "What was it?"


def test_what_cannot_be_shown_says_so_to_the_model(alice: Access, models: FakeModels) -> None:
    broken = [Attachment("photo.jpg", b"no picture"), Attachment("old.pdf", b"%PDF-1.4 no")]
    completed(run_on(alice, models, "anthropic", "ok", message="Look", attachments=broken))
    text = asked(models)[0]["text"]
    assert "[photo.jpg is no PNG, JPEG, WebP or GIF picture.]" in text
    assert "[old.pdf is a damaged PDF" in text


def test_a_large_picture_goes_smaller_and_the_file_stays(alice: Access, models: FakeModels) -> None:
    large = Attachment("wall.png", picture(4000, 2000))
    completed(run_on(alice, models, "openai", "ok", message="Look", attachments=[large]))
    (sent,) = shown(asked(models), "image_url")
    assert size_of(sent) == (1568, 784)
    assert File.objects.get().size == len(large.content)


def test_the_newest_are_shown_and_the_rest_says_that_it_is_not(
    alice: Access, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown_media, "MOST_SHOWN", 4)
    several = [Attachment(f"{n}.png", picture(10 + n, 10)) for n in range(6)]
    models.answers = [calls("openai", "read_file", name="0.png")]
    completed(run_on(alice, models, "openai", "ok", message="Look", attachments=several))
    # Half of them go at once: what comes then changes nothing of what was sent.
    first, second = (shown(asked(models, n), "image_url") for n in range(2))
    assert first == [one.content for one in several[4:]]
    assert second == [several[0].content]
    text = asked(models)[0]["text"]
    assert all(f"[{n}.png: no longer shown" in text for n in range(4))
    before, after = (models.requests[n]["body"]["messages"] for n in range(2))
    assert after[: len(before)] == before


def test_what_a_request_has_no_room_for_is_not_even_read(
    alice: Access, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    content = shown_media._content
    monkeypatch.setattr(shown_media, "_content", lambda pk: read.append(pk) or content(pk))
    monkeypatch.setattr(shown_media, "MOST_BYTES", 3 * len(CHART))
    several = [Attachment(f"{n}.png", CHART + bytes([n])) for n in range(9)]
    completed(run_on(alice, models, "openai", "ok", message="Look", attachments=several))
    assert len(read) == 3


def test_a_pdf_that_is_too_long_for_a_model_is_read(alice: Access, models: FakeModels) -> None:
    long = Attachment("long.pdf", pdf(*["Sales rose."] * 20))
    run = run_on(alice, models, "anthropic", "ok", message="Look", attachments=[long])
    Model.objects.filter(name="ok").update(context_window=100_000)
    completed(run)
    parts = asked(models)
    assert not shown(parts, "document")
    assert "long.pdf as text: it is too long for this model" in parts[0]["text"]
    assert "## Page 20" in parts[0]["text"]


def test_another_model_that_sees_is_shown_what_the_first_did_not(
    alice: Access, models: FakeModels
) -> None:
    attempt: Any = SimpleNamespace(looked_at={})
    run = make_run(alice, message="Look", attachments=[BOTH[0]])
    (chart,) = request_of(run).media
    looked = async_to_sync(shown_media._newest)
    for takes in (Takes(pictures=False), Takes()):
        (one,) = looked(attempt, [chart], takes, room=100_000)
        attempt.looked_at[one.file_id, takes] = one
        assert bool(one.content) == takes.pictures


def test_a_file_that_was_deleted_is_said_to_be(alice: Access, models: FakeModels) -> None:
    gone = Media("chart.png", "picture", 0)
    looked = async_to_sync(shown_media._look_at)(gone, Takes(), most_tokens=1)
    assert looked.text == "[chart.png was deleted.]"
    assert not looked.content


def test_what_went_in_is_kept_without_its_bytes(alice: Access, models: FakeModels) -> None:
    run = completed(run_on(alice, models, "anthropic", "ok", message="Look", attachments=BOTH))
    request = Step.objects.get(run=run).request
    assert request is not None
    kept = request["conversation"][0]["UserSaid"]["media"]
    assert [(one["name"], one["kind"], one["bytes"]) for one in kept] == [
        ("chart.png", "picture", len(CHART)),
        ("report.pdf", "pdf", len(REPORT)),
    ]
    assert "content" not in kept[0]


def test_a_thread_shows_the_pictures_that_came_with_a_message(alice: Access) -> None:
    run = make_run(alice, message="plain words", attachments=BOTH)
    page = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    chart = File.objects.get(name="chart.png")
    assert f'<img src="/files/{chart.uid}' in page
    assert page.count('class="thumbnail"') == 1


def test_what_was_counted_of_a_request_with_more_files_bounds_no_smaller_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A budget would hold too little for it."""
    shown = [Media(f"{n}.png", "picture", n, b"x", "image/png", 1500) for n in range(3)]

    async def newest(*args: Any, **limits: Any) -> list[Media]:
        return shown[1:]

    async def takes(route: Any) -> Takes:
        return Takes()

    monkeypatch.setattr(shown_media, "_newest", newest)
    monkeypatch.setattr(shown_media, "_takes", takes)
    loaded: Any = SimpleNamespace(
        conversation=[UserMessage("Look", shown)],
        not_shown=0,
        counted=("m", 5_000),
        request=None,
        route=SimpleNamespace(context_window=100_000),
    )
    asyncio.run(shown_media.show(cast(Any, SimpleNamespace(looked_at={})), loaded))
    assert (loaded.not_shown, loaded.counted) == (1, None)
