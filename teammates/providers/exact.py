"""The form of a result, as vendors hold their models to it."""

from teammates.types import JSON

# What every vendor holds a model to. The rest (lengths, ranges, patterns) would be left to chance.
_KEYWORDS = {
    "$defs",
    "$ref",
    "$schema",
    "additionalProperties",
    "anyOf",
    "const",
    "default",
    "description",
    "enum",
    "items",
    "properties",
    "required",
    "title",
    "type",
}


def can_be_held(schema: object) -> bool:
    """Whether a vendor gives exactly what fits this JSON schema, or less: fields that may be left
    out are always there, and no others are."""
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict) or not schema.keys() <= _KEYWORDS:
        return False
    is_object = schema.get("type") == "object"
    if is_object and (schema.get("additionalProperties") or not schema.get("properties")):
        return False  # whose fields have any names
    within = [*_schemas(schema, "properties"), *_schemas(schema, "$defs")]
    within += [schema["items"]] if "items" in schema else []
    within += schema.get("anyOf", [])
    return all(can_be_held(one) for one in within)


def _schemas(schema: JSON, name: str) -> list[object]:
    return list(schema.get(name, {}).values())
