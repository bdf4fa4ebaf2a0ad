"""The query bar of the list of runs: `status:failed teammate:Ops cost:>0.5 "refund"`.

A query is a list of terms. Each narrows the list; pages show each as a chip that can be taken away.
"""

import difflib
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from runs.models import Run
from runs.models.run_query import RunQuerySet
from runs.queries.run_filters import FILTERS, days_of
from runs.queries.search import runs_asked
from teammates.errors import Invalid

DEFAULT = "is:top since:7d"
LONGEST = 1000  # characters
MOST_TERMS = 20
SAID = {
    "is:top": "Not started by a run",
    "is:archived": "Archived",
    "is:any": "Archived too",
    "is:retry": "Tries again",
    "is:shared": "Shared",
    "is:new": "Not looked at",
    "since:1h": "Last hour",
    "since:24h": "Last 24 hours",
    "since:7d": "Last 7 days",
    "since:30d": "Last 30 days",
    "since:90d": "Last 90 days",
    "status:needs-you": "Needs you",
    "status:running": "Running",
    "status:completed": "Completed",
    "status:failed": "Failed",
    "status:cancelled": "Cancelled",
    "status:queued": "Queued",
    "has:approval": "Asked somebody",
    "has:file": "Has files",
    "has:tool": "Used a tool",
    "has:error": "Has an error",
    "has:cache": "Read from a cache",
    "has:retry": "Has a model call that broke off",
    "channel:app": "From a page",
    "channel:api": "From a program",
}


@dataclass(frozen=True)
class Term:
    """One word of a query: `key` is empty for words that are searched."""

    text: str
    key: str = ""
    value: str = ""
    problem: str = ""

    @property
    def said(self) -> str:
        """As people say it, where a query has words of its own."""
        return SAID.get(self.text, self.text)


def parse(query: str) -> list[Term]:
    """The terms of a query; what is not understood says so in its `problem`."""
    terms = []
    for word in _words(query[:LONGEST])[:MOST_TERMS]:
        key, colon, value = word.partition(":")
        if " " in key or not colon or not re.fullmatch(r"[a-z]+", key):
            terms.append(Term(word, value=word))
        elif key not in FILTERS:
            terms.append(Term(word, key, value, _unknown(key)))
        else:
            terms.append(Term(word, key, value, _problem_of(key, value)))
    return terms


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, FILTERS, n=1)
    if near:
        return f"{key}: is not known. Did you mean {near[0]}:?"
    return f"{key}: is not known. Known are {', '.join(sorted(FILTERS))}."


def written(terms: list[Term]) -> str:
    """Terms as a query again."""
    return " ".join(_quoted(term) for term in terms)


def without(terms: list[Term], term: Term) -> str:
    return written([one for one in terms if one is not term])


def with_term(terms: list[Term], key: str, value: str) -> str:
    """The query with `key` set to `value`, whatever it was."""
    return written([*(one for one in terms if one.key != key), Term("", key, value)])


def apply(runs: RunQuerySet, terms: list[Term]) -> RunQuerySet:
    """The runs that fit all terms; one with a problem fits everything."""
    for term in terms:
        if term.key and not term.problem:
            runs = FILTERS[term.key](runs, term.value)
    # All words at once: looked up one by one, PostgreSQL reads what the most frequent one fits.
    runs = runs_asked(runs, " ".join(term.value for term in terms if not term.key))
    if not asks_for_archived(terms):
        runs = runs.filter(archived_at=None)
    return runs


@contextmanager
def planned(terms: list[Term]) -> Iterator[None]:
    """While runs that fit `terms` are read, in a transaction of its own. Where words are searched,
    PostgreSQL may begin with the messages that have them: joined as written (`config/postgres.py`),
    all runs come first."""
    if all(term.key for term in terms):
        yield
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL join_collapse_limit = 8")
        yield


def asks_for_archived(terms: list[Term]) -> bool:
    return any(term.key == "is" and term.value in ("archived", "any") for term in terms)


def span_of(terms: list[Term]) -> tuple[datetime | None, datetime | None]:
    """From when to when the terms reach; None where they say nothing."""
    begins, ends = None, None
    for term in terms:
        if term.problem or term.key not in ("since", "until", "on"):
            continue
        first, last = days_of(term.value)
        if term.key in ("since", "on"):
            begins = first
        if term.key in ("until", "on"):
            ends = last
    return begins, ends


def _words(query: str) -> list[str]:
    lexer = shlex.shlex(query, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.escape, lexer.quotes = True, "", "", '"'
    try:
        return list(lexer)
    except ValueError:  # a quote that does not end
        return query.replace('"', " ").split()


def _quoted(term: Term) -> str:
    value = term.value.replace('"', "")
    value = f'"{value}"' if not value or re.search(r"\s", value) else value
    return f"{term.key}:{value}" if term.key else value


def _problem_of(key: str, value: str) -> str:
    try:
        FILTERS[key](Run.objects.none(), value)
    except Invalid as error:
        return f"{key}:{value}: {error.message}"
    return ""
