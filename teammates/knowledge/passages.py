"""Passages: the pieces of documents that searches find and answers cite."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.contrib.postgres.search import SearchRank
from django.db.models import Case, Count, F, FloatField, Q, QuerySet, Value, When

from teammates.models import Document, Passage
from teammates.searching import each_word_of, query_of

SIZE = 1_200  # characters, about; a paragraph is not cut unless it is longer
LEAST, MANY_HEADINGS = 400, 1_000
LONGEST_HEADING = 200  # characters
BATCH = 500  # rows
_PARAGRAPH = re.compile(r"\S(?:.|\n(?!\s*\n))*")
_HEADING = re.compile(r"#{1,6} +(\S.*)")
_BREAK = re.compile(r"[.!?…。]\s|\s")


@dataclass(frozen=True)
class Piece:
    """A part of a text, and the heading that it stands under."""

    heading: str
    text: str


def cut(text: str) -> list[Piece]:
    """A text in pieces of about `SIZE` characters, at headings and paragraphs, in order."""
    pieces: list[Piece] = []
    heading, start, end = "", 0, 0
    # Of very many headings, not each begins a piece.
    least = LEAST if text.count("\n#") > MANY_HEADINGS else 0
    for at, until in _parts(text):
        title = _HEADING.match(text, at, until)
        if end and ((title and end - start >= least) or until - start > SIZE):
            pieces.append(Piece(heading, text[start:end].strip()))
            start = at
        elif not end:
            start = at
        heading = title[1].strip()[:LONGEST_HEADING] if title else heading
        end = until
    return [*pieces, Piece(heading, text[start:end].strip())] if end else pieces


def _parts(text: str) -> Iterator[tuple[int, int]]:
    """Where each paragraph begins and ends; a long one in parts, behind a sentence or a word."""
    for paragraph in _PARAGRAPH.finditer(text):
        start, end = paragraph.span()
        while end - start > SIZE:
            breaks = list(_BREAK.finditer(text, start + SIZE // 2, start + SIZE))
            sentences = [one.end() for one in breaks if len(one[0]) > 1]
            until = (sentences or [one.end() for one in breaks] or [start + SIZE])[-1]
            yield start, until
            start = until
        yield start, end


def replace_passages(document: Document, pieces: Sequence[Piece]) -> None:
    """Cut a document anew; call inside the transaction that writes its content."""
    Passage.objects.filter(document=document).delete()
    Passage.objects.bulk_create(
        [
            Passage(document=document, number=number, heading=piece.heading, content=piece.text)
            for number, piece in enumerate(pieces, start=1)
        ],
        batch_size=BATCH,
    )


def search_passages(readable: "QuerySet[Document]", query: str, *, limit: int) -> list[Passage]:
    """The passages of `readable` documents that fit the words of a query best: those with its
    rarer words first, and of these those where they stand close together. Three queries."""
    words = each_word_of(query)
    if not words:
        return []
    # By their numbers: the passages of everybody else are not looked at.
    ids = list(readable.order_by().values_list("pk", flat=True))
    passages = Passage.objects.filter(document__in=ids)
    any_word = query_of(" | ".join(words))
    with_word = {f"with_{n}": Count("pk", filter=Q(words=query_of(w))) for n, w in enumerate(words)}
    counts = passages.aggregate(**with_word, every=Count("pk"))
    weights = [
        math.log(1 + (counts["every"] + 1) / (counts[f"with_{n}"] + 0.5)) for n in range(len(words))
    ]
    fits = sum(
        (
            Case(When(words=query_of(word), then=Value(weight)), default=Value(0.0))
            for word, weight in zip(words, weights, strict=True)
        ),
        start=Value(0.0, output_field=FloatField()),
    )
    found = passages.filter(words=any_word).annotate(
        fits=fits, closeness=SearchRank(F("words"), any_word)
    )
    return list(
        found.select_related("document")
        .defer("words", "document__content")
        .order_by("-fits", "-closeness", "pk")[:limit]
    )
