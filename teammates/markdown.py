"""Markdown as safe HTML: what a model writes can neither run nor load anything."""

from functools import cache
from typing import Any

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

TAGS = {
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "a",
    "ul", "ol", "li", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "span", "div",
}  # fmt: skip
LONGEST = 400_000  # characters; more is shown as it is


@cache
def _parser() -> MarkdownIt:
    options = {"html": False, "linkify": False, "highlight": _highlight}
    return MarkdownIt("js-default", options).enable(["table", "strikethrough"]).disable("image")


def _highlight(code: str, language: str, attributes: Any) -> str:
    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        return str(escape(code))
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True)))


def render(text: str) -> SafeString:
    """HTML of `text` with nothing but the tags of a document; links open without a referrer."""
    if len(text) > LONGEST:
        return mark_safe(f"<pre>{escape(text)}</pre>")
    html = nh3.clean(
        _parser().render(text),
        tags=TAGS,
        attributes={"a": {"href", "title"}, "span": {"class"}, "code": {"class"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(html)
