"""Every kind of provider: where it is, what it needs, how it answers."""

import asyncio
import importlib
import json
from typing import Any, cast

import pytest

from runs.creation.options import Options
from runs.models import Run, RunStatus
from teammates import providers
from teammates.access import Access
from teammates.errors import Invalid
from teammates.llm import catalog
from teammates.providers import Connection, bedrock
from teammates.providers.base import ProviderError
from teammates.providers.kinds import KINDS
from tests import fake_models
from tests.factories import browser_of, make_run
from tests.fake_models import chat, message
from tests.runs.execution.working import finish, run_on

pytestmark = pytest.mark.django_db(transaction=True)
MODEL = "vendor/m"  # as OpenRouter names them
CHAT = [name for name, kind in KINDS.items() if kind.module.endswith((".openai", ".bedrock"))]


@pytest.mark.parametrize("name", [n for n in KINDS if KINDS[n].address and n != "google"])
def test_a_kind_is_asked_where_it_is_with_its_key(name: str) -> None:
    module = importlib.import_module(KINDS[name].module)
    client = module.make_client(Connection(name, api_key="sk-1"))
    vendor = cast(Any, client._make_model(MODEL, {})).client
    assert str(vendor.base_url).rstrip("/") == KINDS[name].address
    assert vendor.api_key == "sk-1"


@pytest.mark.parametrize("kind", CHAT)
def test_whoever_speaks_chat_completions_thinks_calls_tools_and_answers(
    alice: Access, kind: str
) -> None:
    call = {"index": 0, "id": "call_1", "type": "function"}
    made = call | {"function": {"name": "list_files", "arguments": "{}"}}
    with fake_models.serve() as models:
        models.answers = [
            chat(
                {"reasoning_content": "Let me look."}, {"tool_calls": [made]}, finish="tool_calls"
            ),
            chat({"content": "There are no files."}),
        ]
        run = finish(run_on(alice, models, kind, MODEL))
        assert run.status == RunStatus.COMPLETED, run.error_message
        assert run.answer is not None
        assert run.answer.content == "There are no files."
        first, second = models.requests
        assert first["headers"]["Authorization"] == "Bearer sk-test-0123456789"
        assert first["path"].endswith("/chat/completions")
        assert [m["role"] for m in second["body"]["messages"]][-2:] == ["assistant", "tool"]
    page = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    assert "Let me look." in page


def test_what_a_kinds_models_want_is_known(alice: Access) -> None:
    call = {"index": 0, "id": "call_1", "type": "function"}
    made = call | {"function": {"name": "list_files", "arguments": "{}"}}
    with fake_models.serve() as models:
        models.answers = [
            chat({"reasoning_content": "Let me look."}, {"tool_calls": [made]}, finish="tool_calls")
        ]
        finish(run_on(alice, models, "deepseek", "deepseek-reasoner"))
        first, second = (request["body"] for request in models.requests)
    assert "max_tokens" in first
    assert "max_completion_tokens" not in first
    said = next(m for m in second["messages"] if m["role"] == "assistant")
    assert said["reasoning_content"] == "Let me look."  # refused without it


def test_whose_models_are_shown_pdfs() -> None:
    shows = {
        name: importlib.import_module(kind.module)
        .make_client(Connection(name, api_key="k", base_url="http://127.0.0.1:1/v1"))
        .takes(MODEL)
        .pdfs
        for name, kind in KINDS.items()
    }
    assert {name for name, pdfs in shows.items() if pdfs} == {
        "demo",
        "anthropic",
        "google",
        "openai",
        "azure",
    }


@pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name].needs_key])
def test_a_kind_without_its_key_says_so(name: str) -> None:
    with pytest.raises(ProviderError, match=f"{KINDS[name].label} has no key"):
        asyncio.run(providers.open_client(Connection(name, base_url="http://127.0.0.1:1/v1")))


def test_a_name_that_a_provider_cannot_have_is_told(alice: Access) -> None:
    with fake_models.serve() as models:
        run = finish(run_on(alice, models, "openrouter", "m"))
        assert not models.requests
    assert run.error_class == "provider.model_not_found"
    assert "must be prefixed with the upstream provider" in run.error_message


def test_a_kind_that_somebody_runs_wants_its_address(alice: Access) -> None:
    with pytest.raises(Invalid, match="say where your Azure OpenAI is"):
        catalog.create_provider(alice, name="Azure", kind="azure", api_key="k")
    local = catalog.create_provider(alice, name="Local", kind="ollama")
    assert local.base_url == KINDS["ollama"].address
    with pytest.raises(Invalid, match="kind must be one of anthropic, google, openai, openrouter"):
        catalog.create_provider(alice, name="x", kind="demo")


def test_the_page_offers_every_kind(alice: Access) -> None:
    browser = browser_of(alice)
    page = browser.get("/settings/models/").content.decode()
    assert all(f'value="{name}"' in page for name in [*KINDS][1:])
    form = {"kind": "groq", "name": "Groq", "api_key": "gsk_1", "model": "llama-3.3-70b-versatile"}
    assert browser.post("/settings/models/", form).status_code == 302
    assert "llama-3.3-70b-versatile" in browser.get("/settings/models/").content.decode()
    assert not Run.objects.exists()


