"""Tests of the import of label images and masks."""

import dataclasses
import os
import re

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellclass_tf.annotation import annotate, cell_files
from cellclass_tf.core.label_files import read_labels
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.masks import import_masks
from cellclass_tf.storage import csv_json, digests, png

IMAGES = ("HEK/a.png", "HEK/same.png", "N2a/b.png", "N2a/same.png", "mixed/m.png")
# Two cells of 4 and 2 pixels.
LABELS = np.array([[0, 1, 1, 0, 0], [0, 1, 1, 0, 2], [0, 0, 0, 0, 2]], np.uint16)


@pytest.fixture
def study(tmp_path):
    study = Study.create(tmp_path / "study")
    rows = [ImageRow(image, image.split("/")[0]) for image in IMAGES]
    for row in rows:
        png.write_png(study.image_path(row), np.zeros((3, 5, 3), np.uint8))
    study.update(rows)
    return study


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


def _write(path, labels=LABELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        png.write_png(path, labels)
    else:
        tifffile.imwrite(path, labels)


def _row(study, image):
    return next(row for row in study.rows() if row.image == image)


def _cells(study, image):
    return study.read_cells(_row(study, image))


def test_a_folder_with_one_folder_per_type_is_imported(study, source):
    _write(source / "HEK/a.tif")
    _write(source / "N2a/same.png")
    outcome = import_masks(study.root, source)
    assert sorted(outcome.done) == ["HEK/a.png", "N2a/same.png"]
    np.testing.assert_array_equal(_cells(study, "HEK/a.png").labels, LABELS)
    assert _cells(study, "N2a/same.png").cell_types == ("N2a", "N2a")
    row = _row(study, "HEK/a.png")
    assert (row.annotator, row.cells, row.corrected) == ("import", 2, True)
    assert row.annotator_sha256 == digests.sha256_of_file(source / "HEK/a.tif")
    assert row.annotation
    assert row.diameter_px is None
    assert not _row(study, "HEK/same.png").corrected


def test_files_of_one_name_in_two_dishes_go_to_their_own_images(study, source, caplog):
    raw_files = {"HEK/a.png": "d1/a.tif", "HEK/same.png": "x.tif"}
    rows = [
        dataclasses.replace(row, raw_file=f"raw/HEK/{raw_files[row.image]}")
        for row in study.rows()
        if row.image in raw_files
    ]
    second = ImageRow("HEK/d2_a.png", "HEK", raw_file="raw/HEK/d2/a.tif")
    png.write_png(study.image_path(second), np.zeros((3, 5, 3), np.uint8))
    study.update([*rows, second])
    _write(source / "HEK/d2/a_masks.tif")
    assert list(import_masks(study, source).done) == ["HEK/d2_a.png"]
    _write(source / "HEK/d1/a_masks.tif", LABELS[:, ::-1])
    assert list(import_masks(study, source).done) == ["HEK/a.png"]
    _write(source / "HEK/d2/a_labels.tif")
    caplog.clear()
    with caplog.at_level("INFO"):
        failures = import_masks(study, source).failures
    assert "two label files match it" in failures["HEK/d2_a.png"]
    assert "is ignored" not in caplog.text


def test_types_of_a_mixed_field_come_from_its_table(study, source):
    # Labels with a gap: 5 and 9.
    _write(source / "mixed/m.tif", np.array([0, 5, 9], np.uint16)[LABELS])
    rows = [{"cell": 5, "cell_type": "N2a"}, {"cell": 9, "cell_type": "HEK"}]
    csv_json.write_csv(source / "mixed/m.csv", ("cell", "cell_type"), rows)
    import_masks(study, source)
    assert _cells(study, "mixed/m.png").cell_types == ("N2a", "HEK")
    np.testing.assert_array_equal(_cells(study, "mixed/m.png").labels, LABELS)


TABLE = [{"cell": 1, "cell_type": "HEK"}, {"cell": 2, "cell_type": "N2a"}]


@pytest.mark.parametrize(
    ("label_image", "table", "image"),
    [
        ("HEK/a.tif", "HEK/a.csv", "HEK/a.png"),
        ("mixed/m_masks.tif", "mixed/m.csv", "mixed/m.png"),
        ("mixed/m_masks.tif", "mixed/m_masks.csv", "mixed/m.png"),
        ("HEK/a_cp_masks.png", "HEK/a.csv", "HEK/a.png"),
    ],
)
def test_a_table_of_types_counts_beside_every_label_image(
    study, source, label_image, table, image
):
    _write(source / label_image)
    csv_json.write_csv(source / table, ("cell", "cell_type"), TABLE)
    outcome = import_masks(study, source)
    assert _cells(study, image).cell_types == ("HEK", "N2a")
    assert not [note for note in outcome.notes if note.startswith("left out")]
    # A corrected table is new.
    types = [TABLE[0], TABLE[1] | {"cell_type": "unknown"}]
    csv_json.write_csv(source / table, ("cell", "cell_type"), types)
    import_masks(study, source)
    assert _cells(study, image).cell_types == ("HEK", "unknown")


def test_tables_that_are_not_used_are_named(study, source):
    _write(source / "HEK/a.tif")
    (source / "HEK/a.csv").write_text("area,cell\n4,1\n2,2\n")
    csv_json.write_csv(source / "HEK/b.csv", ("cell", "cell_type"), TABLE)
    outcome = import_masks(study, source)
    assert _cells(study, "HEK/a.png").cell_types == ("HEK", "HEK")
    assert outcome.notes[1:] == (
        "left out: 2 tables without label image or without the columns cell and "
        "cell_type (a.csv, b.csv)",
    )


def test_labels_without_a_table_remove_an_old_table(study, source):
    table = study.cells_path(_row(study, "mixed/m.png")).with_suffix(".csv")
    csv_json.write_csv(table, ("cell", "cell_type"), [{"cell": 1, "cell_type": "HEK"}])
    _write(source / "mixed/m.tif")
    import_masks(study, source)
    assert not table.exists()
    assert _cells(study, "mixed/m.png").cell_types == ("unknown", "unknown")


@pytest.mark.parametrize("folder", ["", "HEK"])
def test_one_mask_for_each_cell_is_imported(study, source, folder):
    for cell in (1, 2):
        mask = (LABELS == cell).astype(np.uint8) * 255
        _write(source / folder / f"a_mask_out_{cell}.png", mask)
    outcome = import_masks(study, source)
    assert list(outcome.done) == ["HEK/a.png"]
    np.testing.assert_array_equal(_cells(study, "HEK/a.png").labels, LABELS)


def test_masks_of_single_cells_are_sorted_by_number(study, source):
    for cell, column in ((2, 0), (10, 2), (1, 4)):
        mask = np.zeros((3, 5, 3), np.uint8)
        mask[:, column] = 255
        _write(source / f"a_mask_out_{cell}.png", mask)
    failure = import_masks(study, source).failures["a_mask_out_1.png"]
    assert "a_mask_out_K.png number 3 is missing, and 6 more. Copy" in failure
    for cell in range(4, 10):
        _write(source / f"a_mask_out_{cell}.png", mask)
    failure = import_masks(study, source).failures["a_mask_out_1.png"]
    assert "a_mask_out_K.png number 3 is missing. Copy" in failure
    for cell in range(4, 10):
        (source / f"a_mask_out_{cell}.png").unlink()
    import_masks(study, source, allow_gaps=True)
    np.testing.assert_array_equal(_cells(study, "HEK/a.png").labels[0], [2, 0, 3, 0, 1])


def test_the_smaller_cell_gets_the_pixels_of_two_masks(study, source):
    large, small = np.zeros((2, 3, 5), np.uint8)
    large[:, :2] = 255
    small[1, 1:4] = 255
    _write(source / "a_mask_out_0.png", large)
    _write(source / "a_mask_out_1.png", small)
    outcome = import_masks(study, source)
    # Column 1 of the middle row lies in both: 6 px against 3 px.
    expected = [[1, 1, 0, 0, 0], [1, 2, 2, 2, 0], [1, 1, 0, 0, 0]]
    np.testing.assert_array_equal(_cells(study, "HEK/a.png").labels, expected)
    notes = outcome.done["HEK/a.png"]["notes"]
    assert notes == ["1 px of several masks were given to the smaller cell"]


def test_merged_masks_are_preferred_to_single_cells(study, source):
    _write(source / "mergeMasks/a_mergeMasks.png", LABELS)
    _write(source / "a_mask_out_1.png", np.full((3, 5), 255, np.uint8))
    # The image itself lies beside its labels.
    _write(source / "a.png", np.zeros((3, 5, 3), np.uint8))
    outcome = import_masks(study, source)
    assert not outcome.failures
    np.testing.assert_array_equal(_cells(study, "HEK/a.png").labels, LABELS)


@pytest.mark.parametrize("ending", ["_masks", "_cp_masks", "_labels", "_mergeMasks"])
def test_endings_of_other_programs_are_recognized(study, source, ending):
    _write(source / f"b{ending}.png")
    assert list(import_masks(study, source).done) == ["N2a/b.png"]


def test_image_whose_own_name_ends_in_masks_is_found(study, source):
    row = ImageRow("HEK/a_masks.png", "HEK")
    png.write_png(study.image_path(row), np.zeros((3, 5, 3), np.uint8))
    study.update([row])
    _write(source / "a_masks.tif")
    assert list(import_masks(study, source).done) == ["HEK/a_masks.png"]


def test_an_image_of_another_size_fails_alone(study, source):
    _write(source / "HEK/a.tif", LABELS.T.copy())
    _write(source / "N2a/b.tif")
    outcome = import_masks(study, source)
    assert list(outcome.done) == ["N2a/b.png"]
    assert "have 5 x 3 px and HEK/a.png has 3 x 5" in outcome.failures["HEK/a.png"]
    assert not study.cells_path(_row(study, "HEK/a.png")).exists()
    assert not _row(study, "HEK/a.png").corrected


def test_unknown_and_ambiguous_names_fail_alone(study, source):
    _write(source / "stranger.tif")
    _write(source / "same.tif")
    _write(source / "HEK/b.tif")
    _write(source / "N2a/b.tif")
    outcome = import_masks(study, source)
    assert list(outcome.done) == ["N2a/b.png"]
    assert sorted(outcome.failures) == ["HEK/b.tif", "same.tif", "stranger.tif"]
    assert "matches no image in the study" in outcome.failures["stranger.tif"]
    assert "matches no image of type HEK" in outcome.failures["HEK/b.tif"]
    assert "matches HEK/same.png, N2a/same.png" in outcome.failures["same.tif"]


def test_two_label_files_for_one_image_fail(study, source):
    _write(source / "one/b_masks.tif")
    _write(source / "two/b_masks.tif")
    outcome = import_masks(study, source)
    assert "two label files match it" in outcome.failures["N2a/b.png"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS / np.float32(2), "expected a label image"),
        (LABELS.astype(np.int16) - 1, "whole numbers from 0 on"),
        ((LABELS > 0).astype(np.uint8) * 255, "cells cannot be told apart"),
    ],
)
def test_a_file_that_is_not_a_label_image_fails_by_name(study, source, labels, message):
    _write(source / "a.tif", labels)
    failure = import_masks(study, source).failures["HEK/a.png"]
    assert message in failure
    assert "a.tif" in failure


