"""Tests of annotate: corrections are kept, and the manifest is complete."""

import dataclasses
import pickle

import numpy as np
import pytest
import tifffile

from cellclass_tf import batch
from cellclass_tf.annotation import annotate, cell_files
from cellclass_tf.annotation.annotators.cellpose import CellposeAnnotator
from cellclass_tf.annotation.annotators.watershed import WatershedAnnotator
from cellclass_tf.annotation.review import queue
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.label_files import read_labels
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json, digests, png

IMAGES = ("HEK/a.png", "HEK/b.png", "N2a/a.png", "mixed/m.png")


def _image(nuclei=2):
    image = np.zeros((60, 120, 3), np.uint8)
    for number in range(nuclei):
        left = 10 + 50 * number
        image[18:42, left : left + 24, 1] = 100
        image[24:36, left + 6 : left + 18, 2] = 200
    return image


@pytest.fixture
def study(tmp_path):
    study = Study.create(tmp_path / "study")
    rows = [ImageRow(image, image.split("/")[0]) for image in IMAGES]
    for row in rows:
        png.write_png(study.image_path(row), _image())
    study.update(rows)
    return study


@pytest.fixture
def calls(monkeypatch):
    """Counts the images that are annotated."""
    found, original = [], WatershedAnnotator.annotate

    def counted(self, image, *diameter):
        found.append(image.shape)
        return original(self, image, *diameter)

    monkeypatch.setattr(WatershedAnnotator, "annotate", counted)
    return found


def _annotate(study, **options):
    own = {"annotator": "watershed", "diameter": 24, "change_settings": True}
    return annotate.annotate(study, **own | options)


def _row(study, image):
    return next(row for row in study.rows() if row.image == image)


def _change(study, image, **columns):
    study.update([dataclasses.replace(_row(study, image), **columns)])


def test_every_accepted_image_gets_cells_and_a_traceable_row(study):
    _change(study, "HEK/b.png", verdict="rejected", reason="blurred")
    outcome = _annotate(study.root)
    assert sorted(outcome.done) == ["HEK/a.png", "N2a/a.png", "mixed/m.png"]
    assert not outcome.failures
    row = _row(study, "HEK/a.png")
    assert (row.annotator, row.annotator_sha256) == ("watershed", "")
    assert (row.cells, row.diameter_px, row.corrected) == (2, 24.0, False)
    assert row.annotation
    assert "scikit-image" in row.annotator_settings
    assert row.cells_sha256 == digests.sha256_of_file(study.cells_path(row))
    assert study.read_cells(row).cell_types == ("HEK", "HEK")
    assert _row(study, "HEK/b.png").annotator == ""
    assert not study.cells_path(_row(study, "HEK/b.png")).exists()


def test_types_of_a_mixed_field_stay_unknown_and_an_old_table_is_removed(study):
    row = _row(study, "mixed/m.png")
    old = Cells.from_labels(np.eye(3, dtype=int), study.cell_types, ["HEK"])
    old.write(study.cells_path(row), types_csv=True)
    assert study.cells_path(row).with_suffix(".csv").exists()
    # A version without SHA-256s annotated it; otherwise the labels would count as a person's.
    _change(study, "mixed/m.png", annotator="watershed")
    _annotate(study)
    assert not study.cells_path(row).with_suffix(".csv").exists()
    assert study.read_cells(row).cell_types == ("unknown", "unknown")


def test_second_run_does_nothing_and_keeps_the_manifest(study, calls):
    _annotate(study)
    manifest = study.manifest_path.read_bytes()
    outcome = _annotate(study)
    assert len(calls) == 4
    assert len(outcome.skipped) == 4
    assert study.manifest_path.read_bytes() == manifest