def test_mistral_is_not_sent_what_it_refuses(alice: Access) -> None:
    extra = {
        "type": "extra_forbidden",
        "loc": ["body", "max_completion_tokens"],
        "msg": "Extra inputs are not permitted",
    }

    def answer(body: dict[str, Any]) -> Any:
        if "max_completion_tokens" in body:
            refusal = {"object": "error", "message": {"detail": [extra]}}
            return 422, {"Content-Type": "application/json"}, [json.dumps(refusal).encode()]
        return chat({"content": "Bonjour"})

    with fake_models.serve() as models:
        models.answer = answer
        run = finish(run_on(alice, models, "mistral", MODEL))
        assert run.status == RunStatus.COMPLETED, run.error_message
        assert len(models.requests) == 1
        other = finish(run_on(alice, models, "openai_compatible", MODEL))
        assert other.status == RunStatus.COMPLETED, other.error_message


@pytest.mark.parametrize(
    "kind", [name for name in CHAT if name not in ("openai", "azure", "deepseek", "mistral")]
)
def test_effort_is_asked_for_and_left_out_where_it_is_refused(alice: Access, kind: str) -> None:
    refusal = {"error": {"message": "Model m does not support parameter reasoningEffort."}}
    with fake_models.serve() as models:
        models.answers = [chat({"content": "Hello"})]
        finish(run_on(alice, models, kind, MODEL))
        models.requests.clear()
        models.answers = [
            (400, {"Content-Type": "application/json"}, [json.dumps(refusal).encode()]),
            chat({"content": "Hello"}),
        ]
        finish(make_run(alice, options=Options(model=f"{kind}-{MODEL}", effort="high")))
        first, second = (json.dumps(request["body"]) for request in models.requests)
    assert "effort" in first
    assert "effort" not in second


def test_openrouter_is_asked_to_cache_and_given_back_what_was_thought(alice: Access) -> None:
    sealed = {"type": "reasoning.encrypted", "data": "c2VhbGVk", "id": "r1", "index": 0}
    made = {"index": 0, "id": "call_1", "type": "function"}
    call = made | {"function": {"name": "list_files", "arguments": "{}"}}
    with fake_models.serve() as models:
        models.answers = [
            chat({"reasoning_details": [sealed]}, {"tool_calls": [call]}, finish="tool_calls"),
            chat({"content": "Hello"}),
        ]
        run = finish(run_on(alice, models, "openrouter", "anthropic/claude-sonnet-4.5"))
        first, second = (request["body"] for request in models.requests)
    assert run.answer is not None
    assert run.answer.content == "Hello"
    assert json.dumps(first).count("cache_control") >= 2
    assistant = next(m for m in second["messages"] if m["role"] == "assistant")
    assert assistant["reasoning_details"][0]["data"] == "c2VhbGVk"


@pytest.mark.parametrize(
    "name",
    [
        "anthropic.claude-opus-5-5",
        "us.anthropic.claude-opus-5-5-v1:0",
        "global.anthropic.claude-opus-5-5-v1",
    ],
)
def test_claude_on_bedrock_speaks_as_anthropic_and_reads_its_cache(
    alice: Access, name: str
) -> None:
    thought = {"type": "thinking", "thinking": "", "signature": ""}
    signed = {"type": "signature_delta", "signature": "sig=="}
    thinking = (thought, [{"type": "thinking_delta", "thinking": "Hm."}, signed])
    call = {"type": "tool_use", "id": "c1", "name": "list_files", "input": {}}
    arguments = [{"type": "input_json_delta", "partial_json": "{}"}]
    said = ({"type": "text", "text": ""}, [{"type": "text_delta", "text": "None."}])
    with fake_models.serve() as models:
        models.answers = [message(thinking, (call, arguments), stop="tool_use"), message(said)]
        run = finish(run_on(alice, models, "bedrock", name))
        assert run.status == RunStatus.COMPLETED, run.error_message
        first, second = models.requests
    assert run.answer is not None
    assert run.answer.content == "None."
    assert (run.cache_read_tokens, run.cache_write_tokens) == (80, 20)
    assert first["path"].startswith("/anthropic/v1/messages")
    assert first["headers"]["Authorization"] == "Bearer sk-test-0123456789"
    assert first["body"]["model"] == "anthropic.claude-opus-5-5"
    assert "cache_control" in str(first["body"])
    turn = next(one for one in second["body"]["messages"] if one["role"] == "assistant")
    assert turn["content"][0] == {"type": "thinking", "thinking": "Hm.", "signature": "sig=="}


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("https://bedrock-mantle.eu-west-1.api.aws/v1", "https://bedrock-mantle.eu-west-1.api.aws"),
        (
            "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1",
            "https://bedrock-mantle.us-east-1.api.aws",
        ),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
    ],
)
def test_claude_is_beside_the_chat_completions_of_its_region(address: str, found: str) -> None:
    assert bedrock.messages_address(address) == f"{found}/anthropic"