def test_a_source_without_labels_is_rejected(study, source, tmp_path):
    with pytest.raises(InputError, match="expected a folder"):
        import_masks(study, source)
    source.mkdir()
    (source / "notes.txt").write_text("no labels")
    with pytest.raises(InputError, match="found none"):
        import_masks(study, source)
    with pytest.raises(InputError, match="names no images"):
        import_masks(Study.create(tmp_path / "empty"), source)


def test_second_import_does_nothing_and_a_changed_file_is_read_again(study, source):
    _write(source / "HEK/a.tif")
    import_masks(study, source)
    assert list(import_masks(study, source).skipped) == ["HEK/a.png"]
    _write(source / "HEK/a.tif", np.zeros_like(LABELS))
    assert list(import_masks(study, source).done) == ["HEK/a.png"]
    assert _row(study, "HEK/a.png").cells == 0


def test_copies_of_imported_files_do_not_undo_corrections(study, source):
    _write(source / "mixed/m.tif")
    rows = [{"cell": 1, "cell_type": "N2a"}, {"cell": 2, "cell_type": "HEK"}]
    csv_json.write_csv(source / "mixed/m.csv", ("cell", "cell_type"), rows)
    import_masks(study, source)
    _write(
        study.cells_path(_row(study, "mixed/m.png")), (LABELS == 1).astype(np.uint16)
    )
    table = study.cells_path(_row(study, "mixed/m.png")).with_suffix(".csv")
    csv_json.write_csv(table, ("cell", "cell_type"), rows[:1])
    # A copy has another time.
    (source / "mixed").rename(source / "corrected")
    for path in (source / "corrected").iterdir():
        os.utime(path, (1, 1))
    assert list(import_masks(study, source).skipped) == ["mixed/m.png"]
    assert len(_cells(study, "mixed/m.png")) == 1
    # A corrected table is new.
    rows[0]["cell_type"] = "HEK"
    csv_json.write_csv(source / "corrected/m.csv", ("cell", "cell_type"), rows)
    failures = import_masks(study, source).failures
    assert "would change the types of 1 of the 1 cells" in failures["mixed/m.png"]