def test_other_settings_and_changed_images_are_annotated_again(study, calls):
    _annotate(study)
    with pytest.raises(InputError, match=r"4 images .* diameter from 24.0 to 25"):
        annotate.annotate(study, diameter=25)
    # Settings that are not given are as before, so that nothing is left to do.
    assert len(annotate.annotate(study).skipped) == 4
    assert len(calls) == 4
    _annotate(study, diameter=25)
    assert len(calls) == 8
    png.write_png(study.image_path(_row(study, "N2a/a.png")), _image(1))
    assert list(_annotate(study, diameter=25).done) == ["N2a/a.png"]
    assert _row(study, "N2a/a.png").cells == 1


def _kill_before(monkeypatch, name):
    """Kills the next call of a function of `cell_files` before it begins."""
    original = getattr(cell_files, name)

    def killed(*args):
        monkeypatch.setattr(cell_files, name, original)
        raise KeyboardInterrupt

    monkeypatch.setattr(cell_files, name, killed)


def test_killed_run_continues_and_completes_the_manifest(study, calls, monkeypatch):
    _kill_before(monkeypatch, "record")
    with pytest.raises(KeyboardInterrupt):
        _annotate(study)
    # It was killed while it wrote the third line of its journal, after the label image.
    journal = study.journal("annotate")
    journal.write_bytes(journal.read_bytes()[: -len(journal.read_bytes()) // 3])
    outcome = _annotate(study)
    assert len(outcome.skipped) == 4
    assert len(calls) == 4
    assert [row.cells for row in study.rows()] == [2, 2, 2, 2]
    assert {row.annotator for row in study.rows()} == {"watershed"}
    assert not any(row.corrected for row in study.rows())


def test_run_killed_between_labels_and_journal_leaves_no_correction(
    study, calls, monkeypatch
):
    _annotate(study)

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(batch.Journal, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        _annotate(study, diameter=40)
    monkeypatch.undo()
    outcome = _annotate(study, diameter=40)
    assert list(outcome.skipped) == ["HEK/a.png"]
    assert {row.diameter_px for row in study.rows()} == {40}
    assert not any(row.corrected for row in study.rows())


def test_failure_while_the_picture_is_drawn_leaves_the_old_labels(study, monkeypatch):
    _annotate(study)
    before = study.cells_path(_row(study, "HEK/a.png")).read_bytes()

    def full(*args):
        raise OSError("disk full")

    monkeypatch.setattr(queue, "write_field", full)
    outcome = _annotate(study, diameter=40)
    assert len(outcome.failures) == 4
    assert study.cells_path(_row(study, "HEK/a.png")).read_bytes() == before
    monkeypatch.undo()
    assert len(_annotate(study, diameter=40).done) == 4


def test_added_label_images_count_as_corrections(study, calls):
    row = _row(study, "HEK/a.png")
    mine = np.zeros((60, 120), np.uint16)
    mine[:9, :9] = 1
    study.cells_path(row).parent.mkdir(parents=True)
    tifffile.imwrite(study.cells_path(row), mine)
    _annotate(study)
    assert len(calls) == 3
    row = _row(study, "HEK/a.png")
    assert (row.corrected, row.cells) == (True, 1)


def test_field_changed_by_a_person_during_the_run_is_not_overwritten(
    study, monkeypatch
):
    path = study.cells_path(_row(study, "N2a/a.png"))
    original = WatershedAnnotator.annotate

    def painted_meanwhile(self, image, *diameter):
        if not path.exists():
            path.parent.mkdir(parents=True)
            tifffile.imwrite(path, np.eye(60, 120, dtype=np.uint16))
        return original(self, image, *diameter)

    monkeypatch.setattr(WatershedAnnotator, "annotate", painted_meanwhile)
    outcome = _annotate(study)
    assert "was changed while the run was under way" in outcome.failures["N2a/a.png"]
    assert read_labels(path).sum() == 60
    _annotate(study)
    assert _row(study, "N2a/a.png").corrected


def test_deleted_labels_are_annotated_again_even_of_a_corrected_field(study, calls):
    _annotate(study)
    path = study.cells_path(_row(study, "HEK/a.png"))
    tifffile.imwrite(path, np.eye(60, 120, dtype=np.uint16))
    _annotate(study)
    path.unlink()
    assert list(_annotate(study).done) == ["HEK/a.png"]
    assert not _row(study, "HEK/a.png").corrected


def test_added_table_of_types_counts_as_a_correction(study, calls):
    _annotate(study)
    table = study.cells_path(_row(study, "mixed/m.png")).with_suffix(".csv")
    lines = [{"cell": 1, "cell_type": "HEK"}, {"cell": 2, "cell_type": "unknown"}]
    csv_json.write_csv(table, ("cell", "cell_type"), lines)
    _annotate(study, diameter=40)
    assert table.exists()
    row = _row(study, "mixed/m.png")
    assert row.corrected
    assert study.read_cells(row).cell_types == ("HEK", "unknown")


def test_edits_of_the_manifest_survive_the_next_run(study):
    _annotate(study)
    _change(study, "HEK/a.png", cells=7, reason="counted by hand", group="dish 3")
    _annotate(study)
    row = _row(study, "HEK/a.png")
    assert (row.cells, row.reason, row.group) == (7, "counted by hand", "dish 3")


def test_corrected_field_is_not_overwritten(study, calls):
    _annotate(study)
    row = _row(study, "HEK/a.png")
    by_hand = np.ones((60, 120), np.int32)
    Cells.from_labels(by_hand, study.cell_types, "HEK").write(study.cells_path(row))
    _change(study, "HEK/a.png", corrected=True, cells=1)
    _annotate(study, diameter=25)
    assert len(calls) == 4 + 3
    assert _row(study, "HEK/a.png").cells == 1
    np.testing.assert_array_equal(read_labels(study.cells_path(row)), by_hand)


@pytest.mark.parametrize("killed", [False, True])
def test_corrected_field_is_overwritten_once_with_overwrite_corrected(
    study, calls, killed
):
    _annotate(study)
    _change(study, "HEK/a.png", corrected=True, cells=1)
    manifest = study.manifest_path.read_bytes()
    _annotate(study, overwrite_corrected=True)
    assert len(calls) == 5
    if killed:
        study.manifest_path.write_bytes(manifest)
        _annotate(study, overwrite_corrected=True)
    row = _row(study, "HEK/a.png")
    assert (row.corrected, row.cells) == (False, 2)
    _annotate(study)
    assert len(calls) == 5 + killed


def test_the_network_is_not_pickled_for_worker_processes():
    annotator = object.__new__(CellposeAnnotator)
    # A lambda cannot be pickled.
    annotator.__dict__ = {"name": "cellpose:mine", "network": lambda image: image}
    assert pickle.loads(pickle.dumps(annotator)).__dict__ == {"name": "cellpose:mine"}


def test_all_corrected_needs_no_annotator(study):
    study.update([dataclasses.replace(row, corrected=True) for row in study.rows()])
    outcome = annotate.annotate(study, model="no-such-model")
    assert not outcome.results
    assert not outcome.failures


def test_field_without_cells_is_no_failure(study, monkeypatch):
    warnings = []
    monkeypatch.setattr(
        annotate.logger, "warning", lambda text, *args: warnings.append(text % args)
    )
    row = _row(study, "HEK/b.png")
    png.write_png(study.image_path(row), _image(0))
    outcome = _annotate(study)
    assert not outcome.failures
    assert _row(study, "HEK/b.png").cells == 0
    assert read_labels(study.cells_path(row)).shape == (60, 120)
    assert warnings == ["HEK/b.png: no cell was found."]


def test_missing_and_broken_images_do_not_stop_the_others(study):
    study.image_path(_row(study, "HEK/a.png")).unlink()
    study.image_path(_row(study, "HEK/b.png")).write_bytes(b"no PNG")
    outcome = _annotate(study)
    assert sorted(outcome.done) == ["N2a/a.png", "mixed/m.png"]
    assert "does not exist" in outcome.failures["HEK/a.png"]
    assert "expected a PNG" in outcome.failures["HEK/b.png"]
    assert _row(study, "HEK/a.png").cells is None


def test_unknown_annotator_lists_the_known(study):
    with pytest.raises(InputError, match="'stardist'; known are cellpose, watershed"):
        _annotate(study, annotator="stardist")


def test_study_without_accepted_images_is_refused(study, tmp_path):
    with pytest.raises(InputError, match="lists 0, none of them accepted"):
        _annotate(Study.create(tmp_path / "empty"))
    study.update([dataclasses.replace(r, verdict="rejected") for r in study.rows()])
    with pytest.raises(InputError, match="lists 4, none of them accepted"):
        _annotate(study)


def test_invalid_weights_stop_the_run_before_the_first_field(study):
    with pytest.raises(InputError, match="neither a file"):
        annotate.annotate(study, model="no-such-model")
    assert not study.journal("annotate").exists()


def test_label_image_changed_in_place_counts_as_a_correction(study, calls):
    _annotate(study)
    row = _row(study, "HEK/a.png")
    by_hand = np.zeros((60, 120), np.uint16)
    by_hand[:9, :9] = 4
    tifffile.imwrite(study.cells_path(row), by_hand)
    outcome = _annotate(study, diameter=25)
    assert "HEK/a.png" not in outcome.results
    assert len(calls) == 4 + 3
    row = _row(study, "HEK/a.png")
    assert (row.corrected, row.cells, row.doubts) == (True, 1, "")
    assert row.cells_sha256 == digests.sha256_of_file(study.cells_path(row))
    np.testing.assert_array_equal(read_labels(study.cells_path(row)), by_hand)


def test_label_image_broken_in_place_fails_alone_and_is_not_overwritten(study):
    _annotate(study)
    path = study.cells_path(_row(study, "HEK/a.png"))
    path.write_bytes(b"no TIFF")
    outcome = _annotate(study, diameter=25)
    assert list(outcome.failures) == ["HEK/a.png"]
    failure = outcome.failures["HEK/a.png"]
    assert "a.tif was changed since it was annotated, and cannot be used" in failure
    assert len(outcome.done) == 3
    assert path.read_bytes() == b"no TIFF"


@pytest.fixture
def sizes(monkeypatch):
    """Replaces the estimate: 20 px for HEK/a, and 26 px for any other image."""
    asked = []

    def estimate(self, image):
        asked.append(int(image[0, 0, 0]))
        return 20.0 if image[0, 0, 0] == 1 else 26.0

    monkeypatch.setattr(WatershedAnnotator, "estimate_diameter_px", estimate)
    return asked


def _into_one_group(study):
    for image in IMAGES[:3]:
        _change(study, image, group="dish1")
    _change(study, IMAGES[3], group="dish2")
    marked = _image()
    marked[0, 0, 0] = 1
    png.write_png(study.image_path(_row(study, "HEK/a.png")), marked)


def test_cells_of_a_group_have_one_diameter_estimated_once(study, sizes):
    _into_one_group(study)
    _annotate(study, diameter=0)
    # The median of 20, 26 and 26.
    assert [row.diameter_px for row in study.rows()] == [26, 26, 26, 26]
    assert len(sizes) == 4
    new = ImageRow("HEK/new.png", "HEK", group="dish1")
    png.write_png(study.image_path(new), _image())
    study.update([new])
    assert list(_annotate(study, diameter=0).done) == ["HEK/new.png"]
    assert len(sizes) == 4


def test_each_field_has_its_own_diameter_with_diameter_by_field(study, sizes):
    _into_one_group(study)
    _annotate(study, diameter=0, diameter_by="field")
    assert [row.diameter_px for row in study.rows()] == [20, 26, 26, 26]
    with pytest.raises(InputError, match="'dish'; known are group, field"):
        _annotate(study, diameter_by="dish")


def test_diameter_of_a_group_is_estimated_without_its_broken_field(study, sizes):
    _into_one_group(study)
    study.image_path(_row(study, "HEK/a.png")).write_bytes(b"no PNG")
    outcome = _annotate(study, diameter=0)
    assert list(outcome.failures) == ["HEK/a.png"]
    assert _row(study, "HEK/b.png").diameter_px == 26
