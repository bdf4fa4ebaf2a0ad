"""What an answer cites: passages that the run found, shown under it and opened at their place."""

import json
from typing import Any

import pytest

from runs.models import Event, Run, RunStatus
from runs.tools.toolbox import tools_of_run
from teammates.access import Access
from teammates.knowledge import documents
from teammates.models import EmbeddingModel
from tests.factories import browser_of
from tests.fake_models import FakeModels, chat, has_tool_result, refused
from tests.runs.execution.calling import call_of
from tests.runs.execution.working import finish, run_on, work_until
from tests.teammates.knowledge.test_embedding import chosen

pytestmark = pytest.mark.django_db(transaction=True)


def search(query: str, call_id: str = "c1") -> Any:
    call = {"name": "search_documents", "arguments": json.dumps({"query": query})}
    delta = {"tool_calls": [{"index": 0, "id": call_id, "function": call}]}
    return chat(delta, finish="tool_calls")


def asked(access: Access, models: FakeModels, *answers: Any) -> Run:
    models.answers = list(answers)
    run = finish(run_on(access, models, "openai", "ok", message="How much is tea?"))
    assert run.status == RunStatus.COMPLETED, run.error_message
    return run


def test_an_answer_shows_the_passages_that_it_cites(alice: Access, models: FakeModels) -> None:
    text = "## Coffee\n\nCoffee costs 4 euros.\n\n## Tea\n\nTea costs 3 euros."
    document = documents.write_document(alice, name="prices", content=text)
    run = asked(alice, models, search("tea costs"), chat({"content": "It costs 3 euros [1]."}))
    result = call_of(run, "search_documents").result
    assert [one["place"] for one in result["passages"]] == ["Tea", "Coffee"]
    said = Event.objects.filter(run=run, type="message.completed").last()
    assert said is not None
    [source] = said.data["sources"]
    assert (source["number"], source["document"], source["place"]) == (1, "prices", "Tea")
    page = browser_of(alice).get(f"/threads/{run.thread_id}/").content.decode()
    assert (
        f"/settings/documents/{document.pk}/?passage=2&amp;digest={source['digest']}#pass" in page
    )
    assert "Tea costs 3 euros." in page


def test_a_second_search_goes_on_counting(alice: Access, models: FakeModels) -> None:
    documents.write_document(alice, name="tea", content="Tea costs 3 euros.")
    documents.write_document(alice, name="coffee", content="Coffee costs 4 euros.")
    answer = chat({"content": "Tea 3 [1], coffee 4 [2], and [9] is none."})
    run = asked(alice, models, search("tea"), search("coffee", "c2"), answer)
    said = Event.objects.filter(run=run, type="message.completed").last()
    assert said is not None
    assert [one["document"] for one in said.data["sources"]] == ["tea", "coffee"]


def test_an_answer_that_cites_nothing_has_no_sources(alice: Access, models: FakeModels) -> None:
    documents.write_document(alice, name="tea", content="Tea costs 3 euros.")
    run = asked(alice, models, search("tea"), chat({"content": "3 euros."}))
    said = Event.objects.filter(run=run, type="message.completed").last()
    assert said is not None
    assert "sources" not in said.data


def test_the_tool_is_offered_where_there_are_documents(alice: Access, models: FakeModels) -> None:
    run = asked(alice, models, chat({"content": "Hello"}))
    assert tools_of_run(run).get("search_documents") is None
    documents.write_document(alice, name="tea", content="Tea costs 3 euros.")
    models.requests.clear()
    models.answers = [chat({"content": "Hello"})]
    finish(run_on(alice, models, "openai", "other"))
    body = models.requests[0]["body"]
    assert "search_documents" in [tool["function"]["name"] for tool in body["tools"]]


def test_nothing_found_is_said(alice: Access, models: FakeModels) -> None:
    documents.write_document(alice, name="tea", content="Tea costs 3 euros.")
    run = asked(alice, models, search("zebra"), chat({"content": "No."}))
    assert call_of(run, "search_documents").result["passages"] == []


def test_of_another_organization_nothing_is_cited(
    alice: Access, eve: Access, models: FakeModels
) -> None:
    documents.write_document(eve, name="secret", content="The treasure is here.")
    documents.write_document(alice, name="tea", content="Tea costs 3 euros.")
    run = asked(alice, models, search("treasure"), chat({"content": "No [1]."}))
    assert call_of(run, "search_documents").result["passages"] == []


def test_many_long_sources_fit_into_an_event(alice: Access, models: FakeModels) -> None:
    for n in range(25):
        text = f"# {'Ж' * 190}\n\n{'я tea ' * 180}"
        documents.write_document(alice, name=f"{n} {'ё' * 150}", content=text)
    calls = [search(f"tea {n}", f"c{n}") for n in range(4)]
    cites = " ".join(f"[{n}]" for n in range(1, 30))
    run = asked(alice, models, *calls, chat({"content": "я" * 20_000 + cites}))
    said = Event.objects.filter(run=run, type="message.completed").last()
    assert said is not None
    assert 3 < len(said.data["sources"]) < 29


def test_a_document_that_changed_since_is_not_shown_as_what_was_cited(
    alice: Access, models: FakeModels
) -> None:
    documents.write_document(alice, name="tea", content="Tea costs 3 euros.")
    run = asked(alice, models, search("tea"), chat({"content": "3 euros [1]."}))
    client = browser_of(alice)
    page = client.get(f"/threads/{run.thread_id}/").content.decode()
    link = page.split('href="/settings/documents/')[1].split('"')[0].replace("&amp;", "&")
    shown = client.get(f"/settings/documents/{link}").content.decode()
    assert 'class="prose cited"' in shown
    documents.write_document(alice, name="tea", content="Tea costs 5 euros.")
    shown = client.get(f"/settings/documents/{link}").content.decode()
    assert "has changed since it was cited" in shown
    assert 'class="prose cited"' not in shown


def test_a_run_finds_what_means_the_same(alice: Access, models: FakeModels) -> None:
    documents.write_document(alice, name="leave", content="Everybody has 30 holidays.")
    documents.write_document(alice, name="tea", content="Tea costs 3 euros.")
    model = chosen(alice, models)
    work_until(lambda: not EmbeddingModel.objects.exclude(due_at=None).exists())
    models.answer = lambda body: (
        chat({"content": "30 days [1]."}) if has_tool_result(body) else search("time off")
    )
    run = finish(run_on(alice, models, "openai", "ok", message="How much time off?"))
    assert call_of(run, "search_documents").result["passages"][0]["document"] == "leave"
    model.refresh_from_db()
    assert model.tokens == 15  # two passages and a question


def test_a_search_goes_by_words_while_the_embedding_model_is_away(
    alice: Access, models: FakeModels
) -> None:
    documents.write_document(alice, name="tea", content="Tea costs 3 euros.")
    chosen(alice, models)
    models.embeds = lambda body: refused(503, "asleep")
    models.answer = lambda body: (
        chat({"content": "3 [1]."}) if has_tool_result(body) else search("tea")
    )
    run = finish(run_on(alice, models, "openai", "ok", message="How much is tea?"))
    result = call_of(run, "search_documents").result
    assert [one["document"] for one in result["passages"]] == ["tea"]
    assert "by words alone" in result["note"]
