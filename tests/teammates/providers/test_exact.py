"""Which forms of a result vendors hold their models to."""

from typing import Any

import pytest

from teammates.providers.base import ToolSpec


def held(schema: dict[str, Any]) -> bool:
    return ToolSpec("submit_result", "", schema, is_exact=True).can_be_held


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    "schema",
    [
        of(total={"type": "integer"}),
        of(total={"type": ["integer", "null"], "description": "Of all", "title": "Total"}),
        of(items={"type": "array", "items": of(name={"type": "string"})}),
        of(kind={"enum": ["a", "b"]}) | {"required": ["kind"], "additionalProperties": False},
        of(one={"$ref": "#/$defs/One"}) | {"$defs": {"One": of(a={"type": "null"})}},
        of(one={"anyOf": [{"type": "string"}, {"const": 3}]}),
    ],
)
def test_types_lists_choices_and_objects_are_held(schema: dict[str, Any]) -> None:
    assert held(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array", "items": {"type": "string"}},
        {"type": "object"},
        of(total={"type": "integer", "minimum": 0}),
        of(name={"type": "string", "pattern": "^a"}),
        of(names={"type": "array", "items": {"type": "string", "maxLength": 3}}),
        of(any={"type": "object", "additionalProperties": {"type": "string"}}),
        of(one={"anyOf": [{"type": "string", "format": "date"}]}),
        of(one={"$ref": "#/$defs/One"}) | {"$defs": {"One": of(a={"minLength": 1})}},
        of(a={"type": "string"}) | {"additionalProperties": True},
        of(a={"type": "string"}) | {"if": {}},
    ],
)
def test_what_would_be_left_to_chance_is_not(schema: dict[str, Any]) -> None:
    assert not held(schema)


def test_other_tools_are_never_answers() -> None:
    assert not ToolSpec("lookup", "", of(total={"type": "integer"})).can_be_held
