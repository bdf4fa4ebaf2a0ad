"""Passages: how documents are cut, and which of their pieces a search finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teammates.access import Access
from teammates.knowledge import documents, passages
from teammates.knowledge.passages import SIZE, Piece, cut
from teammates.models import Document, Passage, Teammate
from tests.factories import default_teammate

HANDBOOK = """# Handbook

## Holidays

Everybody has 30 days of holidays a year. Ask Kim before you go.

## Travel

Trains are paid in second class.

The hotel may cost 120 euros a night.
"""


def test_a_text_is_cut_at_its_headings() -> None:
    assert cut(HANDBOOK) == [
        Piece("Handbook", "# Handbook"),
        Piece(
            "Holidays",
            "## Holidays\n\nEverybody has 30 days of holidays a year. Ask Kim before you go.",
        ),
        Piece(
            "Travel",
            "## Travel\n\nTrains are paid in second class.\n\n"
            "The hotel may cost 120 euros a night.",
        ),
    ]


def test_short_paragraphs_stay_together_and_long_ones_are_cut_behind_a_sentence() -> None:
    short = "\n\n".join(f"Paragraph {n}." for n in range(20))
    assert len(cut(short)) == 1
    pieces = cut("A sentence of some words. " * 200)
    assert len(pieces) > 3
    assert all(piece.text.endswith(".") for piece in pieces)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=6_000))
def test_nothing_is_lost_and_no_piece_is_large(text: str) -> None:
    pieces = cut(text)
    assert "".join("".join(piece.text for piece in pieces).split()) == "".join(text.split())
    assert all(0 < len(piece.text) <= SIZE for piece in pieces)


@pytest.mark.parametrize("text", ["", " \n\n \t", "x" * 50_000, "\n" * 9_000 + "x", "# " * 5_000])
def test_odd_texts_are_cut_too(text: str) -> None:
    assert all(0 < len(piece.text) <= SIZE for piece in cut(text))


def test_very_many_headings_make_no_very_many_pieces() -> None:
    assert len(cut("# a\n\n" * 100_000)) < 2_000


# --- searching ----------------------------------------------------------------------------------
pytest_db = pytest.mark.django_db


def found(access: Access, query: str, teammate: Teammate | None = None) -> list[tuple[str, str]]:
    readable = documents.documents_for(access, teammate or default_teammate(access.organization))
    hits = passages.search_passages(readable, query, limit=5)
    return [(hit.document.name, hit.place) for hit in hits]


@pytest_db
def test_the_passage_with_the_rarer_words_comes_first(alice: Access) -> None:
    documents.write_document(alice, name="handbook", content=HANDBOOK)
    other = "\n\n".join(f"## Day {n}\n\nThe hotel was fine." for n in range(30))
    documents.write_document(alice, name="diary", content=other)
    assert found(alice, "What may the hotel cost per night?")[0] == ("handbook", "Travel")


@pytest_db
def test_words_in_a_heading_and_beginnings_of_words_are_found(alice: Access) -> None:
    documents.write_document(alice, name="handbook", content=HANDBOOK)
    assert found(alice, "holiday")[0] == ("handbook", "Holidays")
    assert found(alice, "travel") == [("handbook", "Travel")]


@pytest_db
@pytest.mark.parametrize("query", ["", "?!", "'", "a' | 'b", "\\", ":*", "\x00", "nowhere"])
def test_odd_queries_find_nothing_and_break_nothing(alice: Access, query: str) -> None:
    documents.write_document(alice, name="handbook", content="Quiet.")
    assert found(alice, query) == []


@pytest_db
def test_a_text_that_is_replaced_is_found_no_more(alice: Access) -> None:
    documents.write_document(alice, name="handbook", content="Old words.")
    documents.write_document(alice, name="handbook", content="New sentences.")
    assert found(alice, "old") == []
    assert found(alice, "sentences") == [("handbook", "part 1")]
    documents.delete_document(alice, Document.objects.get())
    assert not Passage.objects.exists()


@pytest_db
def test_of_another_organization_or_teammate_nothing_is_found(alice: Access, eve: Access) -> None:
    documents.write_document(eve, name="secret", content="The treasure is under the oak.")
    from teammates.roster import editing

    other = editing.create_teammate(alice, name="Other")
    documents.write_document(alice, name="own", content="A treasure of ours.", teammate=other)
    assert found(alice, "treasure") == []
    assert found(alice, "treasure", other) == [("own", "part 1")]


@pytest_db
def test_a_search_is_three_queries(
    alice: Access, django_assert_num_queries: pytest.FixtureRequest
) -> None:
    documents.write_document(alice, name="handbook", content=HANDBOOK * 20)
    teammate = default_teammate(alice.organization)
    readable = documents.documents_for(alice, teammate)
    with django_assert_num_queries(3):  # type: ignore[operator]
        passages.search_passages(readable, "hotel night cost", limit=5)
