"""How a model chooses its words: what a teammate says about it, on the wire."""

import asyncio
from typing import Any

import pytest

from runs.models import Run, RunStatus
from teammates.access import Access
from teammates.errors import Invalid
from teammates.models import Teammate
from teammates.providers import Connection
from teammates.providers.base import ModelRequest, UserMessage
from teammates.providers.openai import make_client
from teammates.roster import editing
from tests.factories import browser_of, default_teammate
from tests.fake_models import FakeModels, chat, refused
from tests.runs.execution.working import finish, run_on

pytestmark = pytest.mark.django_db(transaction=True)
ALL = {
    "temperature": 0.2,
    "top_p": 0.9,
    "stop": ["END", "###"],
    "seed": 7,
    "service_tier": "flex",
}


def choosing(alice: Access, **sampling: Any) -> Teammate:
    return editing.update_teammate(alice, default_teammate(alice.organization), sampling=sampling)


def completed(run: Run) -> Run:
    run = finish(run)
    assert run.status == RunStatus.COMPLETED, run.error_message
    return run


@pytest.mark.parametrize("kind", ["openai", "openai_compatible"])
def test_what_a_teammate_says_goes_to_the_model(
    alice: Access, models: FakeModels, kind: str
) -> None:
    choosing(alice, **ALL)
    completed(run_on(alice, models, kind, "ok"))
    body = models.requests[0]["body"]
    assert {name: body[name] for name in ALL} == ALL


def test_a_model_gets_what_its_wire_format_has(alice: Access, models: FakeModels) -> None:
    choosing(alice, **ALL)
    completed(run_on(alice, models, "anthropic", "ok"))
    body = models.requests[0]["body"]
    assert (body["temperature"], body["stop_sequences"]) == (0.2, ["END", "###"])
    assert "seed" not in body


def test_nothing_is_said_where_the_teammate_says_nothing(alice: Access, models: FakeModels) -> None:
    completed(run_on(alice, models, "openai", "ok"))
    assert not ALL.keys() & models.requests[0]["body"].keys()


@pytest.mark.parametrize(
    ("said", "left_out"),
    [
        (
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the "
            "default (1) value is supported.",
            "temperature",
        ),
        ("Unsupported parameter: 'top_p' is not supported with this model.", "top_p"),
        ("`temperature` and `top_p` cannot both be specified for this model.", "top_p"),
        ("Unrecognized request argument supplied: seed", "seed"),
        ("Unsupported parameter: 'stop' is not supported with this model.", "stop"),
        ("body -> service_tier: Extra inputs are not permitted", "service_tier"),
    ],
)
def test_a_setting_that_a_model_refuses_is_left_out_and_the_rest_stays(
    alice: Access, models: FakeModels, said: str, left_out: str
) -> None:
    choosing(alice, **ALL)
    models.answers = [refused(400, said), chat({"content": "Hi"})]
    completed(run_on(alice, models, "openai_compatible", "picky"))
    first, second = (request["body"] for request in models.requests)
    assert {name: first[name] for name in ALL} == ALL
    kept = {name: value for name, value in ALL.items() if name != left_out}
    assert {name: second[name] for name in ALL if name in second} == kept


def test_a_model_that_refuses_several_is_asked_without_all_of_them(
    alice: Access, models: FakeModels
) -> None:
    choosing(alice, **ALL)
    answer = chat({"content": "Hi"})

    def picky(body: Any) -> Any:
        for name in ("temperature", "top_p", "seed"):
            if name in body:
                return refused(400, f"Unsupported parameter: '{name}' is not supported.")
        return answer

    models.answer = picky
    completed(run_on(alice, models, "openai_compatible", "picky"))
    assert len(models.requests) == 4


def test_a_value_that_a_provider_finds_too_large_is_told(alice: Access, models: FakeModels) -> None:
    choosing(alice, temperature=1.5)
    models.answer = lambda body: refused(400, "temperature: must be at most 1")
    run = finish(run_on(alice, models, "openai_compatible", "picky"))
    assert run.status == RunStatus.FAILED
    assert "temperature: must be at most 1" in run.error_message
    assert len(models.requests) == 1


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"temperature": 2.1}, "temperature must be a number from 0 to 2"),
        ({"temperature": "warm"}, "temperature must be a number from 0 to 2"),
        ({"temperature": float("nan")}, "temperature must be a number from 0 to 2"),
        ({"top_p": True}, "top_p must be a number from 0 to 1"),
        ({"stop": ["a"] * 5}, "stop must be up to 4 texts"),
        ({"stop": ["a", ""]}, "stop must be texts of 1 to 100 characters"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"service_tier": "first"}, "service_tier must be one of auto, default, flex, priority"),
        ({"heat": 1}, "unknown setting heat"),
    ],
)
def test_settings_that_no_model_has_are_refused(
    alice: Access, given: dict[str, Any], why: str
) -> None:
    with pytest.raises(Invalid, match=why):
        choosing(alice, **given)


def test_the_page_sets_shows_and_clears_them(alice: Access) -> None:
    teammate = default_teammate(alice.organization)
    browser = browser_of(alice)
    form = {
        "name": teammate.name,
        "permission_mode": "autonomous",
        "temperature": "0.2",
        "stop": "END\n\n###\\n",
        "seed": "",
    }
    setup = f"{teammate.get_absolute_url()}?tab=setup"
    assert browser.post(setup, form).status_code == 302
    teammate.refresh_from_db()
    assert teammate.current_version.sampling == {"temperature": 0.2, "stop": ["END", "###\n"]}
    page = browser.get(setup).content.decode()
    assert 'name="temperature" value="0.2"' in page
    assert "END\n###\\n</textarea>" in page
    assert browser.post(setup, form | {"temperature": "3"}).status_code == 422
    assert browser.post(setup, form | {"temperature": "", "stop": ""}).status_code == 302
    teammate.refresh_from_db()
    assert teammate.current_version.sampling == {}
    before = teammate.current_version.number - 1
    page = browser.get(f"{teammate.get_absolute_url()}?tab=versions&a={before}&b={before + 1}")
    words = page.content.decode()
    assert "How it chooses its words" in words
    assert "stop END, ###" in words


def test_what_one_request_may_not_say_another_may(models: FakeModels) -> None:
    client = make_client(Connection("openai_compatible", models.url, may_be_private=True))
    answer = chat({"content": "Hi"})

    def picky(body: Any) -> Any:
        if {"temperature", "top_p"} <= body.keys():
            return refused(400, "`temperature` and `top_p` cannot both be specified.")
        return answer

    async def ask(**sampling: Any) -> None:
        request = ModelRequest("m", "Be brief.", [UserMessage("Hello")], sampling=sampling)
        async with client.call(request) as call:
            async for _ in call:
                pass

    async def ask_both() -> None:
        await ask(temperature=0.2, top_p=0.9)
        await ask(top_p=0.9)

    models.answer = picky
    asyncio.run(ask_both())
    assert [("temperature" in r["body"], "top_p" in r["body"]) for r in models.requests] == [
        (True, True),
        (True, False),
        (False, True),
    ]


def test_a_temperature_of_nothing_is_seen(alice: Access) -> None:
    teammate = choosing(alice, temperature=0, stop=["\n\n", " END "])
    page = browser_of(alice).get(f"{teammate.get_absolute_url()}?tab=setup").content.decode()
    assert '<details class="fold" open>' in page
    assert "\\n\\n\n END </textarea>" in page
