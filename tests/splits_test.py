"""Tests of cellclass_tf.splits."""

import collections
import dataclasses

import pytest

from cellclass_tf import splits
from cellclass_tf.files import InputError
from cellclass_tf.study import ImageRow


def rows_of(cell_type, groups, images=4):
    return [
        ImageRow(image=f"{cell_type}/{g}_{i}.png", cell_type=cell_type, group=g)
        for g in groups
        for i in range(images)
    ]


def test_no_group_is_in_two_splits():
    rows = rows_of("HEK", [f"h{i}" for i in range(20)]) + rows_of(
        "N2a", [f"n{i}" for i in range(20)]
    )
    chosen = splits.assign_splits(rows)
    by_group = collections.defaultdict(set)
    for row in rows:
        by_group[row.group].add(chosen[row.image])
    assert all(len(found) == 1 for found in by_group.values())


def test_each_type_is_parted_by_the_shares():
    rows = rows_of("HEK", [f"h{i}" for i in range(20)]) + rows_of(
        "N2a", [f"n{i}" for i in range(10)]
    )
    chosen = splits.assign_splits(rows)
    counts = collections.Counter((r.cell_type, chosen[r.image]) for r in rows)
    # Shares of 0.8, 0.1, 0.1 of 80 and 40 images in groups of 4.
    assert counts["HEK", "train"] == 64 and counts["N2a", "train"] == 32
    assert counts["HEK", "validation"] == 8 and counts["N2a", "test"] == 4


def test_a_lone_group_is_for_training():
    assert set(splits.assign_splits(rows_of("HEK", ["a"])).values()) == {"train"}


def test_of_three_dishes_one_is_for_validation_and_of_two_none():
    three = splits.assign_splits(rows_of("HEK", ["a", "b", "c"]))
    assert collections.Counter(three.values()) == {"train": 8, "validation": 4}
    assert set(splits.assign_splits(rows_of("HEK", ["a", "b"])).values()) == {"train"}


def test_a_field_never_moves_when_others_come():
    rows = rows_of("HEK", [f"h{i}" for i in range(10)])
    first = splits.assign_splits(rows)
    kept = [dataclasses.replace(r, split=first[r.image]) for r in rows]
    second = splits.assign_splits(kept + rows_of("HEK", [f"x{i}" for i in range(30)]))
    assert all(second[image] == split for image, split in first.items())


def test_mixed_fields_and_all_of_their_group_are_the_split_mixed():
    rows = rows_of("mixed", ["m"]) + rows_of("HEK", ["m", "h"])
    chosen = splits.assign_splits(rows)
    assert {chosen[r.image] for r in rows if r.group == "m"} == {"mixed"}
    assert {chosen[r.image] for r in rows if r.group == "h"} == {"train"}


def test_a_planted_leak_is_refused():
    a, b = rows_of("HEK", ["h"], images=2)
    rows = [dataclasses.replace(a, split="train"), dataclasses.replace(b, split="test")]
    with pytest.raises(ValueError, match="'h' is in the splits test and train"):
        splits.assign_splits(rows)


def test_split_of_wanted_images_is_that_of_their_whole_group(tmp_path):
    every = [
        ImageRow("HEK/old.png", "HEK", group="g", split="test"),
        ImageRow("HEK/new.png", "HEK", group="g"),
        ImageRow("N2a/pure.png", "N2a", group="m"),
        ImageRow("mixed/field.png", "mixed", group="m"),
    ]
    wanted = [every[1], every[2]]
    found = splits.with_splits(wanted, every, tmp_path / "images.csv")
    assert [row.split for row in found] == ["test", "mixed"]
    every[1] = dataclasses.replace(every[1], split="train")
    with pytest.raises(InputError, match=r"images\.csv: Group 'g' is in the splits"):
        splits.with_splits(wanted, every, tmp_path / "images.csv")
