"""Makes JSON Schemas of output files from the Python types that describe them."""

from __future__ import annotations

from typing import Any

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(kind: Any, *, title: str) -> dict[str, Any]:
    """Returns the strict JSON Schema (draft 2020-12) of a type.

    For objects with fixed keys, every key is required, since the program writes all of
    them, and no other key is allowed. Objects with one key per cell type, image or setting
    allow any key.

    Args:
      kind: a dataclass, such as a `records.Record`, or a TypedDict.
      title: description of the file.
    """
    import pydantic

    schema = pydantic.TypeAdapter(kind).json_schema(mode="serialization")
    return {"$schema": DRAFT, **_strict(schema), "title": title}


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns a schema in which objects have all of their fixed keys and no others."""
    # Titles only repeat the keys, and defaults do not matter since all keys are written.
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
