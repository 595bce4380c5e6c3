"""Tests of cellclass_tf.annotation.cell_files."""

import contextlib
import dataclasses
import pathlib
import shutil

import numpy as np
import pytest

from cellclass_tf import batch
from cellclass_tf.annotation import cell_files
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.label_files import read_labels
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic, csv_json, digests, png
from tests import by_hand

TYPES = ("HEK", "N2a")
MADE_BY = {"annotator": "watershed", "annotation": "f00d", "diameter_px": 24.0}


def cells_of(count):
    """Returns `count` cells of one pixel each, whose types alternate."""
    labels = np.zeros((4, 5), np.int32)
    labels[0, :count] = np.arange(1, count + 1)
    return Cells.from_labels(labels, TYPES, [TYPES[i % 2] for i in range(count)])


@pytest.fixture
def study(tmp_path):
    study = Study.create(tmp_path / "study", TYPES)
    rows = [ImageRow("HEK/a.png", "HEK"), ImageRow("mixed/m.png", "mixed")]
    for row in rows:
        png.write_png(study.image_path(row), np.zeros((4, 5, 3), np.uint8))
    study.update(rows)
    return study


def row_of(study, image="mixed/m.png"):
    return next(row for row in study.rows() if row.image == image)


def annotated(study, count=2, image="mixed/m.png"):
    """Writes and records `count` cells with their types; returns the row."""
    row = row_of(study, image)
    result = cell_files.write_cells(
        study, row, cells_of(count), MADE_BY, types_csv=True
    )
    cell_files.record(study, batch.Outcome(done={image: result}))
    return row_of(study, image)


def test_written_cells_are_recorded_with_hashes_and_read_back(study):
    row = row_of(study)
    result = cell_files.write_cells(study, row, cells_of(3), MADE_BY, types_csv=True)
    assert [result["cells_sha256"], result["types_sha256"]] == cell_files.state_of(
        study, row
    )
    assert (result["cells"], result["annotator"]) == (3, "watershed")
    assert study.read_cells(row).cell_types == ("HEK", "N2a", "HEK")
    # Cells without types of their own remove the old table of types.
    result = cell_files.write_cells(study, row, cells_of(1), MADE_BY)
    assert cell_files.state_of(study, row) == [result["cells_sha256"], ""]
    assert study.read_cells(row).cell_types == ("unknown",)


def test_labels_that_changed_meanwhile_are_failures_and_not_recorded(study):
    row, other = row_of(study), row_of(study, "HEK/a.png")
    done = {
        r.image: cell_files.write_cells(study, r, cells_of(2), MADE_BY)
        for r in (row, other)
    }
    cells_of(3).write(study.cells_path(row))
    # Nothing is recorded for an image without a row.
    outcome = batch.Outcome(done=done | {"HEK/gone.png": {}})
    cell_files.record(study, outcome)
    assert row_of(study) == row
    # The changed image is reported as a failure.
    assert list(outcome.failures) == ["mixed/m.png"]
    assert "changed while the run was under way" in outcome.failures["mixed/m.png"]
    assert list(outcome.done) == ["HEK/a.png", "HEK/gone.png"]
    assert row_of(study, "HEK/a.png").cells == 2
    settled = next(r for r in cell_files.settle(study).rows if r.image == row.image)
    assert (settled.corrected, settled.cells) == (True, 3)


