"""Tests of cellclass_tf.datasets.examples."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf import files
from cellclass_tf.cells import Cells
from cellclass_tf.datasets import examples
from cellclass_tf.study import ImageRow, Study

LABELS = np.zeros((10, 20), np.int32)
LABELS[2:5, 4:14] = 1
LABELS[6:10, 0:5] = 2


@pytest.fixture
def study(tmp_path):
    """One pure field and one mixed field, each with two cells."""
    study = Study.create(tmp_path)
    for cell_type, types in (("HEK", "HEK"), ("mixed", ["HEK", "N2a"])):
        row = ImageRow(f"{cell_type}/a.png", cell_type, group=cell_type)
        files.write_png(study.image_path(row), np.ones((10, 20, 3), np.uint8))
        cells = Cells.from_labels(LABELS, study.cell_types, types)
        cells.write(study.cells_path(row), types_csv=cell_type == "mixed")
        study.update([row])
    return study


def test_an_example_holds_boxes_types_and_areas_of_the_labels(study):
    example = examples.example_of_row(study, study.rows()[1])
    first, second = example["cells"]
    # Rows 2..5 of 10 and columns 4..14 of 20.
    assert tuple(first["box"]) == (0.2, 0.2, 0.5, 0.7)
    assert (first["type"], second["type"]) == ("HEK", "N2a")
    assert (first["area_px"], second["area_px"]) == (30, 20)
    np.testing.assert_array_equal(example["labels"][..., 0], LABELS)


def test_splits_are_recorded_in_the_manifest(study):
    examples.rows_of_dataset(study)
    assert [row.split for row in study.rows()] == ["train", "mixed"]


def test_rejected_images_and_mixed_ones_without_types_stay_out(study):
    study.cells_path(study.rows()[1]).with_suffix(".csv").unlink()
    rows, _ = examples.rows_of_dataset(study)
    assert [row.image for row in rows] == ["HEK/a.png"]
    rejected = dataclasses.replace(study.rows()[0], verdict="rejected")
    study.update([rejected])
    with pytest.raises(files.InputError, match="no annotated images"):
        examples.rows_of_dataset(study)


def test_the_fingerprint_changes_with_labels_types_and_splits(study):
    def fingerprint():
        rows, _ = examples.rows_of_dataset(study)
        return examples.fingerprint_of_dataset(study, rows)

    found = {fingerprint()}
    path = study.cells_path(study.rows()[0])
    Cells.from_labels((LABELS > 1).astype(int), study.cell_types, "HEK").write(path)
    found.add(fingerprint())
    table = study.cells_path(study.rows()[1]).with_suffix(".csv")
    table.write_text("cell,cell_type\n1,N2a\n2,N2a\n")
    found.add(fingerprint())
    study.update([dataclasses.replace(study.rows()[0], split="test")])
    found.add(fingerprint())
    assert len(found) == 4


def test_a_broken_field_fails_alone(study):
    study.image_path(study.rows()[0]).unlink()
    rows, outcome = examples.rows_of_dataset(study)
    assert [row.image for row in rows] == ["mixed/a.png"]
    assert "does not exist" in outcome.failures["HEK/a.png"]


def test_a_pixel_size_of_the_study_counts_where_an_image_has_none(study):
    known = dataclasses.replace(study, pixel_size_um=0.5)
    assert examples.example_of_row(known, study.rows()[0])["pixel_size_um"] == 0.5


def test_labels_of_another_size_are_refused(study):
    row = study.rows()[0]
    files.write_png(study.image_path(row), np.ones((11, 20, 3), np.uint8))
    with pytest.raises(files.InputError, match=r"HEK/a\.tif.*\(11, 20\)"):
        examples.example_of_row(study, row)
