"""What log lines look like: one line each, whatever strangers' words are in it."""

import logging
import re
from typing import Any

# What may follow in a path is a credential: whoever reads the log must not have it.
_TOKENS = re.compile(
    r"/(webhooks/\w+/[^/\s]+|mail|decide|join|setup|verify|reset|shared/runs|shared/artifacts)"
    r"/[^/\s\"'?]+"
)


class OneLine(logging.Formatter):
    """A line break inside of a message does not begin a line that looks like another entry."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        said = record.message
        record.message = without_tokens("".join(map(_escaped, said)))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return without_tokens(super().formatException(ei))


def _escaped(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def without_tokens(text: str) -> str:
    """`text` without the tokens of links: webhooks, decisions, invitations, public pages."""
    return _TOKENS.sub(r"/\1/…", text)
