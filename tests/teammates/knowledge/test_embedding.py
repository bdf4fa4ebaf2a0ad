"""Search by meaning: vectors are made by a worker, kept as long as their passages, and searched."""

import asyncio
import json
from typing import Any

import pytest
from django.db import connection

from teammates.access import Access
from teammates.errors import DomainError, Forbidden, Invalid, Unavailable
from teammates.knowledge import documents, embedding, passages
from teammates.llm import catalog
from teammates.models import EmbeddingModel, Passage, PassageVector, Provider
from teammates.providers import Connection
from teammates.providers.base import ProviderError
from teammates.providers.embeddings import embed
from tests.factories import browser_of, default_teammate
from tests.fake_models import FakeModels, embeddings, refused

pytestmark = pytest.mark.django_db(transaction=True)

HANDBOOK = "## Leave\n\nEverybody has 30 holidays.\n\n## Rates\n\nA train is paid, a taxi is not."


def connected(access: Access, models: FakeModels) -> Provider:
    return catalog.create_provider(
        access, name="Local", kind="openai_compatible", base_url=f"{models.url}/v1"
    )


def chosen(access: Access, models: FakeModels) -> EmbeddingModel:
    return embedding.choose(access, connected(access, models), "embed")


def work() -> None:
    """What a worker does until nothing is due."""
    for _ in range(20):
        claimed = embedding.claim_due(busy=set(), limit=10)
        if not claimed:
            return
        for check in claimed:
            asyncio.run(embedding.carry_out(check))
    raise AssertionError("it goes on for ever")


def found(access: Access, query: str) -> list[str]:
    vector = asyncio.run(embedding.vector_of(access.organization, query))
    listed = documents.list_documents(access)
    return [one.heading for one in passages.search_passages(listed, query, limit=5, vector=vector)]


def test_what_means_the_same_is_found(alice: Access, models: FakeModels) -> None:
    documents.write_document(alice, name="handbook", content=HANDBOOK)
    assert found(alice, "time off") == []
    chosen(alice, models)
    work()
    assert found(alice, "time off")[0] == "Leave"
    assert found(alice, "my journey")[0] == "Rates"


def test_what_both_ways_find_comes_first(alice: Access, models: FakeModels) -> None:
    documents.write_document(
        alice, name="h", content=HANDBOOK + "\n\n## Taxis\n\nA taxi is a journey too.\n"
    )
    chosen(alice, models)
    work()
    assert found(alice, "taxi journey")[0] == "Taxis"


def test_each_passage_is_read_once_and_a_new_one_when_it_is_written(
    alice: Access, models: FakeModels
) -> None:
    documents.write_document(
        alice, name="many", content="\n\n".join(f"# {n}\n\nx" for n in range(70))
    )
    model = chosen(alice, models)
    work()
    asked = [text for one in models.requests for text in one.get("body", {}).get("input", [])]
    assert len(asked) == len(set(asked)) == 70
    assert embedding.progress(model) == (70, 70)
    documents.write_document(alice, name="late", content="Tea.")
    work()
    assert embedding.progress(model) == (71, 71)
    model.refresh_from_db()
    assert (model.tokens, model.due_at, model.error) == (71 * 5, None, "")


def test_vectors_go_with_their_passages_and_with_their_model(
    alice: Access, models: FakeModels
) -> None:
    document = documents.write_document(alice, name="handbook", content=HANDBOOK)
    model = chosen(alice, models)
    work()
    documents.write_document(alice, name="handbook", content="Tea.")
    work()
    assert PassageVector.objects.count() == 1
    documents.delete_document(alice, document)
    assert PassageVector.objects.count() == 0
    documents.write_document(alice, name="handbook", content=HANDBOOK)
    work()
    other = embedding.choose(alice, model.provider, "another")
    assert not PassageVector.objects.exists()
    work()
    assert embedding.progress(other) == (2, 2)
    embedding.turn_off(alice, other)
    assert not PassageVector.objects.exists()
    assert Passage.objects.count() == 2


def test_a_provider_is_disconnected_with_its_vectors(alice: Access, models: FakeModels) -> None:
    documents.write_document(alice, name="handbook", content=HANDBOOK)
    catalog.delete_provider(alice, chosen(alice, models).provider)
    assert asyncio.run(embedding.vector_of(alice.organization, "tea")) is None


