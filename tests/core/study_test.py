"""Tests of cellclass_tf.core.study."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf import errors
from cellclass_tf.core.manifest import ANNOTATION, ORIGIN, SPLIT
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.storage import csv_json, png

ROW = ImageRow(
    image="HEK/a.png",
    cell_type="HEK",
    group="dish1",
    scene=2,
    pixel_size_um=0.325,
    corrected=True,
    cells=7,
)


def test_a_study_survives_a_round_trip(tmp_path):
    made = Study.create(tmp_path / "s", ("A", "B", "C"), pixel_size_um=0.5)
    opened = Study.open(tmp_path / "s")
    assert opened.cell_types == ("A", "B", "C")
    assert opened.pixel_size_um == 0.5
    assert opened.channel_rules == made.channel_rules


def test_rows_survive_a_round_trip_with_their_types(tmp_path):
    study = Study.create(tmp_path)
    study.update([ROW])
    assert study.rows() == [ROW]


def test_updating_a_row_keeps_the_others_in_their_order(tmp_path):
    study = Study.create(tmp_path)
    other, last = (dataclasses.replace(ROW, image=i) for i in ("A/z.png", "B/a.png"))
    study.update([ROW])
    study.update([last, other])
    study.update([dataclasses.replace(ROW, cells=8)])
    lines = csv_json.read_csv(study.manifest_path)
    assert [(line["image"], line["cells"]) for line in lines] == [
        ("HEK/a.png", "8"),
        ("A/z.png", "7"),
        ("B/a.png", "7"),
    ]
    # Rows are returned in the order of their images.
    assert [row.image for row in study.rows()] == ["A/z.png", "B/a.png", "HEK/a.png"]


def test_a_stage_replaces_only_its_own_part(tmp_path):
    study = Study.create(tmp_path)
    study.update([dataclasses.replace(ROW, by_hand="1", verdict="rejected")])
    planned = dataclasses.replace(
        ROW, cells=9, by_hand="", verdict="accepted", split="test", raw_file="new.tif"
    )
    study.update([planned], SPLIT)
    (row,) = study.rows()
    assert (row.split, row.cells, row.by_hand, row.verdict) == (
        "test",
        7,
        "1",
        "rejected",
    )
    study.update([planned], ORIGIN, ANNOTATION)
    (row,) = study.rows()
    assert (row.raw_file, row.cells, row.by_hand) == ("new.tif", 9, "")
    assert row.verdict == "rejected"


def test_a_manifest_saved_by_a_spreadsheet_is_read_and_updated(tmp_path):
    study = Study.create(tmp_path)
    study.update([ROW])
    text = study.manifest_path.read_text().replace(",True,", ",WAHR,")
    text = text.replace("0.325", "0,325x").replace(",", ";").replace("0;325x", "0,325")
    study.manifest_path.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert study.rows() == [ROW]
    study.update([ROW])
    assert study.manifest_path.read_text().count(";") == 0
    assert study.rows() == [ROW]


def test_columns_that_people_added_are_kept(tmp_path):
    study = Study.create(tmp_path)
    study.update([ROW])
    lines = study.manifest_path.read_text().splitlines()
    study.manifest_path.write_text(f"{lines[0]},note\n{lines[1]},look again\n")
    study.update([dataclasses.replace(ROW, cells=9)])
    (line,) = csv_json.read_csv(study.manifest_path)
    assert (line["cells"], line["note"]) == ("9", "look again")


def test_a_rejected_row_is_not_accepted(tmp_path):
    study = Study.create(tmp_path)
    study.update([dataclasses.replace(ROW, verdict="rejected", reason="blurred")])
    assert study.accepted_rows() == []


@pytest.mark.parametrize("image", ["../../etc/a.png", "/etc/a.png"])
def test_a_manifest_that_points_out_of_the_study_is_rejected(tmp_path, image):
    study = Study.create(tmp_path)
    with pytest.raises(errors.InputError, match="out of its folder"):
        study.image_path(dataclasses.replace(ROW, image=image))


@pytest.mark.parametrize(
    "types", [("mixed",), ("unknown",), ("a/b",), ("A", "A"), ("..",), ()]
)
def test_types_that_cannot_be_folder_names_are_rejected(tmp_path, types):
    with pytest.raises(errors.InputError):
        Study.create(tmp_path, types)


def test_the_error_for_a_folder_without_a_study_says_what_to_do(tmp_path):
    with pytest.raises(errors.InputError, match="cellclass convert"):
        Study.open(tmp_path)


def test_the_error_for_an_invalid_line_of_the_manifest_names_it(tmp_path):
    study = Study.create(tmp_path)
    study.update([ROW])
    text = study.manifest_path.read_text().replace(",2,", ",two,", 1)
    study.manifest_path.write_text(text)
    with pytest.raises(errors.InputError, match="line 2: column scene: expected a num"):
        study.rows()


def test_a_merged_image_must_be_in_colour(tmp_path):
    study = Study.create(tmp_path)
    png.write_png(study.image_path(ROW), np.zeros((4, 4), np.uint8))
    with pytest.raises(errors.InputError, match="expected a merged image"):
        study.read_image(ROW)


@pytest.mark.parametrize("size_um", [325, 0.0001, 352.8])
def test_a_pixel_size_in_another_unit_is_rejected(tmp_path, size_um):
    with pytest.raises(
        errors.InputError, match=r"pixel_size_um: expected .* Is the unit µm"
    ):
        Study.create(tmp_path / "s", pixel_size_um=size_um)
