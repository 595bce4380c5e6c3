"""Tests of cellclass_tf.storage.json_schema."""

import dataclasses
from typing import ClassVar

import jsonschema
import pytest
from typing_extensions import TypedDict

from cellclass_tf.storage import json_schema
from cellclass_tf.storage.records import Record


class Inner(TypedDict):
    default: int | None


class Outer(TypedDict):
    by_name: dict[str, Inner]
    pairs: list[tuple[float, float]]


@dataclasses.dataclass(frozen=True)
class Note(Record):
    NAME: ClassVar[str] = "cellclass_tf note"
    VERSION: ClassVar[int] = 3

    text: str = "none"


GOOD = {"by_name": {"any": {"default": None}}, "pairs": [[1, 2.5]]}


def is_valid(content, kind=Outer):
    schema = json_schema.schema_of(kind, title="A note")
    return jsonschema.Draft202012Validator(schema).is_valid(content)


def test_a_schema_requires_all_fixed_keys_and_no_others():
    assert is_valid(GOOD)
    assert not is_valid({"by_name": {}})
    assert not is_valid(GOOD | {"more": 1})
    assert not is_valid(GOOD | {"by_name": {"any": {"default": 1, "more": 1}}})
    assert not is_valid(GOOD | {"by_name": {"any": {}}})
    assert not is_valid(GOOD | {"pairs": [[1, 2, 3]]})


@pytest.mark.parametrize("changes", [{"format": "cellclass_tf note 2"}, {"text": 1}])
def test_a_record_has_its_format_and_every_field(changes):
    content = Note().as_content()
    assert is_valid(content, Note)
    assert not is_valid(content | changes, Note)
    for key in content:
        assert not is_valid({k: content[k] for k in content if k != key}, Note)


def test_a_schema_has_its_title_and_draft():
    schema = json_schema.schema_of(Outer, title="A note")
    assert schema["$schema"] == json_schema.DRAFT
    assert schema["title"] == "A note"
