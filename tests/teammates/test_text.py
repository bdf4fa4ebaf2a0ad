"""Text that PostgreSQL can store."""

import json
from typing import Any

import pytest

from teammates.text import clean, json_text


@pytest.mark.parametrize(
    "value",
    [
        {"plain": [1, 2.5, None, True, "word"]},
        {"nul": "a\x00b", "b\x00": 1},
        ["lone \ud800 surrogate", "é and 漢字"],
        {"number": float("inf"), "not one": float("nan")},
        {"written out": "\\u0000"},
        {1: "a number for a key"},
    ],
)
def test_json_text_is_the_json_of_what_is_clean(value: Any) -> None:
    text = json_text(value)
    assert json.loads(text) == clean(value)
    text.encode()
    assert "\x00" not in str(json.loads(text))
