"""Tests of cellclass_tf.analysis.comparison."""

import dataclasses

import numpy as np
import pytest
import tifffile

import cellclass_tf as cc
from cellclass_tf import errors
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.run_record import PredictedImage, RunRecord
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.storage import csv_json, png
from tests.predictions import write_predictions

TYPES = ("HEK", "N2a")
BOXES = ((0, 0, 10, 10), (0, 20, 10, 30), (20, 0, 30, 10), (20, 20, 30, 30))


def cells_of(boxes, types, names=TYPES):
    labels = np.zeros((40, 40), np.int32)
    for number, (top, left, bottom, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = number
    return Cells.from_labels(labels, names, types)


TRUE = cells_of(BOXES, ["HEK", "HEK", "N2a", "N2a"])
# The 1st is the same, the 2nd smaller, the 3rd of another type, the 4th gone, a 5th new.
CHANGED = cells_of(
    [(0, 0, 10, 10), (0, 20, 10, 26), (20, 0, 30, 10), (35, 35, 40, 40)],
    ["HEK", "HEK", "HEK", "N2a"],
)


def study(root, fields):
    made = Study.create(root, TYPES)
    for stem, cells in fields.items():
        row = ImageRow(f"{stem}.png", "mixed", verdict="accepted", pixel_size_um=0.5)
        image = np.zeros((40, 40, 3), np.uint8)
        image[..., 1:] = 80 * (cells.labels > 0)[..., np.newaxis]
        made.update([row])
        png.write_png(made.image_path(row), image)
        cells.write(made.cells_path(row), types_csv=True)
    return root


def test_every_change_is_listed_and_the_field_with_most_changes_comes_first(tmp_path):
    truth = study(tmp_path / "a", {"mixed/good": TRUE, "mixed/bad": TRUE})
    run = write_predictions(tmp_path / "b", {"mixed/good": TRUE, "mixed/bad": CHANGED})
    found = cc.compare(truth, run, tmp_path / "out")
    assert found.counts == {
        "same": 5,
        "other type": 1,
        "only in A": 1,
        "only in B": 1,
        "other outline": 1,
    }
    rows = csv_json.read_csv(tmp_path / "out" / "changes.csv")
    told = [
        (r["change"], r["cell_a"], r["cell_b"], r["type_a"], r["type_b"]) for r in rows
    ]
    assert told == [
        ("other outline", "2", "2", "HEK", "HEK"),
        ("other type", "3", "3", "N2a", "HEK"),
        ("only in A", "4", "", "N2a", ""),
        ("only in B", "", "4", "", "N2a"),
    ]
    fields = csv_json.read_csv(tmp_path / "out" / "fields.csv")
    assert [row["image"] for row in fields] == ["mixed/bad", "mixed/good"]
    assert [(row["cells_a"], row["cells_b"]) for row in fields] == [("4", "4")] * 2
    # Fields without changes have no picture.
    pictures = sorted(path.name for path in (tmp_path / "out/pictures").iterdir())
    assert pictures == ["001_mixed_bad.png"]
    assert fields[0]["picture"]


def test_cells_have_the_numbers_of_a_label_image_with_a_gap(tmp_path):
    run = write_predictions(tmp_path / "a", {"mixed/x": CHANGED})
    truth = study(tmp_path / "b", {"mixed/x": TRUE})
    path = truth / "cells/mixed/x.tif"
    # A person deletes the 1st cell.
    labels = tifffile.imread(path)
    tifffile.imwrite(path, np.where(labels == 1, 0, labels))
    path.with_suffix(".csv").write_text("cell,cell_type\n2,HEK\n3,N2a\n4,N2a\n")
    cc.compare(run, truth, tmp_path / "out")
    rows = csv_json.read_csv(tmp_path / "out" / "changes.csv")
    assert [(r["change"], r["cell_a"], r["cell_b"]) for r in rows] == [
        ("other outline", "2", "2"),
        ("other type", "3", "3"),
        ("only in A", "1", ""),
        ("only in A", "4", ""),
        ("only in B", "", "4"),
    ]
    assert (tmp_path / "out/pictures/001_mixed_x.png").exists()


def test_a_run_compared_with_itself_has_no_changes(tmp_path):
    run = write_predictions(tmp_path / "a", {"mixed/x": TRUE})
    found = cc.compare(run, run, tmp_path / "out")
    assert found.counts["same"] == 4
    assert sum(found.counts.values()) == 4
    assert not (tmp_path / "out" / "pictures").exists()


def test_types_are_compared_by_name_and_one_side_may_lack_the_folder(tmp_path):
    names = ("N2a", "HEK")
    other = cells_of(BOXES, ["HEK", "HEK", "N2a", "N2a"], names)
    a = write_predictions(tmp_path / "a", {"mixed/x": TRUE, "mixed/y": TRUE})
    b = write_predictions(tmp_path / "b", {"x": other, "z": other})
    found = cc.compare(a, b, tmp_path / "out")
    assert found.counts["same"] == 4
    assert found.fields == 1
    assert found.only_a == ("mixed/y",)
    assert found.only_b == ("z",)


def test_a_name_that_also_an_image_without_cells_has_is_ambiguous(tmp_path):
    truth = study(tmp_path / "a", {"HEK/x": TRUE, "HEK/y": TRUE})
    Study.open(truth).update([ImageRow("N2a/x.png", "N2a")])
    run = write_predictions(tmp_path / "b", {"x": TRUE, "y": TRUE})
    for a, b in ((truth, run), (run, truth)):
        found = cc.compare(a, b, tmp_path / "out")
        assert found.fields == 1
        assert sorted(found.only_a + found.only_b) == ["HEK/x", "x"]


def test_another_image_of_the_same_name_is_not_compared(tmp_path):
    truth = study(tmp_path / "a", {"mixed/x": TRUE, "mixed/y": TRUE})
    rows = Study.open(truth).rows()
    Study.open(truth).update(
        [dataclasses.replace(r, image_sha256="1", raw_sha256="2") for r in rows]
    )
    run = write_predictions(tmp_path / "b", {"x": TRUE, "y": TRUE})
    images = (
        PredictedImage("x", "mixed/x.png", "3", raw_sha256="4"),
        # The same raw file, converted with other contrast limits.
        PredictedImage("y", "mixed/y.png", "3", raw_sha256="2"),
    )
    RunRecord(images=images).write(run / "run.json")
    found = cc.compare(run, truth, tmp_path / "out")
    assert found.fields == 1
    assert "x is another image in A than in B" in found.failures["x"]
    assert not found.passed


def test_types_that_differ_only_by_case_are_refused(tmp_path):
    names = ("hek", "N2a")
    other = cells_of(BOXES, ["hek", "hek", "N2a", "N2a"], names)
    a = write_predictions(tmp_path / "a", {"x": TRUE})
    b = write_predictions(tmp_path / "b", {"x": other})
    with pytest.raises(errors.InputError, match=r"the type 'HEK', and .* has 'hek'"):
        cc.compare(a, b, tmp_path / "out")


def test_fields_of_another_study_and_of_another_size_are_refused(tmp_path):
    a = write_predictions(tmp_path / "a", {"mixed/x": TRUE})
    with pytest.raises(errors.InputError, match="no field in common"):
        cc.compare(
            a, write_predictions(tmp_path / "b", {"mixed/y": TRUE}), tmp_path / "out"
        )
    small = Cells.from_labels(np.ones((5, 5), np.int32), TYPES, "HEK")
    with pytest.raises(errors.InputError, match=r"mixed/x: .*\(40, 40\) and \(5, 5\)"):
        cc.compare(
            a, write_predictions(tmp_path / "c", {"mixed/x": small}), tmp_path / "out"
        )
