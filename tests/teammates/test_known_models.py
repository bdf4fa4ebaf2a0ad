"""Models that the catalogue knows, and those that a provider lists."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from teammates.access import Access
from teammates.llm import catalog, known_models
from teammates.llm.price_updates import follow_catalogue
from teammates.models import Model, ModelPrice, Provider
from teammates.templatetags.muster import price
from tests.factories import browser_of, make_bob
from tests.fake_models import FakeModels, serve

pytestmark = pytest.mark.django_db(transaction=True)


def of(alice: Access, kind: str, models: FakeModels | None = None) -> Provider:
    alice.organization.is_home = True
    alice.organization.save()
    base = models.url if models else ""
    base += "/v1" if models and kind != "anthropic" else ""
    return catalog.create_provider(alice, name=kind, kind=kind, api_key="sk-1", base_url=base)


def names_of(alice: Access, provider: Provider) -> str:
    answer: Any = browser_of(alice).get(f"/settings/providers/{provider.pk}/names/")

    async def whole() -> bytes:
        return b"".join([piece async for piece in answer.streaming_content])

    return async_to_sync(whole)().decode()


def test_a_known_model_has_the_catalogues_prices_and_window(alice: Access) -> None:
    model = catalog.add_model(alice, of(alice, "openai"), alias="five", name="gpt-5")
    assert model.context_window == 400_000
    price = model.price_now()
    assert price is not None
    assert (price.uncached_input, price.cache_read, price.output) == (
        Decimal("1.25"),
        Decimal("0.125"),
        Decimal("10"),
    )
    assert price.cache_write == price.uncached_input  # it has no price of its own
    assert price.source.startswith("genai-prices ")
    page = browser_of(alice).get("/settings/models/").content.decode()
    assert f"Prices of {price.source}" in page


def test_own_prices_are_above_the_catalogues(alice: Access) -> None:
    own = {"uncached_input": "2", "cache_read": "1", "cache_write": "3", "output": "4"}
    provider = of(alice, "openai")
    given = catalog.add_model(alice, provider, alias="a", name="gpt-5", prices=own).price_now()
    assert given is not None
    assert (given.uncached_input, given.source) == (2, "")
    model = catalog.add_model(alice, provider, alias="b", name="gpt-5")
    set_now = catalog.set_price(alice, model, **own)
    assert model.price_now() == set_now
    assert ModelPrice.objects.filter(model=model).count() == 2  # what was booked keeps its price


@pytest.mark.parametrize(("kind", "name"), [("openai", "no-such-model"), ("ollama", "llama3")])
def test_a_model_that_nobody_knows_has_no_price(alice: Access, kind: str, name: str) -> None:
    model = catalog.add_model(alice, of(alice, kind), alias=name, name=name)
    assert model.price_now() is None
    assert model.context_window == Model._meta.get_field("context_window").default
    page = browser_of(alice).get("/settings/models/").content.decode()
    assert "No price: cost is unknown" in page


@pytest.mark.parametrize("hour", [2, 8, 20])
def test_a_price_that_changes_with_the_hour_is_the_dearest(hour: int) -> None:
    now = datetime(2026, 11, 30, hour, 5, tzinfo=UTC)
    known = known_models.find("deepseek", "deepseek-chat", at=now)
    assert known is not None
    assert known.prices is not None
    assert known.prices["output"] == Decimal("1.1")


def test_a_window_ends_where_a_request_would_cost_more() -> None:
    known = known_models.find("openrouter", "anthropic/claude-sonnet-4.5")
    assert known is not None
    assert known.prices is not None
    assert (known.context_window, known.prices["uncached_input"]) == (200_000, 3)


@pytest.mark.parametrize("kind", ["openai", "anthropic", "ollama"])
def test_a_provider_lists_what_a_key_can_use(alice: Access, kind: str) -> None:
    with serve() as models:
        models.listed = 200, {"data": [{"id": "gpt-5"}, {"id": "<b>new"}, {"id": "gpt-4o"}]}
        provider = of(alice, kind, models)
        catalog.add_model(alice, provider, alias="five", name="gpt-5")
        shown = names_of(alice, provider)
        (asked,) = models.requests
    assert "offers 2 more" in shown
    assert 'data-value="gpt-4o"' in shown
    assert 'data-value="gpt-5"' not in shown  # it is there
    assert "<b>" not in shown
    if kind == "openai":
        assert "128,000 tokens" in shown
    key = asked["headers"]["x-api-key" if kind == "anthropic" else "Authorization"]
    assert key == ("sk-1" if kind == "anthropic" else "Bearer sk-1")
    assert asked["path"].startswith("/v1/models")


YES, NO = {"supported": True}, {"supported": False}


@pytest.mark.parametrize(
    ("kind", "model", "told"),
    [
        ("openai", {"id": "gpt-4o"}, "128,000 tokens · takes text, pictures, PDFs"),
        ("openai", {"id": "gpt-3.5-turbo"}, "16,385 tokens · takes text"),
        ("openai", {"id": "nobody-knows-it"}, ""),
        (
            "anthropic",
            {
                "id": "new-one",
                "max_input_tokens": 300_000,
                "capabilities": {"image_input": YES, "pdf_input": NO},
            },
            "300,000 tokens · takes text, pictures",
        ),
        ("anthropic", {"id": "old-one", "capabilities": None}, ""),
        (
            "mistral",
            {"id": "new-one", "max_context_length": 65_536, "capabilities": {"vision": False}},
            "65,536 tokens · takes text",
        ),
        (  # its API has no part for files, whatever it lists
            "openrouter",
            {"id": "x/y", "architecture": {"input_modalities": ["text", "image", "file"]}},
            "takes text, pictures",
        ),
        ("groq", {"id": "new-one", "context_window": 131_072}, "131,072 tokens"),
        ("openai_compatible", {"id": "own", "max_model_len": 4096}, "4,096 tokens"),
        ("openai_compatible", {"id": "own", "max_model_len": "4096", "architecture": []}, ""),
        ("openai_compatible", {"id": "own", "context_length": True, "capabilities": "all"}, ""),
    ],
)
def test_the_list_says_what_a_model_reads_and_takes(
    alice: Access, models: FakeModels, kind: str, model: dict[str, object], told: str
) -> None:
    models.listed = 200, {"data": [model]}
    shown = " ".join(names_of(alice, of(alice, kind, models)).split())
    said = re.search(r"<small>([^$<]*?)(?: · \$.*)?</small>", shown)
    assert (said[1].strip() if said else "") == told


def test_a_retired_model_is_not_offered(alice: Access, models: FakeModels) -> None:
    models.listed = 200, {"data": [{"id": "a", "lifecycle": "retired"}, {"id": "b"}]}
    shown = names_of(alice, of(alice, "anthropic", models))
    assert 'value="b"' in shown
    assert 'value="a"' not in shown


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ((401, {"error": "no"}), "OpenAI refused the key. Check it."),
        ((404, {}), "OpenAI does not list its models."),
        ((200, {"data": "x"}), "OpenAI does not list its models."),
        ((200, ["x"]), "OpenAI does not list its models."),
    ],
)
def test_a_provider_that_lists_nothing_says_why(
    alice: Access, listed: tuple[int, object], said: str
) -> None:
    with serve() as models:
        models.listed = listed
        assert said in names_of(alice, of(alice, "openai", models))


def test_a_provider_that_is_not_there_says_so(alice: Access) -> None:
    provider = of(alice, "openai")
    provider.base_url = "http://127.0.0.1:9/v1"
    provider.save()
    assert "OpenAI could not be reached." in names_of(alice, provider)


def test_a_key_that_no_provider_gave_is_refused(alice: Access) -> None:
    provider = of(alice, "openai")
    provider.api_key = "sk-é"
    provider.save()
    assert "OpenAI refused the key." in names_of(alice, provider)


def test_only_who_manages_models_asks_a_provider(alice: Access) -> None:
    with serve() as models:
        provider = of(alice, "openai", models)
        url = f"/settings/providers/{provider.pk}/names/"
        assert browser_of(make_bob(alice)).get(url).status_code == 403
        assert not models.requests


@pytest.mark.parametrize(
    ("dollars", "shown"),
    [("0.125000", "$0.125"), ("3", "$3.00"), ("0", "$0.00"), ("100", "$100.00")],
)
def test_prices_are_not_rounded(dollars: str, shown: str) -> None:
    assert price(Decimal(dollars)) == shown


def names_for(alice: Access, **form: str) -> str:
    answer: Any = browser_of(alice).post("/settings/providers/names/", form)
    if not answer.streaming:
        return str(answer.content.decode())

    return str(b"".join(async_to_sync(_pieces)(answer)).decode())


async def _pieces(answer: Any) -> list[bytes]:
    return [piece async for piece in answer]


def test_the_models_of_a_server_are_listed_before_it_is_connected(
    alice: Access, models: FakeModels
) -> None:
    models.listed = (200, {"data": [{"id": "first"}, {"id": "second"}]})
    page = names_for(alice, kind="openai_compatible", base_url=f"{models.url}/v1", api_key="")
    assert 'data-fills="id_model"' in page
    assert 'data-value="second"' in page
    assert not Provider.objects.filter(kind="openai_compatible").exists()


@pytest.mark.parametrize(
    "form", [{}, {"kind": "openai"}, {"kind": "openai_compatible"}, {"kind": "nonsense"}]
)
def test_nobody_is_asked_before_the_form_says_whom(alice: Access, form: dict[str, str]) -> None:
    assert names_for(alice, **form) == ""


def test_a_member_lists_no_models(bob: Access, models: FakeModels) -> None:
    answer = browser_of(bob).post(
        "/settings/providers/names/", {"kind": "openai_compatible", "base_url": models.url}
    )
    assert answer.status_code == 403
    assert not models.requests


def test_a_second_model_of_a_name_is_called_by_its_provider_too(alice: Access) -> None:
    for name in ("one", "two"):
        catalog.connect(
            alice, name=name, kind="ollama", api_key="", base_url="http://127.0.0.1:1/v1", model="m"
        )
    assert {model.alias for model in Model.objects.filter(name="m")} == {"m", "m (two)"}


def old_price(model: Model, **fields: Any) -> ModelPrice:
    """The price of a model as an earlier release of the catalogue had it."""
    price = model.price_now()
    assert price is not None
    ModelPrice.objects.filter(pk=price.pk).update(**{"source": "genai-prices 0.0.1"} | fields)
    price.refresh_from_db()
    return price


def test_a_new_release_of_the_catalogue_changes_prices_from_now_on(alice: Access) -> None:
    model = catalog.add_model(alice, of(alice, "openai"), alias="five", name="gpt-5")
    before = old_price(model, output=Decimal("12"))
    assert follow_catalogue() == 1
    assert model.price_now() == before  # of calls that just begin
    price = model.prices.get(valid_from__gt=timezone.now())
    assert (price.output, price.source) == (Decimal("10"), known_models.source())
    assert price.valid_from > before.valid_from
    assert ModelPrice.objects.get(pk=before.pk).output == Decimal("12")  # of what was booked
    assert follow_catalogue() == 0
    assert model.prices.count() == 2


def test_what_did_not_change_or_was_set_stays(alice: Access) -> None:
    provider = of(alice, "openai")
    same = catalog.add_model(alice, provider, alias="same", name="gpt-5")
    old_price(same)
    own = catalog.add_model(alice, provider, alias="own", name="gpt-5")
    old_price(own, output=Decimal("12"))
    newer = catalog.add_model(alice, provider, alias="newer", name="gpt-5")
    old_price(newer, output=Decimal("12"), source="genai-prices 999.0.0")
    lanes = {"uncached_input": "2", "cache_read": "1", "cache_write": "3", "output": "4"}
    set_now = catalog.set_price(alice, own, **lanes)
    gone = catalog.add_model(alice, provider, alias="gone", name="gpt-5-mini")
    old_price(gone, output=Decimal("12"))
    Model.objects.filter(pk=gone.pk).update(name="no-such-model")
    assert follow_catalogue() == 0
    assert own.price_now() == set_now
    kept = same.price_now()
    assert kept is not None
    assert kept.source == known_models.source()
    assert [one.prices.count() for one in (same, own, gone, newer)] == [1, 2, 1, 1]


def test_nothing_is_loaded_where_there_is_nothing_to_follow(
    alice: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.add_model(alice, of(alice, "openai"), alias="five", name="gpt-5")
    monkeypatch.setattr(known_models, "find", None)
    assert follow_catalogue() == 0
