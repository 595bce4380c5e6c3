"""Tests that no work of a person is lost, with whole stages in the order of real use."""

import dataclasses
import shutil
import subprocess
import sys

import pytest

import cellclass_tf as cc
from cellclass_tf.core.cells import Cells
from cellclass_tf.datasets import examples, simulation
from cellclass_tf.storage import lock
from tests import by_hand


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes a converted and annotated study of one field per type, and a mixed one."""
    root = tmp_path_factory.mktemp("made") / "study"
    cc.simulate(root, images_per_type=1, mixed=1, size=160, dishes=1)
    cc.convert(root / "raw", root, group=simulation.GROUP_PATTERN)
    cc.annotate(root, annotator="watershed")
    return root


@pytest.fixture
def root(made, tmp_path):
    """Returns a copy that a test may change."""
    return shutil.copytree(made, tmp_path / "study")


def row_of(root, cell_type):
    return next(r for r in cc.Study.open(root).rows() if r.cell_type == cell_type)


def paint(root, cell_type):
    """Adds a cell to a field by hand, and returns the label image's bytes."""
    study, row = cc.Study.open(root), row_of(root, cell_type)
    cells = study.read_cells(row)
    labels = cells.labels.copy()
    labels[:6, :6] = labels.max() + 1
    path = study.cells_path(row)
    Cells.from_labels(labels, study.cell_types).write(path)
    return path.read_bytes()


def cells_of(root, cell_type):
    return cc.Study.open(root).cells_path(row_of(root, cell_type)).read_bytes()


def test_a_conversion_in_between_does_not_hide_an_edit(root):
    cc.convert(
        root / "raw",
        root,
        group=simulation.GROUP_PATTERN,
        contrast="field",
        change_settings=True,
    )
    painted = paint(root, "HEK")
    cc.annotate(root, annotator="watershed")
    assert cells_of(root, "HEK") == painted
    row = row_of(root, "HEK")
    assert row.corrected
    assert row.annotator == "watershed"


@pytest.mark.parametrize("word", ["WAHR", "VRAI", "ja", "1.0", "x"])
def test_corrections_survive_a_spreadsheet_of_another_language(root, word):
    painted = paint(root, "HEK")
    cc.annotate(root, annotator="watershed")
    manifest = cc.Study.open(root).manifest_path
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("True", word).replace("False", ""))
    cc.annotate(root, annotator="watershed", diameter=40, change_settings=True)
    assert cells_of(root, "HEK") == painted
    assert row_of(root, "HEK").corrected
    assert not row_of(root, "N2a").corrected


def test_a_rejection_in_capitals_is_recognized(root):
    study = cc.Study.open(root)
    text = study.manifest_path.read_text(encoding="utf-8")
    study.manifest_path.write_text(text.replace(",accepted,", ",Rejected,"))
    assert study.accepted_rows() == []
    study.manifest_path.write_text(text.replace(",accepted,", ",bad,"))
    with pytest.raises(cc.InputError, match=r"images.csv, line 2: column verdict: exp"):
        cc.annotate(root, annotator="watershed")


def test_a_verdict_that_is_written_during_a_run_is_kept(root):
    study = cc.Study.open(root)
    planned = study.rows()
    text = study.manifest_path.read_text(encoding="utf-8")
    study.manifest_path.write_text(text.replace(",accepted,", ",rejected,"))
    # A stage read the manifest minutes ago and now writes its part.
    study.update(planned, "split", "likeness")
    assert study.accepted_rows() == []


def test_an_edit_that_is_saved_while_diameters_are_estimated_is_kept(root, monkeypatch):
    painted = []
    estimate = cc.WatershedAnnotator.estimate_diameter_px

    def slow(self, image):
        if not painted:
            painted.append(paint(root, "HEK"))
        return estimate(self, image)

    monkeypatch.setattr(cc.WatershedAnnotator, "estimate_diameter_px", slow)
    (root / ".journal" / "diameters.jsonl").unlink()
    # As if another version had annotated all of them.
    study = cc.Study.open(root)
    rows = [dataclasses.replace(row, annotation="old") for row in study.rows()]
    study.update(rows, "annotation")
    outcome = cc.annotate(root, annotator="watershed")
    assert "changed while" in outcome.failures[row_of(root, "HEK").image]
    assert cells_of(root, "HEK") == painted[0]
    cc.annotate(root, annotator="watershed")
    assert cells_of(root, "HEK") == painted[0]
    assert row_of(root, "HEK").corrected