def test_a_killed_import_resumes_and_completes_the_manifest(study, source):
    untouched = study.manifest_path.read_bytes()
    for name in ("HEK/a", "N2a/b", "mixed/m"):
        _write(source / f"{name}.tif")
    import_masks(study, source)
    journal = cell_files.journal(study).path
    journal.write_bytes(journal.read_bytes()[:-40])
    study.manifest_path.write_bytes(untouched)
    outcome = import_masks(study, source)
    assert not outcome.done
    assert len(outcome.skipped) == 3
    assert sum(row.corrected for row in study.rows()) == 3


def test_import_and_annotation_may_alternate(study, source):
    _write(source / "HEK/a.tif")
    import_masks(study, source)
    annotate.annotate(study, annotator="watershed")
    assert _row(study, "HEK/a.png").annotator == "import"
    for _ in range(2):
        annotate.annotate(study, annotator="watershed", overwrite_corrected=True)
        row = _row(study, "HEK/a.png")
        assert (row.annotator, row.cells, row.corrected) == ("watershed", 0, False)
        assert read_labels(study.cells_path(row)).max() == 0
        import_masks(study, source)
        row = _row(study, "HEK/a.png")
        assert (row.annotator, row.cells, row.corrected) == ("import", 2, True)
        assert read_labels(study.cells_path(row)).max() == 2


