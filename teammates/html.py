"""The readable text of HTML that others wrote; call it within a budget (`teammates/timebox.py`)."""

from collections import Counter
from html.parser import HTMLParser
from typing import Any

LARGEST = 2 * 1024 * 1024  # characters that are looked at
_SILENT = {"script", "style", "noscript", "template", "svg"}


class _Reader(HTMLParser):
    """The readable text of a page. What is open is counted, not listed: each tag takes the same
    time, however many are open."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self._texts: list[str] = []
        self._silent: Counter[str] = Counter()
        self._silences = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in _SILENT:
            self._silent[tag] += 1
            self._silences += 1
        elif tag == "title":
            self._in_title = True

    def handle_endtag(self, tag: str) -> None:
        if self._silent[tag]:
            self._silent[tag] -= 1
            self._silences -= 1
        elif tag == "title":
            self._in_title = False

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if not text or self._silences:
            return
        if self._in_title:
            self.title += text
        else:
            self._texts.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self._texts)


def read_html(html: str) -> tuple[str, str]:
    """The title, and what of it one reads."""
    reader = _Reader()
    try:
        reader.feed(html[:LARGEST])
    except AssertionError:  # the parser gives up on some broken markup
        pass
    return reader.title, reader.text
