"""Markdown as safe HTML: what a model writes can neither run nor load anything, nor keep whoever
draws it busy. What was drawn is kept: an answer is drawn once in a process, whoever reads it.
"""

import hashlib
import threading
from functools import cache
from html import escape
from typing import Any

import nh3
from cachetools import LRUCache
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from teammates import timebox

TAGS = {
    "p",
    "br",
    "hr",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "strong",
    "em",
    "s",
    "code",
    "pre",
    "a",
    "ul",
    "ol",
    "li",
    "blockquote",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "span",
    "div",
}
LONGEST = 200_000  # characters; more is shown as it is
LONGEST_CODE = 10_000  # characters of a block that is coloured
SECONDS = 1.5  # of work for a text; one that takes more is shown as it is
KEPT = 32 * 1024 * 1024  # characters of what was drawn
_drawn: LRUCache[bytes, SafeString] = LRUCache(KEPT, getsizeof=len)
_lock = threading.Lock()


def render(text: str) -> SafeString:
    """HTML of `text` with nothing but the tags of a document; links open without a referrer. Not
    on the event loop."""
    key = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
    with _lock:
        known: SafeString | None = _drawn.get(key)
    if known is not None:
        return known
    html = mark_safe(_draw_or_escape(text))
    with _lock:
        if len(html) < KEPT:
            _drawn[key] = html
    return html


def _draw_or_escape(text: str) -> str:
    if not text:
        return ""
    if len(text) <= LONGEST:
        try:
            return timebox.within(SECONDS, draw, text)
        except timebox.TooCostly:
            pass
    return f"<pre>{escape(text)}</pre>"


def draw(text: str) -> str:
    """`render` itself; call it within a budget."""
    return nh3.clean(
        _parser().render(text),
        tags=TAGS,
        attributes={"a": {"href", "title"}, "span": {"class"}, "code": {"class"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )


@cache
def _parser() -> MarkdownIt:
    options = {"html": False, "linkify": False, "highlight": _highlight}
    return MarkdownIt("js-default", options).enable(["table", "strikethrough"]).disable("image")


def _highlight(code: str, language: str, attributes: Any) -> str:
    if len(code) > LONGEST_CODE:
        return escape(code)
    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        return escape(code)
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True)))