def test_a_script_that_runs_twice_does_not_undo_corrections(root):
    def script():
        cc.import_masks(root, root / "truth")
        return cc.import_masks(root, root / "corrected")

    study, row = cc.Study.open(root), row_of(root, "HEK")
    cells = Cells.read(root / "truth" / f"{row.stem}.tif", study.cell_types)
    labels = cells.labels.copy()
    labels[:6, :6] = labels.max() + 1
    corrected = root / "corrected" / f"{row.stem}.tif"
    Cells.from_labels(labels, study.cell_types).write(corrected)
    assert list(script().done) == [row.image]
    first = cells_of(root, "HEK")
    assert not script().done
    assert cells_of(root, "HEK") == first
    # It is imported again on request, or if the cells are gone.
    assert cc.import_masks(root, root / "truth", overwrite_corrected=True).done
    assert cells_of(root, "HEK") != first
    study.cells_path(row).unlink()
    assert list(cc.import_masks(root, root / "corrected").done) == [row.image]
    assert cells_of(root, "HEK") == first


def test_cells_are_set_aside_if_their_raw_file_was_replaced(root, tmp_path):
    paint(root, "HEK")
    cc.annotate(root, annotator="watershed")
    row, study = row_of(root, "HEK"), cc.Study.open(root)
    painted = cells_of(root, "HEK")
    # A change of contrast does not affect the cells.
    options = {"group": simulation.GROUP_PATTERN}
    cc.convert(root / "raw", root, contrast="field", change_settings=True, **options)
    cc.annotate(root, annotator="watershed")
    assert cells_of(root, "HEK") == painted
    assert row_of(root, "HEK").corrected
    # Another raw file under the same name.
    cc.simulate(tmp_path / "other", images_per_type=1, mixed=0, size=160, seed=9)
    (raw,) = (root / "raw" / "HEK").iterdir()
    (other,) = (tmp_path / "other" / "raw" / "HEK").iterdir()
    raw.write_bytes(other.read_bytes())
    cc.convert(root / "raw", root, **options)
    failures = examples.check_study(study).outcome.failures
    assert "another raw file than the image shows now" in failures[row.image]
    cc.annotate(root, annotator="watershed")
    (kept,) = (root / ".trash").rglob("*.tif")
    assert kept.read_bytes() == painted
    assert kept.relative_to(root).parts[2:] == ("cells", "HEK", f"{row.name}.tif")
    now = row_of(root, "HEK")
    assert (now.corrected, now.annotator) == (False, "watershed")
    assert study.read_cells(now).labels.shape == study.read_image(now).shape[:2]