def test_edits_of_an_imported_field_survive_the_next_import(study, source):
    _write(source / "HEK/a.tif")
    import_masks(study, source)
    row = dataclasses.replace(_row(study, "HEK/a.png"), reason="one went")
    study.update([row])
    _write(study.cells_path(row), (LABELS == 1).astype(np.uint16))
    import_masks(study, source)
    row = _row(study, "HEK/a.png")
    assert (row.reason, row.cells, row.corrected) == ("one went", 1, True)
    assert len(_cells(study, "HEK/a.png")) == 1


def test_an_import_reports_its_changes(study, source):
    _write(source / "HEK/a.tif")
    first = import_masks(study, source).done["HEK/a.png"]["changes"]
    assert first == {"added": 2, "redrawn": 0, "removed": 0, "kept": 0}
    assert _row(study, "HEK/a.png").by_hand == "cells 1-2"
    _write(source / "HEK/a.tif", (LABELS == 1).astype(np.uint16))
    second = import_masks(study, source).done["HEK/a.png"]["changes"]
    assert second == {"added": 0, "redrawn": 0, "removed": 1, "kept": 1}


def test_a_grey_image_is_not_accepted_as_label_image(study, source):
    row = ImageRow("HEK/big.png", "HEK")
    png.write_png(study.image_path(row), np.zeros((60, 60, 3), np.uint8))
    study.update([row])
    grey = np.random.default_rng(0).integers(90, 900, (60, 60)).astype(np.uint16)
    _write(source / "HEK/big.tif", grey)
    failure = import_masks(study, source).failures["HEK/big.png"]
    assert "numbers in" in failure
    assert "like a grey image" in failure
    assert not study.cells_path(row).exists()


