"""Tests of cellclass_tf.datasets.gaps."""

import dataclasses

import pytest

from cellclass_tf.datasets import examples, gaps
from cellclass_tf.datasets.contents import Contents, FieldFacts
from cellclass_tf.errors import InputError


def test_a_type_without_cells_is_refused(study):
    study.update(
        dataclasses.replace(row, verdict="rejected")
        for row in study.rows()
        if row.cell_type == "N2a"
    )
    contents = examples.check_study(study).contents
    with pytest.raises(InputError, match=r"no annotated cell.* of N2a"):
        gaps.refuse_gaps(study, contents)


def test_a_type_of_one_group_cannot_be_held_out(study):
    study.update(
        dataclasses.replace(row, group="c")
        for row in study.rows()
        if row.cell_type == "N2a"
    )
    contents = examples.check_study(study).contents
    with pytest.raises(InputError, match=r"N2a.*held out.*N2a in 1 \(c\)"):
        gaps.refuse_gaps(study, contents)
    gaps.refuse_gaps(study, contents, allow_no_validation=True)


def test_a_type_of_which_all_fields_are_held_out_is_refused(study):
    study.update(examples.check_study(study).rows)
    study.update(
        dataclasses.replace(row, verdict="rejected")
        for row in study.rows()
        if (row.cell_type, row.split) == ("N2a", "train")
    )
    contents = examples.check_study(study).contents
    with pytest.raises(InputError, match="no field of N2a is left for training"):
        gaps.refuse_gaps(study, contents, allow_no_validation=True)


def test_a_single_held_out_dish_is_reported():
    def field(name, group, split="validation", cells=3):
        return FieldFacts(name, group, split, 0.5, "i", "c", "", {"HEK": cells})

    fields = {
        "a": field("HEK", "d1"),
        "b": field("HEK", "d1"),
        "c": field("N2a", "e1"),
        "d": field("N2a", "e2"),
        "e": field("CHO", "f1", "train"),
        "f": field("HEK", "d3", cells=0),
    }
    (told,) = gaps.told_of_held_out(Contents(("HEK", "N2a"), fields, {}))
    assert "One dish of HEK is held out (d1)" in told


def test_a_pixel_size_in_another_unit_is_refused(study):
    rows = [dataclasses.replace(row, pixel_size_um=0.325) for row in study.rows()]
    rows[1] = dataclasses.replace(rows[1], pixel_size_um=32.5)
    study.update(rows)
    contents = examples.check_study(study).contents
    with pytest.raises(InputError, match=r"HEK/b\.png \(32\.5 µm\).*unit"):
        gaps.refuse_gaps(study, contents)


def test_pixel_sizes_are_all_known_or_none_if_they_differ(study):
    first, *others = study.rows()
    study.update(dataclasses.replace(row, pixel_size_um=0.5) for row in others)
    contents = examples.check_study(study).contents
    gaps.refuse_gaps(study, contents)
    (told,) = gaps.told_of_pixel_sizes(contents)
    assert f"pixel size of 1 fields is unknown ({first.image})" in told
    study.update([dataclasses.replace(others[0], pixel_size_um=0.4)])
    contents = examples.check_study(study).contents
    with pytest.raises(
        InputError, match=rf"0\.4 to 0\.5 µm.*{first.image} are unknown"
    ):
        gaps.refuse_gaps(study, contents)
    known = dataclasses.replace(study, pixel_size_um=0.5)
    contents = examples.check_study(known).contents
    gaps.refuse_gaps(known, contents)
    assert not gaps.told_of_pixel_sizes(contents)
