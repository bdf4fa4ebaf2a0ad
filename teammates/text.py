"""Text that PostgreSQL can store. No Django: it is imported where strangers' words are parsed."""

import re
from typing import Any


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


def no_number(text: str) -> None:
    """For `json.loads(parse_constant=…)`: NaN and Infinity are not JSON, and cannot be stored."""
    raise ValueError(f"{text} is not JSON")


def clean(value: Any) -> Any:
    """`value` with every text in it cleaned."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(str(k)): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value