def test_what_was_asked_for_another_model_is_not_kept(alice: Access, models: FakeModels) -> None:
    documents.write_document(alice, name="handbook", content=HANDBOOK)
    before = chosen(alice, models)
    [check] = embedding.claim_due(busy=set(), limit=10)
    embedding.choose(alice, before.provider, "another")
    asyncio.run(embedding.carry_out(check))
    assert not PassageVector.objects.exists()
    work()
    assert {one.model.name for one in PassageVector.objects.all()} == {"another"}


def test_a_passage_that_is_replaced_meanwhile_is_left_out(
    alice: Access, models: FakeModels
) -> None:
    documents.write_document(alice, name="handbook", content=HANDBOOK)
    documents.write_document(alice, name="tea", content="Tea.")
    model = chosen(alice, models)
    old = list(Passage.objects.select_related("document"))
    documents.write_document(alice, name="tea", content="Brew.")
    embedded = asyncio.run(
        embed(model.provider.connection, "embed", [one.content for one in old], "document")
    )
    embedding._keep(model, old, embedded)
    assert PassageVector.objects.count() == 2
    work()
    assert embedding.progress(model) == (3, 3)


def test_a_worker_that_died_is_followed_by_another(alice: Access, models: FakeModels) -> None:
    documents.write_document(alice, name="handbook", content=HANDBOOK)
    model = chosen(alice, models)
    assert len(embedding.claim_due(busy=set(), limit=10)) == 1
    assert embedding.claim_due(busy=set(), limit=10) == []  # it is being done
    with connection.cursor() as cursor:
        cursor.execute("UPDATE teammates_embeddingmodel SET due_at = now()")
    work()
    assert embedding.progress(model) == (2, 2)


def test_a_failure_is_shown_waits_and_goes_when_it_works(alice: Access, models: FakeModels) -> None:
    documents.write_document(alice, name="handbook", content=HANDBOOK)
    model = chosen(alice, models)
    models.answers = [refused(401, "no such key")]
    work()
    model.refresh_from_db()
    assert "refused the key" in model.error
    assert model.due_at is not None
    page = browser_of(alice).get("/settings/documents/").content.decode()
    assert "refused the key" in page
    assert "Try again now" in page
    browser_of(alice).post("/settings/documents/meaning/", {"again": "1"})
    work()
    model.refresh_from_db()
    assert (model.error, embedding.progress(model)) == ("", (2, 2))


def test_a_passage_that_the_model_refuses_does_not_hold_the_others_up(
    alice: Access, models: FakeModels
) -> None:
    documents.write_document(alice, name="tea", content="Tea.")
    model = chosen(alice, models)
    work()
    documents.write_document(alice, name="poison", content="Poison.")
    documents.write_document(alice, name="handbook", content=HANDBOOK)

    def answer(body: dict[str, Any]) -> Any:
        is_bad = any("Poison" in text for text in body["input"])
        return refused(400, "input is too long for this model") if is_bad else embeddings(body)

    models.embeds = answer
    work()
    model.refresh_from_db()
    assert embedding.progress(model) == (4, 4)
    assert PassageVector.objects.get(passage__document__name="poison").numbers == []
    assert found(alice, "time off")[0] == "Leave"
    assert "" not in found(alice, "time off")[:1]


def test_a_model_that_makes_no_vectors_is_said_to_be_none(
    alice: Access, models: FakeModels
) -> None:
    documents.write_document(alice, name="handbook", content=HANDBOOK)
    model = chosen(alice, models)
    models.embeds = lambda body: refused(400, "this model does not support embeddings")
    work()
    model.refresh_from_db()
    assert "does not support embeddings" in model.error
    assert not PassageVector.objects.exists()


