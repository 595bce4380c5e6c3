"""Tests of cellclass_tf.splits.assignment."""

import collections
import dataclasses
import random

import pytest

from cellclass_tf.core.study import ImageRow
from cellclass_tf.errors import InputError
from cellclass_tf.splits import assignment


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
    chosen = assignment.assign_splits(rows)
    by_group = collections.defaultdict(set)
    for row in rows:
        by_group[row.group].add(chosen[row.image])
    assert all(len(found) == 1 for found in by_group.values())


def test_each_type_is_divided_by_the_shares():
    rows = rows_of("HEK", [f"h{i}" for i in range(20)]) + rows_of(
        "N2a", [f"n{i}" for i in range(10)]
    )
    chosen = assignment.assign_splits(rows)
    counts = collections.Counter((r.cell_type, chosen[r.image]) for r in rows)
    # Shares of 0.8, 0.1, 0.1 of 80 and 40 images in groups of 4.
    assert counts["HEK", "train"] == 64
    assert counts["N2a", "train"] == 28
    # Two of ten dishes are for validation.
    assert counts["HEK", "validation"] == 8
    assert counts["N2a", "validation"] == 8
    assert counts["HEK", "test"] == 8
    assert counts["N2a", "test"] == 4


def test_the_only_group_of_a_type_is_for_training():
    assert set(assignment.assign_splits(rows_of("HEK", ["a"])).values()) == {"train"}


def test_one_of_two_or_three_dishes_is_for_validation():
    three = assignment.assign_splits(rows_of("HEK", ["a", "b", "c"]))
    assert collections.Counter(three.values()) == {"train": 8, "validation": 4}
    two = assignment.assign_splits(rows_of("HEK", ["a", "b"]))
    assert collections.Counter(two.values()) == {"train": 4, "validation": 4}


@pytest.mark.parametrize(("dishes", "held_out"), [(5, 1), (6, 2), (9, 2)])
def test_two_of_many_dishes_are_for_validation(dishes, held_out):
    rows = rows_of("HEK", [f"h{i}" for i in range(dishes)])
    chosen = assignment.assign_splits(rows)
    found = {row.group for row in rows if chosen[row.image] == "validation"}
    assert len(found) == held_out


def test_a_field_keeps_its_split_when_others_are_added():
    rows = rows_of("HEK", [f"h{i}" for i in range(10)])
    first = assignment.assign_splits(rows)
    kept = [dataclasses.replace(r, split=first[r.image]) for r in rows]
    second = assignment.assign_splits(
        kept + rows_of("HEK", [f"x{i}" for i in range(30)])
    )
    assert all(second[image] == split for image, split in first.items())


def test_mixed_fields_and_all_of_their_group_are_in_the_split_mixed():
    rows = rows_of("mixed", ["m"]) + rows_of("HEK", ["m", "h"])
    chosen = assignment.assign_splits(rows)
    assert {chosen[r.image] for r in rows if r.group == "m"} == {"mixed"}
    assert {chosen[r.image] for r in rows if r.group == "h"} == {"train"}


def test_a_data_leak_is_rejected():
    a, b = rows_of("HEK", ["h"], images=2)
    rows = [dataclasses.replace(a, split="train"), dataclasses.replace(b, split="test")]
    with pytest.raises(ValueError, match="'h' is in the splits test and train"):
        assignment.assign_splits(rows)


def test_images_get_the_split_of_their_whole_group(tmp_path):
    every = [
        ImageRow("HEK/old.png", "HEK", group="g", split="test"),
        ImageRow("HEK/new.png", "HEK", group="g"),
        ImageRow("N2a/pure.png", "N2a", group="m"),
        ImageRow("mixed/field.png", "mixed", group="m"),
    ]
    wanted = [every[1], every[2]]
    found = assignment.with_splits(wanted, every, tmp_path / "images.csv")
    assert [row.split for row in found] == ["test", "mixed"]
    every[1] = dataclasses.replace(every[1], split="train")
    with pytest.raises(InputError, match=r"images\.csv: Group 'g' is in the splits"):
        assignment.with_splits(wanted, every, tmp_path / "images.csv")


def alike(rows, column="image_sha256", value="1"):
    return [dataclasses.replace(row, **{column: value}) for row in rows]


@pytest.mark.parametrize(
    ("column", "value"),
    [("image_sha256", "1"), ("raw_sha256", "1"), ("scene_hash", "0f" * 32)],
)
def test_groups_that_show_the_same_scene_are_in_one_split(column, value):
    rows = rows_of("HEK", [f"h{i}" for i in range(20)], images=2)
    # One image of every second group, with which these ten are one unit.
    twins = set(range(0, 40, 4))
    rows = [
        alike([r], column, value)[0] if n in twins else r for n, r in enumerate(rows)
    ]
    chosen = assignment.assign_splits(rows)
    assert len({chosen[row.image] for row in rows if int(row.group[1:]) % 2 == 0}) == 1
    assert set(chosen.values()) == {"train", "validation", "test"}


def test_groups_that_show_the_same_scene_count_as_one():
    a, b = (rows_of("HEK", [name]) for name in "ab")
    # The only unit is needed for training.
    chosen = assignment.assign_splits(alike(a) + alike(b))
    assert set(chosen.values()) == {"train"}


