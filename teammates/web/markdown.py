"""Markdown as safe HTML: what a model writes can neither run nor load anything, nor keep whoever
draws it busy. What was drawn is kept: an answer is drawn once in a process, whoever reads it.
"""

import hashlib
import json
import threading
from html import escape

from cachetools import LRUCache
from django.utils.safestring import SafeString, mark_safe

from teammates import timebox
from teammates.quoting import fenced
from teammates.text import read_json

LONGEST = 200_000  # characters; more is shown as it is
SECONDS = 1.5  # of work for a text; one that takes more is shown as it is
_SEPARATORS = ((", ", ": "), (",", ":"))  # as programs write JSON
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


def program(code: str, language: str) -> SafeString:
    """A program with the colours of its language, as in `render`."""
    return render(fenced(code, language))


def _draw_or_escape(text: str) -> str:
    if not text:
        return ""
    if len(text) <= LONGEST:
        try:
            return timebox.within(SECONDS, _draw, text)
        except timebox.TooCostly:
            pass
    return f"<pre>{escape(text)}</pre>"


def _draw(text: str) -> str:
    """In a process with a budget, which alone loads what that takes."""
    from teammates.web.drawing import draw

    return draw(_fenced_json(text))


def _fenced_json(text: str) -> str:
    """A text that is nothing but a JSON object, as a result in a form is, is drawn as one: in
    lines, if that says the very same."""
    text = text.strip()
    if not (text.startswith("{") and text.endswith("}")):
        return text
    try:
        value = read_json(text)
    except ValueError:
        return text
    same = [json.dumps(value, ensure_ascii=False, separators=one) for one in _SEPARATORS]
    pretty = json.dumps(value, indent=2, ensure_ascii=False)
    return fenced(pretty if text in same and len(pretty) <= LONGEST else text, "json")
