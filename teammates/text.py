"""Text that PostgreSQL can store. No Django: it is imported where strangers' words are parsed."""

import json
import math
import re
from collections.abc import Iterable
from typing import Any

DEEPEST = 100  # levels of JSON in JSON


def clean_text(text: str) -> str:
    """`text` without what PostgreSQL cannot store: NUL and lone surrogates become U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


# Controls, marks that turn the direction of writing, and characters of no width. A joiner between
# two letters that need it (Persian, emoji) is none.
_UNSEEN = re.compile(
    r"(?<=[^\x00-\x7f])[\u200c\u200d](?=[^\x00-\x7f])"
    r"|([\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    r"\U000e0000-\U000e007f])"
)


def visible(text: str) -> str:
    """`text` in which what people would not see, or see elsewhere, is written out as ⟨U+202E⟩:
    who decides must see what will be done."""
    return _UNSEEN.sub(lambda found: f"⟨U+{ord(found[1]):04X}⟩" if found[1] else found[0], text)


def read_json(text: str | bytes) -> Any:
    """What JSON text from outside says. Raises `ValueError` for what is none, for NaN and Infinity,
    which are not JSON and cannot be stored, and for what is nested so deeply that walking through
    it could end in a `RecursionError`."""
    too_deep = f"it is nested more than {DEEPEST} levels deep"
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError(too_deep) from None
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return value
    raise ValueError(too_deep)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def clean(value: Any) -> Any:
    """`value` with every text in it cleaned, and numbers that JSON has not as text."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {clean_text(str(k)): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


def json_text(value: Any) -> str:
    """`clean(value)` as JSON. Cleaned only where there is something to clean: walking through a
    whole conversation takes longer than writing it."""
    try:
        text = _as_json(value)
        if "\\u0000" not in text and (text.isascii() or text.encode()):
            return text
    except ValueError:  # a number that JSON has not, a lone surrogate
        pass
    return _as_json(clean(value))


def _as_json(value: Any) -> str:
    separators = (",", ":")
    return json.dumps(
        value, ensure_ascii=False, allow_nan=False, separators=separators, default=str
    )
