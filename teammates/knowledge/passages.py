"""Passages: the pieces of documents that searches find and answers cite."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.contrib.postgres.search import SearchRank
from django.db.models import Case, Count, F, FloatField, Func, Q, QuerySet, Value, When

from teammates.models import Document, Passage
from teammates.searching import each_word_of, query_of

SIZE = 1_200  # characters, about; a paragraph is not cut unless it is longer
LEAST, MANY_HEADINGS = 400, 1_000
LONGEST_HEADING = 200  # characters
BATCH = 500  # rows
CANDIDATES = 40  # of each way of searching, where there are two
FUSION = 60  # the usual constant: how little a first place is above a second
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


def search_passages(
    readable: "QuerySet[Document]",
    query: str,
    *,
    limit: int,
    vector: Sequence[float] | None = None,
) -> list[Passage]:
    """The passages of `readable` documents that fit a query best, by its words and, where its
    `vector` is given (`embedding.vector_of`), by what it means. Three queries, or five."""
    # By their numbers: the passages of everybody else are not looked at.
    ids = list(readable.order_by().values_list("pk", flat=True))
    passages = Passage.objects.filter(document__in=ids)
    by_words = _by_words(passages, query)
    if vector is None:
        return list(_shown(by_words)[:limit])
    rankings = [
        list(ranking.values_list("pk", flat=True)[:CANDIDATES])
        for ranking in (by_words, _by_meaning(passages, vector))
    ]
    best = _fused(rankings)[:limit]
    found = _shown(passages).in_bulk(best)
    return [found[key] for key in best if key in found]


def _shown(passages: "QuerySet[Passage]") -> "QuerySet[Passage]":
    return passages.select_related("document").defer("words", "document__content")


def _fused(rankings: Sequence[Sequence[int]]) -> list[int]:
    """Several rankings as one (reciprocal rank fusion): what two of them place well comes before
    what one places best."""
    scores: defaultdict[int, float] = defaultdict(float)
    for ranking in rankings:
        for place, key in enumerate(ranking):
            scores[key] += 1 / (FUSION + place)
    return sorted(scores, key=lambda key: scores[key], reverse=True)


def _by_meaning(passages: "QuerySet[Passage]", vector: Sequence[float]) -> "QuerySet[Passage]":
    """The nearest first. Those that have no vector are not found, nor those of another size."""
    near = passages.filter(vector__numbers__len=len(vector))
    return near.order_by(Distance("vector__numbers", Value(str([*vector]))), "pk")


class Distance(Func):
    """How far two lists of numbers point apart, from 0 to 2 (pgvector's cosine distance)."""

    template = "%(expressions)s::vector"
    arg_joiner = "::vector <=> "
    output_field = FloatField()


def _by_words(passages: "QuerySet[Passage]", query: str) -> "QuerySet[Passage]":
    """Those with the rarer words of a query first, and of these those where they stand close
    together."""
    words = each_word_of(query)
    if not words:
        return passages.none()
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
    found = passages.filter(words=any_word)
    return found.order_by(fits.desc(), SearchRank(F("words"), any_word).desc(), "pk")
