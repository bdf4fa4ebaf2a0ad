"""Secrets that a model put into a call's arguments are not shown on cards and in events."""

import re
from typing import Any

from teammates.text import read_json

MASK = "•••"
_NAMES = re.compile(
    r"pass(word|phrase|wd)?$|secret|api_?key|access_?key|private_?key|token$|authorization|"
    r"credential|cookie|otp$|\bpin$",
    re.IGNORECASE,
)
# Each begins where a word does: a text of many beginnings is still read once.
_VALUES = re.compile(
    r"(?<![\w-])(?:sk-[A-Za-z0-9_-]{12,}|m8_[0-9a-f]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|xox[abprs]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{16}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*|Bearer\s+[\w.~+/=-]{12,})"
)


def masked(value: Any, name: str = "") -> Any:
    """`value` with everything that looks like a secret, by its name or by itself, taken out."""
    if isinstance(value, dict):
        return {key: masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, name) for item in value]
    if value not in (None, "", True, False) and name and _NAMES.search(name):
        return MASK
    if isinstance(value, str):
        return _VALUES.sub(MASK, value)
    return value


def masked_json(text: str) -> Any:
    """JSON text of a model's as a masked value; what is none is not shown, only measured."""
    try:
        return masked(read_json(text or "{}"))
    except ValueError:
        return {"unreadable": f"{len(text)} characters that are not JSON"}


def unmasked(edited: Any, original: Any) -> Any:
    """`edited`, with what was masked when a person edited it put back from `original`."""
    if isinstance(edited, dict) and isinstance(original, dict):
        return {key: unmasked(item, original.get(key)) for key, item in edited.items()}
    if isinstance(edited, list) and isinstance(original, list) and len(edited) == len(original):
        return [unmasked(a, b) for a, b in zip(edited, original, strict=True)]
    if isinstance(edited, str) and MASK in edited and edited == masked_like(original, edited):
        return original
    return edited


def masked_like(original: Any, edited: str) -> Any:
    """How `original` was shown: masked by its name (as a whole), or in its text."""
    return MASK if edited == MASK else masked(original)
