"""Documents: brought as files, shown at a place, changed, deleted."""

import io
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, override_settings

from teammates.access import Access
from teammates.errors import Forbidden, Invalid, TooMany
from teammates.knowledge import documents
from teammates.models import Author, Document
from teammates.roster import editing
from teammates.trust import limits
from tests.factories import browser_of, default_teammate, make_key
from tests.teammates.test_file_text import pdf

pytestmark = pytest.mark.django_db(transaction=True)
URL = "/settings/documents/"


def test_the_text_of_a_file_is_kept(alice: Access) -> None:
    document = documents.add_file(alice, "report.pdf", pdf("Sales rose by 7 %"))
    assert (document.name, document.author) == ("report.pdf", Author.PERSON)
    assert document.summary == "Sales rose by 7 %"
    assert document.passages.get().heading == "Page 1"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.bin", b"\xff\xfe\x00", "is not a text file"),
        ("a.pdf", b"%PDF-1.4 broken", "damaged PDF"),
        ("a.txt", b" \n ", "has no text"),
        ("a/b.txt", b"x", "no slash"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(
    alice: Access, name: str, content: bytes, why: str
) -> None:
    with pytest.raises(Invalid, match=why):
        documents.add_file(alice, name, content)
    assert not Document.objects.exists()


def test_a_teammate_that_is_not_ones_own_gets_none(alice: Access, bob: Access) -> None:
    teammate = editing.create_teammate(alice, name="Shared", visibility="organization")
    with pytest.raises(Forbidden):
        documents.add_file(bob, "a.txt", b"x", teammate=teammate)


@override_settings(LIMITS=True)
def test_uploads_are_limited(alice: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPLOADS", limits.Limit("uploads", 1, limits.MINUTE))
    documents.add_file(alice, "a.txt", b"x")
    with pytest.raises(TooMany):
        documents.add_file(alice, "b.txt", b"x")


def test_a_text_that_is_too_long_is_refused(alice: Access) -> None:
    with pytest.raises(Invalid, match="Split it"):
        documents.add_file(alice, "long.txt", b"x" * (documents.LONGEST_DOCUMENT + 1))


def test_what_somebody_wrote_about_a_document_stays_with_a_new_version(alice: Access) -> None:
    document = documents.add_file(alice, "a.txt", b"First words")
    documents.add_file(alice, "a.txt", b"Second words")
    document.refresh_from_db()
    assert document.summary == "Second words"
    documents.update_document(alice, document, summary="What we agreed")
    documents.add_file(alice, "a.txt", b"Third words")
    document.refresh_from_db()
    assert (document.summary, document.content) == ("What we agreed", "Third words")


def test_two_files_of_a_name_are_refused_together(alice: Access) -> None:
    files = [upload("a.txt", b"one"), upload("a.txt", b"two")]
    answer = browser_of(alice).post(URL, {"upload": files})
    assert "have the same name" in answer.content.decode()
    assert not Document.objects.exists()


def upload(name: str, content: bytes) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def test_files_are_brought_on_the_page_and_those_that_fail_are_named(alice: Access) -> None:
    client = browser_of(alice)
    assert "No documents yet" in client.get(URL).content.decode()
    files = [upload("a.txt", b"alpha"), upload("b.bin", b"\xff\x00"), upload("c.md", b"# Gamma")]
    answer = client.post(URL, {"upload": files, "teammate": ""})
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "b.bin is not a text file" in page
    assert set(Document.objects.values_list("name", flat=True)) == {"a.txt", "c.md"}
    assert client.post(URL, {"upload": [upload("d.txt", b"delta")]}).status_code == 302


def test_a_document_is_opened_at_a_place(alice: Access) -> None:
    text = "\n\n".join(f"## Part {n}\n\nText <b>{n}</b>." for n in range(1, 101))
    document = documents.write_document(alice, name="long", content=text)
    client = browser_of(alice)
    page = client.get(f"{URL}{document.pk}/?passage=57").content.decode()
    assert '<section id="passage-57" class="prose cited">' in page
    assert "Text &lt;b&gt;57&lt;/b&gt;." in page
    assert "Parts 41 to 80 of 100" in page
    for odd in ("", "?passage=0", "?passage=-1", "?passage=9999", "?passage=x"):
        assert client.get(f"{URL}{document.pk}/{odd}").status_code == 200


def test_a_search_shows_what_a_teammate_would_find(alice: Access) -> None:
    documents.write_document(alice, name="prices", content="Tea costs 3 euros.")
    page = browser_of(alice).get(f"{URL}?q=tea+price").content.decode()
    assert "Tea costs 3 euros." in page
    assert "Nothing fits" in browser_of(alice).get(f"{URL}?q=coffee").content.decode()


def test_a_document_is_renamed_and_deleted(alice: Access) -> None:
    document = documents.write_document(alice, name="old", content="x")
    client = browser_of(alice)
    client.post(f"{URL}{document.pk}/", {"name": "new", "summary": "What it says"})
    document.refresh_from_db()
    assert (document.name, document.summary) == ("new", "What it says")
    documents.write_document(alice, name="taken", content="y")
    answer = client.post(f"{URL}{document.pk}/", {"name": "taken", "summary": ""})
    assert answer.status_code == 422
    client.post(f"{URL}{document.pk}/delete/")
    assert not Document.objects.filter(pk=document.pk).exists()


def test_of_another_organization_none_is_seen(alice: Access, eve: Access) -> None:
    document = documents.write_document(eve, name="secret", content="The treasure.")
    client = browser_of(alice)
    assert client.get(f"{URL}{document.pk}/").status_code == 404
    assert client.post(f"{URL}{document.pk}/delete/").status_code == 404
    assert (
        "treasure"
        not in client.get(f"{URL}?q=treasure")
        .content.decode()
        .split("<main")[1]
        .split("</form>")[-1]
    )


def test_many_documents_are_as_many_queries_as_one(
    alice: Access, django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    client = browser_of(alice)
    for n in range(12):
        documents.write_document(alice, name=f"d{n}", content="x")
    client.get(URL)
    with django_assert_max_num_queries(12):  # type: ignore[operator]
        client.get(URL)


def test_a_large_office_file_is_searched(alice: Access) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    assert book.active is not None
    for n in range(500):
        book.active.append([f"item {n}", n])
    kept = io.BytesIO()
    book.save(kept)
    document = documents.add_file(alice, "prices.xlsx", kept.getvalue())
    assert document.passages.count() > 3


def test_a_program_uploads_a_file_and_one_of_its_name_replaces_it(alice: Access) -> None:
    program = Client(headers={"Authorization": f"Bearer {make_key(alice)}"})
    teammate = default_teammate(alice.organization)
    given = {"file": SimpleUploadedFile("prices.csv", b"tea,3\ncoffee,4")}
    made = program.post("/api/v2/documents", given)
    assert made.status_code == 201, made.content
    assert (made.json()["name"], made.json()["scope"]) == ("prices.csv", "company")
    again = {"file": SimpleUploadedFile("prices.csv", b"tea,5")}
    assert program.post("/api/v2/documents", again).json()["id"] == made.json()["id"]
    own = {"file": SimpleUploadedFile("a/../own.txt", b"mine"), "agent_id": teammate.pk}
    assert program.post("/api/v2/documents", own).json()["agent_id"] == teammate.pk
    listed = program.get("/api/v2/documents", {"scope": "company"}).json()["data"]
    assert [one["name"] for one in listed] == ["prices.csv"]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 422),
        ({"file": SimpleUploadedFile("a.bin", b"\x00\x01\xff")}, 422),
        ({"file": SimpleUploadedFile("a.txt", b"x"), "agent_id": 999}, 404),
        ({"file": SimpleUploadedFile("a.txt", b"x"), "agent_id": "x"}, 422),
    ],
)
def test_an_upload_that_cannot_be_kept_says_why(
    alice: Access, given: dict[str, Any], status: int
) -> None:
    program = Client(headers={"Authorization": f"Bearer {make_key(alice)}"})
    refused = program.post("/api/v2/documents", given)
    assert refused.status_code == status, refused.content
    assert not Document.objects.exists()