@pytest.mark.parametrize("types_csv", [True, False])
def test_labels_of_a_killed_run_are_not_taken_for_a_persons(study, types_csv):
    row = annotated(study, 1)
    told = MADE_BY | {"annotation": "beef"}
    result = cell_files.write_cells(study, row, cells_of(2), told, types_csv=types_csv)
    # The run was killed before it wrote the manifest.
    settled = cell_files.settle(study)
    assert not settled.failures
    row = row_of(study)
    assert settled.rows[1] == row
    assert (row.annotation, row.cells, row.corrected) == ("beef", 2, False)
    assert row.types_sha256 == result["types_sha256"]
    assert cell_files.state_of(study, row) == [row.cells_sha256, row.types_sha256]
    types = TYPES if types_csv else ("unknown", "unknown")
    assert study.read_cells(row).cell_types == types


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("types_csv", [True, False])
def test_a_run_killed_at_any_write_loses_no_types_and_makes_no_correction(
    study, monkeypatch, number, after, types_csv
):
    old = annotated(study, 3)
    calls = []

    def killing(function):
        def call(*args, **options):
            calls.append(function)
            is_last = len(calls) == number + 1
            if is_last and not after:
                raise KeyboardInterrupt
            function(*args, **options)
            if is_last:
                raise KeyboardInterrupt

        return call

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "unlink", killing(pathlib.Path.unlink))
        patch.setattr(atomic, "write_bytes", killing(atomic.write_bytes))
        patch.setattr(atomic, "write_text", killing(atomic.write_text))
        with contextlib.suppress(KeyboardInterrupt):
            told = MADE_BY | {"annotation": "beef"}
            cell_files.write_cells(study, old, cells_of(2), told, types_csv=types_csv)
    assert not cell_files.settle(study).failures
    row = row_of(study)
    assert not row.corrected
    assert row.annotation in ("f00d", "beef")
    assert cell_files.state_of(study, row) == [row.cells_sha256, row.types_sha256]
    if row.annotation == "f00d":
        assert row == old
        assert study.read_cells(row).cell_types == ("HEK", "N2a", "HEK")
    else:
        types = TYPES if types_csv else ("unknown", "unknown")
        assert study.read_cells(row).cell_types == types


def test_labels_changed_in_place_are_a_correction_once(study):
    study.update([dataclasses.replace(annotated(study), by_hand="1", doubts="cut 1")])
    before = row_of(study)
    # The types are changed first, and then the labels.
    table = study.cells_path(before).with_suffix(".csv")
    lines = [{"cell": cell, "cell_type": "N2a"} for cell in (1, 2)]
    csv_json.write_csv(table, ("cell", "cell_type"), lines)
    for count, drawn in ((2, "1"), (3, "")):
        if count != 2:
            cells_of(count).write(study.cells_path(before), types_csv=True)
        for _ in range(2):
            assert not cell_files.settle(study).failures
            row = row_of(study)
            assert (row.annotator, row.annotation) == ("watershed", "f00d*")
            assert (row.corrected, row.cells, row.by_hand) == (True, count, drawn)
            assert row.annotator_settings == "watershed, then changed in place"
            hashes = [row.cells_sha256, row.types_sha256]
            assert row.doubts == ""
            assert hashes == cell_files.state_of(study, row)


@pytest.mark.parametrize("with_types", [False, True])
def test_new_labels_beside_old_types_are_reported(study, caplog, with_types):
    row = annotated(study)
    labels = np.zeros((4, 5), np.int32)
    labels[2, :2] = (2, 1)
    other = Cells.from_labels(labels, TYPES, TYPES)
    if with_types:
        table = study.cells_path(row).with_suffix(".csv")
        table.write_text("cell,cell_type\n1,N2a\n2,HEK\n")
    study.cells_path(row).write_bytes(other.encode())
    cell_files.settle(study)
    assert row_of(study).corrected
    is_told = "m.csv gives types to cells by their numbers" in caplog.text
    assert is_told == (not with_types)


def test_cells_of_another_raw_file_do_not_return_with_a_new_row(study, caplog):
    row = dataclasses.replace(row_of(study), raw_sha256="1" * 64)
    study.update([row])
    annotated(study)
    # A person deletes the row, and another field gets the name of the image.
    lines = study.manifest_path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if "mixed/m.png" not in line]
    study.manifest_path.write_text("".join(kept), encoding="utf-8")
    study.update([ImageRow("mixed/m.png", "mixed", raw_sha256="2" * 64)])
    settled = cell_files.settle(study)
    row = row_of(study)
    assert row.cells is None
    assert not study.has_cells(row)
    assert settled.states["mixed/m.png"] == ["", ""]
    assert "another raw file" in caplog.text
    assert len(list(study.trash_path.rglob("m.tif"))) == 1


def test_a_field_with_deleted_labels_counts_as_not_annotated(study):
    row = annotated(study)
    assert row.annotator == "watershed"
    study.update([dataclasses.replace(row, corrected=True, by_hand="1", reason="mine")])
    study.cells_path(row_of(study)).unlink()
    cell_files.settle(study)
    assert row_of(study) == ImageRow("mixed/m.png", "mixed", reason="mine")