def test_masks_with_stray_pixels_do_not_exhaust_memory(study, source):
    for cell in range(10):
        mask = np.zeros((3, 5), np.uint8)
        mask[0, 0] = mask[2, 4] = 255
        _write(source / f"a_mask_out_{cell}.png", mask)
    failure = import_masks(study, source).failures["HEK/a.png"]
    assert "together cover more than 8 fields" in failure


def _squares(values, dtype):
    """Returns squares of 20 px with these numbers, 20 px apart."""
    labels = np.zeros((20, 40 * len(values)), dtype)
    for at, value in enumerate(values):
        labels[:, 40 * at : 40 * at + 20] = value
    return labels


def _image_of(study, labels):
    row = ImageRow("HEK/wide.png", "HEK")
    png.write_png(study.image_path(row), np.zeros((*labels.shape, 3), np.uint8))
    study.update([row])
    return row.image


@pytest.mark.parametrize(
    ("value", "dtype", "reason"),
    [
        (1, np.uint8, "number 1 is in 3 pieces"),
        (255, np.uint8, "a black-and-white mask"),
        (255, np.uint16, "a black-and-white mask"),
        (65535, np.uint16, "a black-and-white mask"),
        (7, np.uint32, "number 7 is in 3 pieces"),
    ],
)
def test_black_and_white_masks_need_label_components(
    study, source, value, dtype, reason
):
    labels = _squares([value] * 3, dtype)
    image = _image_of(study, labels)
    _write(source / "HEK" / "wide.tif", labels)
    failure = import_masks(study, source).failures[image]
    assert reason in failure
    assert "--label_components" in failure
    outcome = import_masks(study, source, label_components=True)
    assert outcome.done[image]["notes"] == ["1 numbers became 3 cells"]
    np.testing.assert_array_equal(
        _cells(study, image).labels, _squares([1, 2, 3], np.int32)
    )


def test_two_distant_cells_with_one_number_are_rejected(study, source):
    labels = _squares([1, 2, 1], np.uint16)
    image = _image_of(study, labels)
    _write(source / "HEK" / "wide.tif", labels)
    assert "number 1 is in 2 pieces" in import_masks(study, source).failures[image]


def test_stray_pixels_are_removed_with_and_without_a_table(study, source):
    labels = _squares([1, 2], np.uint16)
    labels[5, 70] = 1
    for image in ("mixed/wide.png", "HEK/wide.png"):
        row = ImageRow(image, image.split("/")[0])
        png.write_png(study.image_path(row), np.zeros((*labels.shape, 3), np.uint8))
        study.update([row])
        _write(source / row.cell_type / "wide.tif", labels)
    table = "cell,cell_type\n1,N2a\n2,HEK\n"
    (source / "mixed" / "wide.csv").write_text(table)
    outcome = import_masks(study, source)
    for image in ("mixed/wide.png", "HEK/wide.png"):
        told = outcome.done[image]["notes"]
        assert told == ["1 stray px apart from their cell were removed"]
        cells = _cells(study, image)
        np.testing.assert_array_equal(cells.labels, _squares([1, 2], np.int32))
    assert _cells(study, "mixed/wide.png").cell_types == ("N2a", "HEK")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint64, np.int64])