def test_a_new_group_that_shows_a_known_scene_gets_its_split():
    old = alike(rows_of("HEK", ["a"]), "split", "test")
    chosen = assignment.assign_splits(alike(old) + alike(rows_of("HEK", ["b"])))
    assert set(chosen.values()) == {"test"}


def test_near_duplicates_of_a_mixed_field_are_mixed_too():
    pure, mixed = rows_of("HEK", ["a"]), rows_of("mixed", ["m"])
    chosen = assignment.assign_splits(alike(pure[:1]) + pure[1:] + alike(mixed[:1]))
    assert set(chosen.values()) == {"mixed"}


def test_one_scene_in_two_splits_is_rejected_with_the_reason():
    (a,), (b,) = (rows_of("HEK", [name], images=1) for name in "ab")
    a = dataclasses.replace(a, split="train", scene_hash="0f" * 32)
    b = dataclasses.replace(b, split="test", scene_hash="0e" + "0f" * 31)
    expected = (
        r"Group 'a' is in the split train and group 'b' in test, .*: HEK/a_0\.png and "
        r"HEK/b_0\.png are alike in 255 of 256 bits\..* rejected .* group 'b'"
    )
    with pytest.raises(ValueError, match=expected):
        assignment.assign_splits([a, b])
    mixed = dataclasses.replace(
        a, image="mixed/a.png", cell_type="mixed", split="mixed"
    )
    # A mixed field is always in the split mixed.
    with pytest.raises(ValueError, match=r"split of all images of group 'b'"):
        assignment.assign_splits([mixed, b])


def test_a_field_that_links_two_splits_is_rejected_with_the_links():
    (a,), (b,), (c,) = (rows_of("HEK", [name], images=1) for name in "abc")
    a = dataclasses.replace(a, split="train", image_sha256="1")
    b = dataclasses.replace(b, image_sha256="1", raw_sha256="2")
    c = dataclasses.replace(c, split="validation", raw_sha256="2")
    expected = (
        r"HEK/a_0\.png and HEK/b_0\.png have the same bytes; HEK/b_0\.png and "
        r"HEK/c_0\.png have the same scene of a raw file"
    )
    with pytest.raises(ValueError, match=expected):
        assignment.assign_splits([c, b, a])


def test_fields_keep_their_splits_while_a_study_grows():
    rng = random.Random(0)
    rows: list[ImageRow] = []
    for step in range(30):
        cell_type = rng.choice(("HEK", "N2a"))
        new = rows_of(cell_type, [f"{cell_type}{step}"], images=rng.randint(1, 5))
        if rows and rng.random() < 0.3:
            twin = rng.choice(rows)
            new[0] = dataclasses.replace(new[0], raw_sha256=twin.raw_sha256)
        new = [dataclasses.replace(r, raw_sha256=r.raw_sha256 or r.image) for r in new]
        before = {row.image: row.split for row in rows}
        chosen = assignment.assign_splits(rng.sample(rows + new, len(rows) + len(new)))
        assert before.items() <= chosen.items()
        rows = [dataclasses.replace(r, split=chosen[r.image]) for r in rows + new]
    files = collections.defaultdict(set)
    for row in rows:
        files[row.raw_sha256].add(row.split)
    assert all(len(found) == 1 for found in files.values())


def test_pure_fields_of_a_mixed_group_do_not_count_as_a_training_dish():
    rows = rows_of("HEK", ["a", "m"]) + rows_of("mixed", ["m"])
    chosen = assignment.assign_splits(rows)
    assert {chosen[r.image] for r in rows if r.group != "m"} == {"train"}


def test_a_dish_of_two_types_is_for_validation_if_one_of_them_lacks_it():
    old = [
        *alike(rows_of("HEK", ["h1"]), "split", "train"),
        *alike(rows_of("HEK", ["h2"]), "split", "validation"),
        *alike(rows_of("N2a", ["n1", "n2"]), "split", "train"),
    ]
    both = rows_of("HEK", ["b"]) + rows_of("N2a", ["b"])
    chosen = assignment.assign_splits(old + both)
    assert {chosen[row.image] for row in both} == {"validation"}


def test_a_group_without_annotations_does_not_count():
    rows = rows_of("HEK", ["h0", "h1", "h2"])
    for left_out in ("h0", "h1", "h2"):
        counted = {row.image for row in rows if row.group != left_out}
        chosen = assignment.assign_splits(rows, counted=counted)
        found = {row.group: chosen[row.image] for row in rows}
        assert found.pop(left_out) == ""
        # One of the two others is held out.
        assert sorted(found.values()) == ["train", "validation"]


def test_a_mixed_field_cannot_join_a_group_in_another_split():
    rows = rows_of("HEK", ["h0", "h1"])
    chosen = assignment.assign_splits(rows)
    rows = [dataclasses.replace(row, split=chosen[row.image]) for row in rows]
    joined = [*rows, *rows_of("mixed", ["h0"])]
    with pytest.raises(ValueError, match="mixed field has joined the group 'h0'"):
        assignment.assign_splits(joined)
    emptied = [dataclasses.replace(row, split="") for row in joined]
    assert "mixed" in assignment.assign_splits(emptied).values()