def test_invalid_labels_are_failures_and_keep_their_row(study):
    before, _ = annotated(study), annotated(study, 1, "HEK/a.png")
    path = study.cells_path(before)
    path.write_bytes(b"no TIFF")
    path_of_hek = study.cells_path(row_of(study, "HEK/a.png"))
    cells_of(4).write(path_of_hek, types_csv=True)
    rows, failures, _ = cell_files.settle(study)
    assert list(failures) == ["mixed/m.png"]
    assert f"{path} was changed since it was annotated" in failures["mixed/m.png"]
    assert [(row.image, row.cells) for row in rows] == [("HEK/a.png", 4)]
    assert row_of(study) == before


def test_a_field_that_changed_since_planning_is_not_overwritten(study):
    row = annotated(study)
    planned = cell_files.state_of(study, row)
    assert planned[0] == digests.sha256_of_file(study.cells_path(row))
    cell_files.check_unchanged(study, row, tuple(planned))
    study.cells_path(row).with_suffix(".csv").unlink()
    with pytest.raises(InputError, match=r"m.tif was changed while the run was under"):
        cell_files.check_unchanged(study, row, planned)
    assert read_labels(study.cells_path(row)).max() == 2


@pytest.mark.parametrize("made_by", ["import", "in place", "without a ledger"])
def test_cells_of_a_person_are_kept_whatever_the_column_corrected_says(study, made_by):
    row = annotated(study)
    if made_by == "import":
        told = MADE_BY | {"annotator": "import", "corrected": True}
        result = cell_files.write_cells(study, row, cells_of(3), told)
        cell_files.record(study, batch.Outcome(done={row.image: result}))
    elif made_by == "in place":
        cells_of(3).write(study.cells_path(row), types_csv=True)
        cell_files.settle(study)
        assert row_of(study).corrected
    else:
        shutil.rmtree(study.root / ".journal")
    content = study.cells_path(row).read_bytes()
    by_hand.edit(study, row.image, corrected="")
    for count in (4, 5):
        # Only the cells of the person are copied, and not those of the program.
        cell_files.settle(study)
        row = row_of(study)
        assert not row.corrected
        result = cell_files.write_cells(study, row, cells_of(count), MADE_BY)
        cell_files.record(study, batch.Outcome(done={row.image: result}))
        (kept,) = study.trash_path.rglob("*.tif")
        assert kept.read_bytes() == content


def test_a_kill_does_not_make_cells_of_a_person_the_programs(study, monkeypatch):
    told = MADE_BY | {"corrected": True}
    row = row_of(study)
    result = cell_files.write_cells(study, row, cells_of(3), told)
    cell_files.record(study, batch.Outcome(done={row.image: result}))
    by_hand.edit(study, row.image, corrected="")
    content = study.cells_path(row).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "unlink", _killed)
        with pytest.raises(KeyboardInterrupt):
            cell_files.write_cells(study, row_of(study), cells_of(4), MADE_BY)
    shutil.rmtree(study.trash_path)
    cell_files.settle(study)
    cell_files.write_cells(study, row_of(study), cells_of(4), MADE_BY)
    (kept,) = study.trash_path.rglob("*.tif")
    assert kept.read_bytes() == content


def _killed(*_, **__):
    raise KeyboardInterrupt


def test_a_list_of_drawn_cells_that_became_a_date_is_restored(study, caplog):
    told = MADE_BY | {"corrected": True, "by_hand": "cells 1-2"}
    row = row_of(study)
    result = cell_files.write_cells(study, row, cells_of(3), told)
    cell_files.record(study, batch.Outcome(done={row.image: result}))
    before = row_of(study)
    by_hand.edit(study, row.image, by_hand="02. Jan")
    assert not cell_files.settle(study).failures
    assert row_of(study) == before
    assert "'02. Jan', and is 'cells 1-2' again" in caplog.text
    # Without a record, this field fails, and no other.
    shutil.rmtree(study.root / ".journal")
    by_hand.edit(study, row.image, by_hand="02. Jan")
    settled = cell_files.settle(study)
    assert [row.image for row in settled.rows] == ["HEK/a.png"]
    assert "column by_hand: expected numbers" in settled.failures[row.image]
    assert row_of(study).corrected
