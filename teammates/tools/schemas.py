"""JSON schemas, also those of strangers: nothing is fetched, and nothing takes long."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import regex
from jsonschema.protocols import Validator
from referencing import Registry

from teammates import timebox
from teammates.types import JSON

SECONDS = 0.5  # of work for a whole check
PATTERN_SECONDS = 0.05
LARGEST = 50_000  # characters of a schema
# What a schema says about these are names and numbers of its own, never a value that was given.
_TELLS_NO_VALUE = ("required", "additionalProperties", "unevaluatedProperties")


def _fits(pattern: str, text: str) -> bool:
    """Whether `pattern` is found; one that takes too long, or is none, is not."""
    try:
        return regex.search(pattern, text, timeout=PATTERN_SECONDS) is not None
    except (TimeoutError, regex.error):
        return False


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
    if isinstance(value, str) and not _fits(pattern, value):
        yield jsonschema.ValidationError(f"does not match {pattern[:100]!r}")


def _pattern_properties(validator: Any, patterns: Any, value: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(value, dict):
        return
    for pattern, part in patterns.items():
        for name, item in value.items():
            if _fits(pattern, name):
                yield from validator.descend(item, part, path=name, schema_path=pattern)


_Validator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator,
    {"pattern": _pattern, "patternProperties": _pattern_properties},
)


def problem(schema: JSON, value: Any) -> str:
    """What is wrong with `value`, without repeating it; empty if nothing."""
    try:
        # The registry is empty and fetches nothing: a schema may refer to itself alone.
        checker: Validator = _Validator(schema, registry=Registry())
        first = next(iter(checker.iter_errors(value)), None)
    except Exception as error:  # a foreign schema may be broken in any way
        return f"the tool's schema cannot be used ({type(error).__name__})"
    if first is None:
        return ""
    where = "/".join(str(part) for part in first.absolute_path) or "arguments"
    if first.validator in _TELLS_NO_VALUE:
        return f"{where}: {first.message[:300]}"
    said = first.schema.get("description") if isinstance(first.schema, dict) else None
    if first.validator == "pattern" and isinstance(said, str):
        return f"{where} does not fit: {said[:200].rstrip('.')}"
    wanted = json.dumps(first.validator_value, ensure_ascii=False, default=str)[:200]
    return f"{where} does not fit: {first.validator} must be {wanted}"


def problem_of_strangers(schema: JSON, value: Any) -> str:
    """`problem`, for a schema that strangers wrote: references and patterns in it may take for
    ever. Not on the event loop."""
    try:
        return timebox.within(SECONDS, problem, schema, value)
    except timebox.TooCostly:
        return "the tool's schema takes too long to be checked"


def first_unusable(given: list[Any]) -> tuple[int, str] | None:
    """The place of the first of strangers' schemas that cannot be used, and why."""
    reasons = ((number, unusable(schema)) for number, schema in enumerate(given))
    return next((found for found in reasons if found[1]), None)


def unusable(schema: Any) -> str:
    """Why a stranger's schema of arguments cannot be used; empty if it can."""
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        return "must be a JSON schema of type object"
    if len(json.dumps(schema, default=str)) > LARGEST:
        return f"must have at most {LARGEST} characters"
    if any(not reference.startswith("#") for reference in _references(schema)):
        return "must not refer to schemas elsewhere"
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        return f"is not a JSON schema: {error.message[:150]}"
    return ""


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
                yield value
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)