HOLD = """
import pathlib, sys, time
from cellclass_tf.storage import lock
with lock.one_writer(pathlib.Path(sys.argv[1]), "annotate"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_command_writes_to_a_study_at_a_time_and_all_may_read(
    root, tmp_path, monkeypatch
):
    monkeypatch.setattr(lock, "_GRACE_S", 0.1)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, root], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    before = cc.Study.open(root).manifest_path.read_bytes()
    try:
        for write in (
            lambda: cc.convert(root / "raw", root, group=simulation.GROUP_PATTERN),
            lambda: cc.annotate(
                root, annotator="watershed", diameter=40, change_settings=True
            ),
            lambda: cc.import_masks(root, root / "truth"),
            lambda: cc.export_coco(root, tmp_path / "coco"),
        ):
            with pytest.raises(cc.InputError, match=r"by `annotate` \(process \d+ on"):
                write()
        assert cc.Study.open(root).manifest_path.read_bytes() == before
        assert cc.trace(root / "images" / row_of(root, "HEK").image).passed
        assert cc.export_cells(root, tmp_path / "rois", format="imagej").done
    finally:
        process.kill()
        process.wait()
    # A killed process holds no lock.
    assert cc.import_masks(root, root / "truth").done


def test_one_command_writes_to_a_folder_of_results_at_a_time(
    root, tmp_path, monkeypatch
):
    monkeypatch.setattr(lock, "_GRACE_S", 0.1)
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, out], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    try:
        for write in (
            lambda: cc.export_coco(root, out),
            lambda: cc.export_cellpose(root, out),
            lambda: cc.export_cells(root, out, format="imagej"),
            lambda: cc.compare(root, root, out),
        ):
            with pytest.raises(cc.InputError, match="out is being written to by"):
                write()
        assert [path.name for path in out.iterdir()] == [".journal"]
    finally:
        process.kill()
        process.wait()


def files_of(root):
    """Returns the bytes of the images, and the manifest."""
    paths = [*(root / "images").rglob("*.png"), root / "images.csv"]
    return {path.relative_to(root): path.read_bytes() for path in paths}


def test_a_study_keeps_its_settings_unless_a_flag_changes_them(root):
    cc.convert(root / "raw", root)
    before = files_of(root)
    assert row_of(root, "HEK").group == "HEK_dish1"
    cc.convert(root / "raw", root)
    assert files_of(root) == before
    with pytest.raises(cc.InputError, match="contrast from group to field"):
        cc.convert(root / "raw", root, contrast="field")
    assert files_of(root) == before
    cc.convert(root / "raw", root, contrast="field", change_settings=True)
    other = files_of(root)
    assert other != before
    cc.convert(root / "raw" / "HEK", root, cell_type="HEK")
    assert files_of(root) == other
    cc.convert(root / "raw", root, contrast="group", change_settings=True)
    assert row_of(root, "HEK").group == "HEK_dish1"
    cc.convert(root / "raw", root, group="", change_settings=True)
    assert row_of(root, "HEK").group == "HEK/HEK_dish1_0001"


def test_an_earlier_versions_study_keeps_its_groups(root):
    cc.convert(root / "raw", root)
    before = files_of(root)
    (root / ".journal" / "conversions.json").unlink()
    cc.convert(root / "raw", root)
    assert files_of(root) == before


def test_groups_and_pixel_sizes_that_a_person_wrote_are_kept(root):
    image = row_of(root, "HEK").image
    by_hand.edit(root, image, group="monday", pixel_size_um="0,5", note="mine")
    for contrast in ("field", "group"):
        options = {"group": simulation.GROUP_PATTERN, "contrast": contrast}
        cc.convert(root / "raw", root, change_settings=True, **options)
        row = row_of(root, "HEK")
        assert (row.group, row.pixel_size_um) == ("monday", 0.5)
        assert row.contrast_group == "monday"
        assert row.contrast == contrast
    assert "note" in (root / "images.csv").read_text().splitlines()[0]


def test_without_its_records_the_program_replaces_no_entry_of_a_person(root):
    image = row_of(root, "HEK").image
    values = {"group": "monday", "cell_type": "N2a", "pixel_size_um": "0.5"}
    by_hand.edit(root, image, **values, verdict="rejected", reason="ask Bo")
    before = cc.Study.open(root).rows()
    shutil.rmtree(root / ".journal")
    for _ in range(2):
        cc.convert(root / "raw", root, group=simulation.GROUP_PATTERN)
        row = next(row for row in cc.Study.open(root).rows() if row.image == image)
        assert (row.group, row.cell_type, row.pixel_size_um) == ("monday", "N2a", 0.5)
        assert (row.verdict, row.reason) == ("rejected", "ask Bo")
    # Other fields have the contrast that they had.
    after = cc.Study.open(root).rows()
    limits = [
        [(row.image, row.contrast_group, row.nuclei_limits) for row in rows]
        for rows in (before, after)
    ]
    limits = [[entry for entry in of if entry[0] != image] for of in limits]
    assert limits[0] == limits[1]


def test_a_field_that_is_marked_as_corrected_during_a_run_keeps_its_cells(
    root, monkeypatch
):
    before, images = cells_of(root, "HEK"), []
    annotate = cc.WatershedAnnotator.annotate

    def slow(self, image, diameter=None):
        if not images:
            images.append(row_of(root, "HEK").image)
            by_hand.edit(root, images[0], corrected="WAHR")
        return annotate(self, image, diameter)

    monkeypatch.setattr(cc.WatershedAnnotator, "annotate", slow)
    outcome = cc.annotate(
        root, annotator="watershed", diameter=90, change_settings=True
    )
    assert "was marked as corrected while" in outcome.failures[images[0]]
    assert cells_of(root, "HEK") == before
    assert row_of(root, "HEK").corrected
    assert row_of(root, "N2a").cells is not None
    assert len(outcome.done) == 2


def test_corrected_cells_are_kept_when_a_flag_overwrites_them(root):
    painted = paint(root, "HEK")
    cc.annotate(root, annotator="watershed")
    cc.annotate(root, annotator="watershed", overwrite_corrected=True)
    assert cells_of(root, "HEK") != painted
    assert not row_of(root, "HEK").corrected
    (kept,) = cc.restore(root)
    assert kept.endswith(f"cells/{row_of(root, 'HEK').stem}.tif")
    cc.restore(root, kept)
    assert cells_of(root, "HEK") == painted
    cc.annotate(root, annotator="watershed")
    assert cells_of(root, "HEK") == painted
    assert row_of(root, "HEK").corrected


def test_an_import_that_lacks_corrected_cells_fails_for_that_field(root):
    painted = paint(root, "HEK")
    outcome = cc.import_masks(root, root / "truth")
    image = row_of(root, "HEK").image
    assert "cells of HEK/" in outcome.failures[image]
    assert len(outcome.done) == 2
    assert cells_of(root, "HEK") == painted
    assert cc.import_masks(root, root / "truth", overwrite_corrected=True).done
    assert cells_of(root, "HEK") != painted
    cc.restore(root, cc.restore(root)[-1])
    assert cells_of(root, "HEK") == painted