def test_label_images_of_any_integer_type_are_read(study, source, dtype):
    large = 2**33 if np.dtype(dtype).kind in "ui" else 2**20
    image = _image_of(study, labels := _squares([3, large, 2], dtype))
    _write(source / "HEK" / "wide.tif", labels)
    assert not import_masks(study, source).failures
    np.testing.assert_array_equal(
        _cells(study, image).labels, _squares([2, 3, 1], np.int32)
    )


def test_fractions_are_rejected_as_cell_numbers(study, source):
    _write(source / "HEK" / "a.tif", LABELS.astype(np.float32) / 2)
    assert "of whole numbers" in import_masks(study, source).failures["HEK/a.png"]


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ((0, 1), "cell 2 of the label image has no line and it names cell 0"),
        ((1,), r"cell 2 of the label image has no line \(2 cells, 1 lines\)"),
        ((1, 2, 3), r"it names cell 3, which is not there"),
        ((1, 2, 2), "line 4: cell 2 already has a line"),
        ((1, 2.5), "line 3: '2.5' is not a cell number"),
    ],
)
def test_a_table_of_types_must_have_a_line_for_each_cell(
    study, source, numbers, reason
):
    _write(source / "mixed" / "m.tif")
    rows = [{"cell": number, "cell_type": "HEK"} for number in numbers]
    csv_json.write_csv(source / "mixed" / "m.csv", ("cell", "cell_type"), rows)
    failure = import_masks(study, source).failures["mixed/m.png"]
    assert re.search(reason, failure)
    assert "m.csv" in failure


def test_a_table_that_a_spreadsheet_saved_is_read(study, source):
    _write(source / "mixed" / "m.tif")
    (source / "mixed" / "m.csv").write_text("cell;cell_type\n2.0;HEK\n1.0;unknown\n")
    assert not import_masks(study, source).failures
    assert _cells(study, "mixed/m.png").cell_types == ("unknown", "HEK")


def test_invalid_masks_of_single_cells_are_rejected_or_noted(study, source):
    inverted = np.full((3, 5), 255, np.uint8)
    inverted[1, 1] = 0
    _write(source / "a_mask_out_1.png", inverted)
    failure = import_masks(study, source).failures["HEK/a.png"]
    assert "93% of the field are white" in failure
    assert "Invert it" in failure
    seen = np.zeros((3, 5, 4), np.uint8)
    seen[1, 1, 3] = 255
    Image.fromarray(seen).save(source / "a_mask_out_1.png")
    failure = import_masks(study, source).failures["HEK/a.png"]
    assert "the mask is in the alpha channel" in failure


def test_a_mask_that_is_covered_completely_is_noted(study, source):
    large, small = np.zeros((2, 3, 5), np.uint8)
    large[0, :3] = 255
    small[0, :2] = 255
    _write(source / "a_mask_out_1.png", large)
    _write(source / "a_mask_out_2.png", small)
    third = np.zeros((3, 5), np.uint8)
    third[0, 2] = 255
    _write(source / "a_mask_out_3.png", third)
    notes = import_masks(study, source).done["HEK/a.png"]["notes"]
    assert "a_mask_out_1.png: no cell, since smaller ones cover the whole mask" in notes


def test_every_file_of_the_source_is_accounted_for(study, source):
    _write(source / "HEK" / "a.tif")
    _write(source / "N2a" / "b.jpg", np.zeros((3, 5), np.uint8))
    (source / "notes.txt").write_text("mine")
    (source / "gone.png").symlink_to("nowhere")
    outcome = import_masks(study, source)
    assert list(outcome.done) == ["HEK/a.png"]
    told = " ".join(outcome.failures.values())
    assert "1 files ending in .jpg are not read (b.jpg)" in told
    assert "so there is no image of N2a" in told
    assert "found a broken link to nowhere" in told
    assert outcome.notes == (
        "read: 1 .tif",
        "left out: 1 of other kinds (notes.txt)",
    )
