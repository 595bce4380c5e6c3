"""Tests of cellclass_tf.datasets.contents."""

import dataclasses
import json

import pytest

from cellclass_tf.datasets.contents import Contents, FieldFacts

FIELD = FieldFacts(
    "HEK", "d1", "train", 0.5, "i", "c", "", {"HEK": 4}, annotator="cellpose"
)


def contents(**fields):
    return Contents(("HEK", "N2a"), {f"{k}.png": v for k, v in fields.items()}, {})


@pytest.mark.parametrize(
    "change",
    [
        {"split": "test"},
        {"group": "d2"},
        {"culture": "N2a"},
        {"pixel_size_um": 0.4},
        {"image_sha256": "j"},
        {"cells_sha256": "d"},
        {"types_sha256": "t"},
    ],
)
def test_all_values_of_an_example_change_the_fingerprint(change):
    old = contents(a=FIELD)
    new = contents(a=dataclasses.replace(FIELD, **change))
    assert new.fingerprint != old.fingerprint
    assert new.changes_since(old)


def test_the_annotator_does_not_change_the_fingerprint():
    other = dataclasses.replace(FIELD, annotator="person", corrected=True)
    assert contents(a=FIELD).fingerprint == contents(a=other).fingerprint


def test_exclusions_and_types_change_the_fingerprint():
    old = contents(a=FIELD)
    rejected = dataclasses.replace(old, excluded={"b.png": "glow"})
    renamed = dataclasses.replace(old, cell_types=("N2a", "HEK"))
    assert len({old.fingerprint, rejected.fingerprint, renamed.fingerprint}) == 3
    assert rejected.changes_since(old) == ["1 image rejected (b.png)"]
    assert old.changes_since(rejected) == ["1 image no longer rejected (b.png)"]
    assert renamed.changes_since(old) == ["cell types: HEK, N2a -> N2a, HEK"]


def test_changes_list_fields_and_numbers_of_cells():
    redrawn = dataclasses.replace(FIELD, cells_sha256="d", cells={"HEK": 5, "N2a": 1})
    old = contents(a=FIELD, b=FIELD, c=FIELD)
    new = contents(b=redrawn, c=dataclasses.replace(FIELD, split="test"), d=FIELD)
    assert new.changes_since(old) == [
        "1 field added (d.png), 4 HEK cells",
        "1 field removed (a.png), 4 HEK cells",
        "1 field with other cells (b.png): HEK 4 -> 5, N2a 0 -> 1",
        "1 field moved: train -> test",
    ]
    many = contents(**{name: FIELD for name in "abcdefg"})
    assert "(d.png, e.png, f.png and 1 more)" in many.changes_since(old)[0]


def test_contents_are_written_to_json_and_read_back():
    old = dataclasses.replace(contents(a=FIELD), excluded={"b.png": "glow"})
    assert Contents.from_json(json.loads(json.dumps(old.to_json()))) == old
    with pytest.raises(KeyError):
        Contents.from_json({"fingerprint": "of an older format"})