@pytest.mark.parametrize(
    "vectors",
    [
        [],
        [[1.0]],
        [[1.0], [1.0, 2.0]],
        [[0.0], [0.0]],
        [["a"], ["b"]],
        [[], []],
        [[1e999], [1.0]],
        [[1.0] * 16_001] * 2,
    ],
)
def test_what_is_no_vectors_is_refused(models: FakeModels, vectors: list[Any]) -> None:
    data = [{"index": n, "embedding": one} for n, one in enumerate(vectors)]
    content = json.dumps({"object": "list", "data": data, "model": "m"}).encode()
    models.embeds = lambda body: (200, {"Content-Type": "application/json"}, [content])
    where = Connection("openai_compatible", f"{models.url}/v1", may_be_private=True)
    with pytest.raises(ProviderError):
        asyncio.run(embed(where, "m", ["a", "b"], "document"))


def test_google_makes_vectors_too(alice: Access, models: FakeModels) -> None:
    told = {"embeddings": [{"values": [1.0, 2.0]}, {"values": [3.0, 4.0]}]}
    models.answers = [(200, {"Content-Type": "application/json"}, [json.dumps(told).encode()])]
    where = Connection("google", models.url, "key", may_be_private=True)
    made = asyncio.run(embed(where, "gemini-embedding-001", ["a", "b"], "document"))
    assert made.vectors == [[1.0, 2.0], [3.0, 4.0]]
    assert models.requests[-1]["path"].endswith("gemini-embedding-001:batchEmbedContents")


def test_who_may_not_set_models_up_chooses_none(
    alice: Access, bob: Access, models: FakeModels
) -> None:
    provider = connected(alice, models)
    with pytest.raises(Forbidden):
        embedding.choose(bob, provider, "embed")
    model = embedding.choose(alice, provider, "embed")
    with pytest.raises(Forbidden):
        embedding.turn_off(bob, model)


def test_another_organizations_provider_and_passages_are_not_touched(
    alice: Access, eve: Access, models: FakeModels
) -> None:
    documents.write_document(eve, name="secret", content="Tea.")
    model = chosen(alice, models)
    work()
    assert embedding.progress(model) == (0, 0)
    with pytest.raises(DomainError):
        embedding.choose(eve, model.provider, "embed")


@pytest.mark.parametrize("name", ["", " ", "x" * 201])
def test_a_bad_name_is_refused(alice: Access, models: FakeModels, name: str) -> None:
    with pytest.raises(Invalid, match="name"):
        embedding.choose(alice, connected(alice, models), name)


def test_a_provider_without_key_or_embeddings_is_refused(alice: Access) -> None:
    for kind in ("openai", "anthropic"):
        provider = Provider.objects.filter(kind=kind).first() or catalog.create_provider(
            alice, name=kind, kind=kind
        )
        with pytest.raises(Invalid, match="provider"):
            embedding.choose(alice, provider, "embed")


def test_a_database_without_pgvector_says_what_to_do(
    alice: Access, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = connected(alice, models)
    monkeypatch.setattr(embedding, "EXTENSION", "no_such_extension")
    with pytest.raises(Unavailable, match="pgvector"):
        embedding.choose(alice, provider, "embed")
    assert not EmbeddingModel.objects.exists()


def test_a_page_chooses_a_model_and_shows_how_far_it_is(alice: Access, models: FakeModels) -> None:
    browser = browser_of(alice)
    page = browser.get("/settings/documents/meaning/").content.decode()
    assert "No provider has embedding models" in page
    documents.write_document(alice, name="handbook", content=HANDBOOK)
    provider = connected(alice, models)
    form = {"provider": provider.pk, "name": "embed"}
    saved = browser.post("/settings/documents/meaning/", form)
    assert saved.status_code == 302
    page = browser.get("/settings/documents/").content.decode()
    assert "has read 0 of 2" in " ".join(page.split())
    work()
    page = " ".join(browser.get("/settings/documents/").content.decode().split())
    assert "has read all of them" in page
    assert "10 tokens so far; what they cost is unknown" in page
    browser.post("/settings/documents/meaning/", {"off": "1"})
    assert not EmbeddingModel.objects.exists()


def test_a_members_page_has_no_way_to_change_it(bob: Access) -> None:
    documents.write_document(
        bob, name="handbook", content=HANDBOOK, teammate=default_teammate(bob.organization)
    )
    page = browser_of(bob).get("/settings/documents/").content.decode()
    assert "Search by meaning" in page
    assert "Set up" not in page
