"""JSON Schemas of what the program writes, made from the types that describe it."""

from __future__ import annotations

from typing import Any

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(kind: Any, *, title: str) -> dict[str, Any]:
    """Returns the strict JSON Schema (draft 2020-12) of what a type is as JSON.

    Every key of an object whose keys are named is required, since the program writes all
    of them, and no other key is allowed. Objects with one key a type, image or setting
    allow any key.

    Args:
      kind: a dataclass, such as a `records.Record`, or a TypedDict.
      title: what the file is.
    """
    import pydantic

    schema = pydantic.TypeAdapter(kind).json_schema(mode="serialization")
    return {"$schema": DRAFT, **_strict(schema), "title": title}


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns a schema whose objects have all of their named keys and no others."""
    # Titles are made of the keys, and nothing that is written is left to a default.
    strict = {k: v for k, v in schema.items() if k not in ("default", "title")}
    for key in ("properties", "$defs"):
        if key in schema:
            strict[key] = {name: _strict(part) for name, part in schema[key].items()}
    for key in ("anyOf", "prefixItems"):
        if key in schema:
            strict[key] = [_strict(part) for part in schema[key]]
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            strict[key] = _strict(schema[key])
    if "properties" in schema:
        strict |= {"required": list(schema["properties"])}
        strict |= {"additionalProperties": False}
    return strict
