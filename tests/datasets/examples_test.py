"""Tests of cellclass_tf.datasets.examples."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from cellclass_tf import errors
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.datasets import examples, gaps
from cellclass_tf.errors import InputError
from cellclass_tf.storage import png
from tests.datasets.conftest import LABELS


def pixels_of(encoded: io.BytesIO) -> np.ndarray:
    return np.asarray(Image.open(encoded))


def splits_of(checked) -> dict[str, str]:
    return {row.image: row.split for row in checked.rows}


def test_an_example_holds_boxes_types_and_areas_of_the_labels(study):
    example = examples.example_of_row(study, study.rows()[-1])
    first, second = example["cells"]
    # Rows 2..5 of 10 and columns 4..14 of 20.
    assert tuple(first["box"]) == (0.2, 0.2, 0.5, 0.7)
    assert (first["type"], second["type"]) == ("HEK", "N2a")
    assert (first["area_px"], second["area_px"]) == (30, 20)
    np.testing.assert_array_equal(pixels_of(example["labels"]), LABELS)
    assert (pixels_of(example["image"]) == 4).all()


def test_rows_get_splits(study):
    found = splits_of(examples.check_study(study))
    assert found["mixed/m.png"] == "mixed"
    assert set(found.values()) == {"train", "validation", "mixed"}


def test_rejected_images_are_left_out(study):
    rejected = dataclasses.replace(
        study.rows()[0], verdict="rejected", reason="glow: 9%"
    )
    study.update([rejected])
    checked = examples.check_study(study)
    assert set(splits_of(checked)) == {
        "HEK/b.png",
        "N2a/c.png",
        "N2a/d.png",
        "mixed/m.png",
    }
    assert checked.contents.excluded == {"HEK/a.png": "glow"}
    study.update(dataclasses.replace(row, verdict="rejected") for row in study.rows())
    with pytest.raises(errors.InputError, match="no annotated images"):
        examples.check_study(study)


def without_types(study, row):
    study.cells_path(row).with_suffix(".csv").write_text(
        "cell,cell_type\n1,unknown\n2,HEK\n"
    )


def test_a_mixed_field_without_types_is_in_the_split_untyped(study):
    row = study.rows()[-1]
    study.cells_path(row).with_suffix(".csv").unlink()
    checked = examples.check_study(study)
    facts = checked.contents.fields[row.image]
    assert facts.split == "untyped"
    assert facts.cells == {"unknown": 2}
    # In images.csv it is in mixed, its split once it has types.
    assert splits_of(checked)[row.image] == "mixed"
    _, example = examples.keyed_example_of_row(study, row, facts)
    assert [cell["type"] for cell in example["cells"]] == [-1, -1]
    gaps.refuse_gaps(study, checked.contents)
    # The known types of single cells, as after a spot check, are used for training.
    without_types(study, row)
    facts = examples.check_study(study).contents.fields[row.image]
    assert facts.split == "untyped"
    assert facts.cells == {"unknown": 1, "HEK": 1}
    _, example = examples.keyed_example_of_row(study, row, facts)
    assert [cell["type"] for cell in example["cells"]] == [-1, "HEK"]


def test_a_field_without_types_of_a_tested_dish_is_left_out(study):
    row = study.rows()[-1]
    other = dataclasses.replace(row, image="mixed/n.png")
    png.write_png(study.image_path(other), np.full((10, 20, 3), 9, np.uint8))
    Cells.from_labels(LABELS, study.cell_types).write(study.cells_path(other))
    study.update([other])
    assert other.image not in examples.check_study(study).contents.fields
    # In a dish of its own, which is not used for tests, the field is untyped.
    study.update([dataclasses.replace(other, group="n")])
    assert examples.check_study(study).contents.fields[other.image].split == "untyped"


@pytest.mark.parametrize("held_out", [True, False])
def test_a_pure_field_with_cells_of_unknown_type_is_untyped(study, held_out):
    rows = [row for row in study.rows() if row.cell_type == "HEK"]
    splits = ("validation", "train") if held_out else ("train", "validation")
    study.update(
        dataclasses.replace(row, split=split)
        for row, split in zip(rows, splits, strict=True)
    )
    without_types(study, rows[0])
    checked = examples.check_study(study)
    fields = checked.contents.fields
    if held_out:
        assert rows[0].image not in fields
        (told,) = checked.outcome.notes
        assert told.startswith("1 fields are left out")
        assert rows[0].image in told
    else:
        assert fields[rows[0].image].split == "untyped"
        assert not checked.outcome.notes


def test_the_fingerprint_changes_with_labels_types_and_splits(study):
    def fingerprint():
        return examples.check_study(study).contents.fingerprint

    found = {fingerprint()}
    path = study.cells_path(study.rows()[0])
    Cells.from_labels((LABELS > 1).astype(int), study.cell_types, "HEK").write(path)
    found.add(fingerprint())
    table = study.cells_path(study.rows()[-1]).with_suffix(".csv")
    table.write_text("cell,cell_type\n1,N2a\n2,N2a\n")
    found.add(fingerprint())
    study.update([dataclasses.replace(study.rows()[0], split="test")])
    found.add(fingerprint())
    assert len(found) == 4


def test_an_unchanged_file_is_not_read_again(study, monkeypatch):
    before = examples.check_study(study)

    def read(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(Study, "read_image", read)
    assert examples.check_study(study).contents == before.contents


def test_a_broken_field_does_not_stop_the_others(study):
    study.image_path(study.rows()[0]).unlink()
    checked = examples.check_study(study)
    assert "HEK/a.png" not in splits_of(checked)
    assert len(checked.rows) == 4
    assert "does not exist" in checked.outcome.failures["HEK/a.png"]


def test_labels_without_an_image_are_failures(study):
    Cells.from_labels(LABELS, study.cell_types, "HEK").write(
        study.root / "cells" / "HEK" / "stray.tif"
    )
    failures = examples.check_study(study).outcome.failures
    assert list(failures) == ["cells/HEK/stray.tif"]
    assert "no row of HEK/stray.png" in failures["cells/HEK/stray.tif"]


def test_an_unknown_type_is_a_failure(study):
    study.update([dataclasses.replace(study.rows()[0], cell_type="U2OS")])
    failures = examples.check_study(study).outcome.failures
    assert "Unknown cell type 'U2OS'" in failures["HEK/a.png"]
    assert "study.yaml" in failures["HEK/a.png"]


def test_the_study_pixel_size_is_used_for_images_without_one(study):
    known = dataclasses.replace(study, pixel_size_um=0.5)
    assert examples.example_of_row(known, study.rows()[0])["pixel_size_um"] == 0.5


def test_labels_of_another_size_are_refused(study):
    row = study.rows()[0]
    png.write_png(study.image_path(row), np.ones((11, 20, 3), np.uint8))
    with pytest.raises(errors.InputError, match=r"HEK/a\.tif.*\(11, 20\)"):
        examples.example_of_row(study, row)


def test_a_file_that_changes_while_it_is_prepared_is_noticed(study):
    checked = examples.check_study(study)
    row = checked.rows[0]
    facts = checked.contents.fields[row.image]
    assert examples.keyed_example_of_row(study, row, facts)[0] == row.image
    png.write_png(study.image_path(row), np.full((10, 20, 3), 9, np.uint8))
    with pytest.raises(errors.InputError, match="changed while"):
        examples.keyed_example_of_row(study, row, facts)


def test_the_same_image_is_found_despite_wrong_hashes_in_images_csv(study):
    study.update(examples.check_study(study).rows)
    one, other = (row for row in study.rows() if row.cell_type == "HEK")
    study.image_path(other).write_bytes(study.image_path(one).read_bytes())
    # Both have splits already, and the columns describe the old image.
    with pytest.raises(InputError, match="have the same bytes"):
        examples.check_study(study)
    study.update([dataclasses.replace(row, split="") for row in (one, other)])
    found = splits_of(examples.check_study(study))
    assert found[one.image] == found[other.image]


@pytest.mark.parametrize("what", ["pixels", "raw file", "another time"])
def test_one_field_cannot_be_of_two_types(study, what):
    one, other = (
        next(r for r in study.rows() if r.cell_type == t) for t in ("HEK", "N2a")
    )
    if what == "pixels":
        study.image_path(other).write_bytes(study.image_path(one).read_bytes())
    else:
        same = {"raw_sha256": "5a", "scene": 1}
        later = 1 if what == "another time" else 0
        study.update([dataclasses.replace(one, **same)])
        study.update([dataclasses.replace(other, **same, time=later)])
    checked = examples.check_study(study)
    assert sorted(checked.outcome.failures) == [one.image, other.image]
    assert "neither is used" in checked.outcome.failures[one.image]
    assert not {one.image, other.image} & {row.image for row in checked.rows}
    study.update([dataclasses.replace(other, verdict="rejected")])
    checked = examples.check_study(study)
    assert not checked.outcome.failures
    assert one.image in {row.image for row in checked.rows}


def test_fields_of_two_types_that_look_alike_are_reported(study):
    rng = np.random.default_rng(0)
    one, other = (
        next(r for r in study.rows() if r.cell_type == t) for t in ("HEK", "N2a")
    )
    field = np.kron(rng.integers(0, 200, (10, 20, 3)), np.ones((9, 9, 1)))
    labels = np.kron(LABELS, np.ones((9, 9), np.int32))
    for row, gain in ((one, 1), (other, 0.9)):
        png.write_png(study.image_path(row), (gain * field).astype(np.uint8))
        cells = Cells.from_labels(labels, study.cell_types, row.cell_type)
        cells.write(study.cells_path(row))
    checked = examples.check_study(study)
    (told,) = checked.outcome.notes
    assert f"look alike: {one.image} and {other.image}." in told
    assert not checked.outcome.failures
    study.update([dataclasses.replace(other, verdict="rejected")])
    assert not examples.check_study(study).outcome.notes


def test_another_scene_of_a_file_may_be_of_another_type(study):
    one, other = (
        next(r for r in study.rows() if r.cell_type == t) for t in ("HEK", "N2a")
    )
    rows = [
        dataclasses.replace(row, raw_sha256="5a", scene=n)
        for n, row in enumerate((one, other))
    ]
    study.update(rows)
    assert not examples.check_study(study).outcome.failures


def test_an_invalid_scene_hash_is_computed_again(study):
    row = study.rows()[0]
    study.update([dataclasses.replace(row, scene_hash="no hash")])
    checked = examples.check_study(study)
    (found,) = (r.scene_hash for r in checked.rows if r.image == row.image)
    # A uniform image has no hash.
    assert found == ""


def test_a_dish_without_annotation_does_not_count_in_the_splits(study):
    for name in ("a", "b"):
        row = ImageRow(f"HEK/new_{name}.png", "HEK", group=f"new {name}")
        png.write_png(study.image_path(row), np.zeros((10, 20, 3), np.uint8))
        study.update([row])
    checked = examples.check_study(study)
    gaps.refuse_gaps(study, checked.contents)
    assert {"train", "validation"} <= {
        row.split for row in checked.rows if row.cell_type == "HEK"
    }


def test_checks_run_without_a_writable_journal(study):
    study.journal("dataset").mkdir()
    checked = examples.check_study(study)
    assert len(checked.rows) == 5
    assert not checked.outcome.failures


def test_types_that_change_while_they_are_prepared_are_noticed(study):
    checked = examples.check_study(study)
    row = next(row for row in checked.rows if row.cell_type == "mixed")
    facts = checked.contents.fields[row.image]
    examples.keyed_example_of_row(study, row, facts)
    table = study.cells_path(row).with_suffix(".csv")
    table.write_text(table.read_text().replace("HEK", "N2a"))
    with pytest.raises(InputError, match="or their types were changed"):
        examples.keyed_example_of_row(study, row, facts)
