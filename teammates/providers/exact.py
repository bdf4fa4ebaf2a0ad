"""The form of a result, as vendors hold their models to it."""

DEEPEST = 8  # levels of lists and objects
# What every vendor holds a model to. The rest (lengths, ranges, patterns) would be left to chance.
_WORDS = {"title", "description"}
_OF_TYPE = {
    "object": {"type", "properties", "required", "additionalProperties"},
    "array": {"type", "items"},
    "string": {"type", "enum", "const"},
    "integer": {"type", "enum", "const"},
    "number": {"type"},
    "boolean": {"type"},
    "null": {"type"},
}


def can_be_held(schema: object, *, levels: int = DEEPEST) -> bool:
    """Whether each vendor takes this JSON schema and gives exactly what fits it. Fields that may be
    left out are not among what they all do."""
    if not isinstance(schema, dict) or levels == 0:
        return False
    used = schema.keys() - _WORDS
    if used == {"anyOf"}:
        return all(can_be_held(one, levels=levels - 1) for one in schema["anyOf"])
    kind = schema.get("type")
    if not isinstance(kind, str) or not used <= _OF_TYPE.get(kind, set()):
        return False
    if kind == "array":
        return can_be_held(schema.get("items"), levels=levels - 1)
    if kind != "object":
        return True
    fields = schema.get("properties", {})
    is_closed = schema.get("additionalProperties", False) is False
    if not fields or not is_closed or set(schema.get("required", [])) != fields.keys():
        return False
    return all(can_be_held(one, levels=levels - 1) for one in fields.values())
