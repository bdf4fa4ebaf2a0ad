"""Which forms of a result vendors hold their models to."""

from typing import Any

import pytest

from teammates.providers.base import ToolSpec


def held(schema: dict[str, Any]) -> bool:
    return ToolSpec("submit_result", "", schema, is_exact=True).can_be_held


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


TEXT: dict[str, Any] = {"type": "string"}


@pytest.mark.parametrize(
    "schema",
    [
        of(total={"type": "integer"}),
        of(total={"type": "number", "description": "Of all", "title": "Total"}),
        of(items={"type": "array", "items": of(name=TEXT)}),
        of(kind={"type": "string", "enum": ["a", "b"]}) | {"additionalProperties": False},
        of(one={"anyOf": [TEXT, {"type": "null"}]}),
    ],
)
def test_types_lists_choices_and_objects_are_held(schema: dict[str, Any]) -> None:
    assert held(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array", "items": TEXT},
        {"type": "object"},
        {"type": "object", "properties": {"a": TEXT}},  # it may be left out
        of(total={"type": "integer", "minimum": 0}),
        of(total={"type": ["integer", "null"]}),
        of(total={}),
        of(total=True),
        of(total={"properties": {"a": TEXT}, "required": ["a"]}),
        of(name={"type": "string", "pattern": "^a"}),
        of(name={"type": "string", "default": "x"}),
        of(names={"type": "array"}),
        of(names={"type": "array", "items": {"type": "string", "maxLength": 3}}),
        of(any={"type": "object", "additionalProperties": {"type": "string"}}),
        of(a=TEXT) | {"additionalProperties": True},
        of(a=TEXT) | {"additionalProperties": {}},
        of(one={"anyOf": [{"type": "string", "format": "date"}]}),
        of(one={"$ref": "#/properties/two"}, two=TEXT),
        of(a=TEXT) | {"if": {}},
    ],
)
def test_what_would_be_left_to_chance_is_not(schema: dict[str, Any]) -> None:
    assert not held(schema)


def test_what_is_nested_without_end_is_not() -> None:
    schema = TEXT
    for _ in range(5_000):
        schema = {"type": "array", "items": schema}
    assert not held(of(a=schema))


def test_other_tools_are_never_answers() -> None:
    assert not ToolSpec("lookup", "", of(total={"type": "integer"})).can_be_held
