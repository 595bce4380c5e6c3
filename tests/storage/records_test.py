"""Tests of cellclass_tf.storage.records."""

import dataclasses
import json
from typing import ClassVar

import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.storage.records import Record


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    share: float | None = None


@dataclasses.dataclass(frozen=True)
class Note(Record):
    NAME: ClassVar[str] = "cellclass_tf note"
    VERSION: ClassVar[int] = 3
    EXPECTED: ClassVar[str] = "a note"
    REMEDY: ClassVar[str] = "Write it again."

    text: str
    parts: tuple[Part, ...] = ()
    count: int | None = None

    @classmethod
    def upgraded(cls, content, version):
        if version < 2:
            raise ValueError("too old")
        return content | {"text": content["words"]} if version == 2 else content


NOTE = Note("µm", (Part("a", 0.5), Part("b")), 3)


def test_a_record_survives_a_round_trip(tmp_path):
    path = tmp_path / "note.json"
    NOTE.write(path)
    assert Note.read(path) == NOTE
    assert (
        json.loads(path.read_text(encoding="utf-8"))["format"] == "cellclass_tf note 3"
    )


def test_unknown_keys_are_ignored_and_missing_ones_get_defaults(tmp_path):
    path = tmp_path / "note.json"
    path.write_text('{"format": "cellclass_tf note 3", "text": "a", "later": [1]}')
    assert Note.read(path) == Note("a")


def test_an_older_version_is_converted(tmp_path):
    path = tmp_path / "note.json"
    path.write_text('{"format": "cellclass_tf note 2", "words": "a"}')
    assert Note.read(path) == Note("a")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "JSONDecodeError"),
        ("[]", "a list"),
        ("9" + 9999 * "[", "Error"),
        (9999 * "[", "RecursionError|too deep"),
        ('{"text": "a"}', "too old"),
        ('{"format": "other 3", "text": "a"}', "its format is 'other 3'"),
        ('{"format": "cellclass_tf note 3"}', "text: Field required"),
        ('{"format": "cellclass_tf note 3", "text": 7}', "text: Input should be"),
        (
            '{"format": "cellclass_tf note 3", "text": "", "parts": [{"name": 1}]}',
            "parts.0.name",
        ),
        ('{"format": "cellclass_tf note 2"}', "KeyError: 'words'"),
    ],
)
def test_the_error_for_an_invalid_record_has_one_reason(tmp_path, text, why):
    path = tmp_path / "note.json"
    path.write_text(text)
    with pytest.raises(
        InputError, match=rf"note.json: expected a note; .*({why})"
    ) as e:
        Note.read(path)
    assert str(e.value).endswith("Write it again.")


def test_the_error_for_a_newer_version_asks_for_an_update(tmp_path):
    path = tmp_path / "note.json"
    path.write_text('{"format": "cellclass_tf note 4", "text": "a"}')
    with pytest.raises(InputError, match="Update cellclass_tf"):
        Note.read(path)


def test_the_error_for_a_missing_file_names_it(tmp_path):
    with pytest.raises(InputError, match=r"none.json: expected a note; FileNotFound"):
        Note.read(tmp_path / "none.json")


def test_numbers_written_as_text_are_accepted_if_not_strict():
    content = {"format": "cellclass_tf note 3", "text": "a", "count": "3"}
    assert Note.parse(content, "x", strict=False).count == 3
    with pytest.raises(InputError, match="count"):
        Note.parse(content, "x")
