"""Ollama: its models are pulled where they are wanted, and are told as much as they read."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.template.loader import render_to_string

from runs.creation.options import Options
from runs.models import RunStatus
from teammates.access import Access
from teammates.integrations import checks
from teammates.llm import catalog
from teammates.models import Model
from teammates.providers.local import find_servers
from teammates.providers.ollama import WORTH_PULLING
from tests.factories import browser_of, make_run
from tests.fake_models import FakeModels, chat, refused
from tests.runs.execution.working import finish, work_until

pytestmark = pytest.mark.django_db(transaction=True)
NAME = "qwen3:8b"
JSON_LINES = {"Content-Type": "application/x-ndjson"}


class Ollama:
    """What the server has, and how it pulls."""

    def __init__(self, models: FakeModels) -> None:
        self.has: set[str] = set()
        self.lines: list[dict[str, Any]] = [
            {"status": "pulling manifest"},
            {"status": "pulling 1", "total": 5_000_000_000, "completed": 2_000_000_000},
            {"status": "success"},
        ]
        self.seconds = 0.0  # between two lines
        self.pulled = 0
        models.answer = self.answer
        models.listed = (200, {"models": [{"model": NAME, "context_length": 8192}]})

    def answer(self, body: dict[str, Any]) -> Any:
        if "messages" in body:
            if body["model"] in self.has:
                return chat({"content": "OK"})
            return refused(404, f"model '{body['model']}' not found, try pulling it first")
        self.pulled += 1
        return 200, JSON_LINES, self.pieces(body["model"])

    def pieces(self, name: str) -> Iterator[bytes]:
        for line in self.lines:
            time.sleep(self.seconds)
            if line.get("status") == "success":
                self.has.add(name)
            yield json.dumps(line).encode() + b"\n"


@pytest.fixture
def ollama(models: FakeModels) -> Ollama:
    return Ollama(models)


def add(access: Access, models: FakeModels, name: str = NAME) -> Model:
    provider = catalog.create_provider(
        access, name=f"Ollama {name}", kind="ollama", base_url=f"{models.url}/v1"
    )
    return catalog.add_model(access, provider, alias=name, name=name)


def asked(access: Access, *wanted: Model) -> None:
    for model in wanted:
        checks.ask_model(access, model)
    work_until(lambda: not Model.objects.filter(test_due_at__isnull=False).exists())
    for model in wanted:
        model.refresh_from_db()


def test_a_model_that_is_there_is_told_as_much_as_it_reads(
    alice: Access, models: FakeModels, ollama: Ollama
) -> None:
    ollama.has.add(NAME)
    model = add(alice, models)
    asked(alice, model)
    assert (model.test_error, model.test_answer, ollama.pulled) == ("", "OK", 0)
    assert (model.context_window, model.max_output_tokens) == (8192, 4096)


def test_a_window_that_somebody_made_smaller_stays(
    alice: Access, models: FakeModels, ollama: Ollama
) -> None:
    ollama.has.add(NAME)
    model = add(alice, models)
    Model.objects.filter(pk=model.pk).update(context_window=4000)
    asked(alice, Model.objects.get(pk=model.pk))
    assert Model.objects.get(pk=model.pk).context_window == 4000


def test_asking_again_during_a_pull_lets_it_go_on(
    alice: Access, models: FakeModels, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "TOLD_SECONDS", 0.05)
    ollama.seconds = 0.5
    model = add(alice, models)
    checks.ask_model(alice, model)
    again: list[bool] = []

    def is_over() -> bool:
        model.refresh_from_db()
        if model.test_answer.startswith(checks.PULLING) and not again:
            checks.ask_model(alice, model)
            again.append(True)
        return model.test_due_at is None

    work_until(is_over)
    assert (model.test_error, model.test_answer, ollama.pulled) == ("", "OK", 1)
    assert again


def test_a_model_that_is_not_there_is_pulled(
    alice: Access, models: FakeModels, ollama: Ollama
) -> None:
    model = add(alice, models)
    asked(alice, model)
    assert (model.test_error, model.test_answer, ollama.pulled) == ("", "OK", 1)


def test_how_far_a_pull_is_is_shown_meanwhile(
    alice: Access, models: FakeModels, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "TOLD_SECONDS", 0.05)
    ollama.seconds = 0.4
    model = add(alice, models)
    checks.ask_model(alice, model)
    seen: set[str] = set()
    client = browser_of(alice)

    def is_over() -> bool:
        page = client.get(f"/settings/models/{model.pk}/test/", headers={"HX-Request": "true"})
        seen.add(page.content.decode())
        model.refresh_from_db()
        return model.test_due_at is None

    work_until(is_over)
    assert any("Pulling it: 40 % of 5.0 GB" in page for page in seen)
    assert model.test_answer == "OK"


def test_a_pull_keeps_nothing_else_waiting(
    alice: Access, models: FakeModels, ollama: Ollama
) -> None:
    ollama.has.add("there")
    ollama.seconds = 1.0
    slow, other, quick = (
        add(alice, models),
        add(alice, models, "second"),
        add(alice, models, "there"),
    )
    for model in (slow, other, quick):
        checks.ask_model(alice, model)
    work_until(lambda: Model.objects.get(pk=quick.pk).test_due_at is None)
    assert Model.objects.get(pk=quick.pk).test_answer == "OK"


def test_one_pull_of_an_organization_at_a_time(
    alice: Access, models: FakeModels, ollama: Ollama
) -> None:
    ollama.seconds = 0.5
    first, second = add(alice, models), add(alice, models, "second")
    asked(alice, first, second)
    errors = {first.test_error, second.test_error}
    assert errors == {"", "Another model is being pulled. Test this one once it is there."}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([{"error": "pull model manifest: file does not exist"}], "file does not exist"),
        ([{"status": "pulling manifest"}], "did not say why"),
        ([{"status": "x", "total": "many"}], "does not pull models"),
    ],
)
def test_a_pull_that_fails_says_why(
    alice: Access, models: FakeModels, ollama: Ollama, lines: list[dict[str, Any]], why: str
) -> None:
    ollama.lines = lines
    model = add(alice, models)
    asked(alice, model)
    assert why in model.test_error


def test_a_model_that_is_deleted_is_pulled_no_further(
    alice: Access, models: FakeModels, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "TOLD_SECONDS", 0.05)
    ollama.lines = [{"status": "pulling", "total": 9, "completed": 1}] * 600
    ollama.seconds = 0.1
    model = add(alice, models)
    checks.ask_model(alice, model)
    deleted: list[float] = []

    def is_over() -> bool:
        if ollama.pulled and not deleted:
            Model.objects.filter(pk=model.pk).delete()
            deleted.append(time.monotonic())
        return bool(deleted) and not checks._pulling

    work_until(is_over)
    assert time.monotonic() - deleted[0] < 30


@pytest.mark.parametrize("has", [[], None])
def test_the_page_offers_to_pull_one_where_there_is_none(models: FakeModels, has: Any) -> None:
    models.listed = 200, {"models": has}
    known = [("Ollama", "ollama", models.server_port, "/api/tags")]
    [server] = asyncio.run(find_servers(known=known))
    page = render_to_string(
        "settings/_local_servers.html", {"found": [server], "to_pull": WORTH_PULLING}
    )
    assert f'data-value="{WORTH_PULLING[0][0]}"' in page
    assert ">Pull</button>" in page
    assert 'name="model"' in page


@pytest.mark.parametrize(("words", "is_too_much"), [(20, False), (2_600, True)])
def test_what_ollama_would_silently_drop_is_not_sent(
    alice: Access, models: FakeModels, ollama: Ollama, words: int, is_too_much: bool
) -> None:
    ollama.has.add(NAME)
    model = add(alice, models)
    Model.objects.filter(pk=model.pk).update(context_window=5_000, max_output_tokens=1_000)
    models.requests.clear()
    run = finish(make_run(alice, message="word " * words, options=Options(model=NAME)))
    if is_too_much:
        assert (run.status, run.error_class) == (RunStatus.FAILED, "provider.context_too_long")
        assert "OLLAMA_CONTEXT_LENGTH" in run.error_message
        assert models.requests == []
    else:
        assert run.status == RunStatus.COMPLETED, run.error_message


@pytest.mark.parametrize(
    "answer",
    [
        (404, {"success": False, "data": None}),
        (401, {"data": ""}),
        (200, {"models": 0, "data": 0}),
        (200, {"data": None}),
        (200, ["data"]),
    ],
)
def test_another_service_on_a_usual_port_is_no_model_server(
    models: FakeModels, answer: Any
) -> None:
    models.listed = answer
    known = [("llama.cpp", "openai_compatible", models.server_port, "/v1/models")]
    assert asyncio.run(find_servers(known=known)) == []
