"""Text that PostgreSQL can store. No Django: it is imported where strangers' words are parsed."""

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
