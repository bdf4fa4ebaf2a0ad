"""Full-text search: words as people type them, and pieces of text that show where they stand."""

import re

from django.contrib.postgres.search import SearchConfig, SearchQuery, SearchVector
from django.db.models import CharField, Expression, F, Func, TextField, Value
from django.db.models.functions import Left
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

CONFIG = "simple"  # words as they are, in any language
MOST_WORDS = 12
PUNCTUATION = ".,;:!?\"'()[]{}<>|&*"
# A vector holds at most 1 MB; the beginning of a text is what is searched.
SEARCHED_CHARACTERS = 50_000
BEGIN, END = "\x02", "\x03"  # of a found word; PostgreSQL's own marks would be HTML
HEADLINE = f'StartSel="{BEGIN}", StopSel="{END}", MaxWords=22, MinWords=10, MaxFragments=1'


def words_of(text: str) -> str | None:
    """What `query_of` looks for; None if there is no word."""
    return " & ".join(each_word_of(text)) or None


def each_word_of(text: str) -> list[str]:
    """Each of the words of a text, for `query_of`: once, and no more than `MOST_WORDS`."""
    words = [word.strip(PUNCTUATION) for word in text.replace("\x00", " ").split()]
    words = [word for word in dict.fromkeys(words) if re.search(r"[^\W_]", word)]
    # Quoted, PostgreSQL takes addresses and file names apart as it did when it indexed them.
    return [
        "'" + word.replace("\\", "\\\\").replace("'", "''") + "':*" for word in words[:MOST_WORDS]
    ]


def query_of(words: str | Expression) -> SearchQuery:
    """All of `words_of` a text, each as the beginning of one."""
    return SearchQuery(words, config=CONFIG, search_type="raw")


def vector_of(field: str) -> SearchVector:
    """The words of a text; models index exactly this expression."""
    return SearchVector(Left(field, SEARCHED_CHARACTERS), config=CONFIG)


def name_vector_of(field: str) -> SearchVector:
    """The words of a file's name: report-2.csv is report, 2 and csv."""
    words = Func(
        F(field), Value("._-"), Value("   "), function="translate", output_field=CharField()
    )
    return SearchVector(words, config=CONFIG)


def name_words_of(text: str) -> str | None:
    """The words of a text, for `name_vector_of`."""
    return words_of(re.sub(r"[._-]", " ", text))


def headline_of(field: str, query: SearchQuery) -> Func:
    """About twenty words of a text around what was found; `marked` makes HTML of it."""
    # Django's SearchHeadline asks a connection how to quote its options.
    return Func(
        SearchConfig(CONFIG),
        Left(field, SEARCHED_CHARACTERS),
        query,
        Value(HEADLINE),
        function="ts_headline",
        output_field=TextField(),
    )


def marked(headline: str) -> SafeString:
    html = escape(" ".join(headline.split()))
    return mark_safe(html.replace(BEGIN, "<mark>").replace(END, "</mark>"))
