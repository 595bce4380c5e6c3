"""Tests of cellclass_tf.provenance.tracing."""

import shutil

import numpy as np
import pytest
import tifffile

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError
from cellclass_tf.provenance.tracing import trace
from cellclass_tf.storage import digests, png
from tests.provenance.places import (
    LABELS,
    STEM,
    TABLE,
    broken,
    change_record,
    change_row,
    labels_of,
    make_study,
    states,
)


def test_a_cell_leads_back_to_its_raw_file(place):
    found = trace(labels_of(place), cell=2)
    assert found.passed
    assert states(found) == {
        "cell": "same",
        "label image": "same",
        "prediction run": "recorded",
        "model": "same",
        "merged image": "same",
        "conversion": "recorded",
        "quality": "recorded",
        "raw file": "same",
    }
    shown = str(found)
    assert f"Cell 2 of {STEM}" in shown
    for text in (
        "N2a, probability 0.9, score 0.7, centre at y 2, x 3.5",
        "6 px in cells.csv, 6 px in the label image",
        "finished 2024-05-06T07:08:09+00:00, cellclass_tf 0.1.0",
        "score_threshold 0.1",
        "trained by small, steps 5, on data f00d",
        "scene 1, scene_name A01, time 0, planes max, read by tifffile 2024.1",
        "channels: nuclei DAPI, cytoplasm GFP, found by name",
        "contrast limits (group): nuclei 90-4000, cytoplasm 100-3000",
        "contrast group d2",
        "pixel size in µm 0.325",
        "accepted",
        digests.sha256_of_file(place / "raw" / "d2_a.tif")[:12],
        "Every link that was recorded holds.",
    ):
        assert text in shown, text
    assert "nuclei None" not in shown


def test_without_a_cell_the_whole_table_is_compared(place):
    assert states(trace(labels_of(place)))["cells"] == "same"
    table = place / "predictions" / "cells.csv"
    table.write_text("".join(TABLE.splitlines(keepends=True)[:2]))
    found = trace(labels_of(place))
    assert broken(found) == {"cells": "changed"}
    assert "1 in cells.csv, 2 in the label image" in str(found)
    table.unlink()
    assert broken(trace(labels_of(place))) == {"cells": "missing"}


@pytest.mark.parametrize(
    "image",
    [
        f"predictions/labels/{STEM}.tif",
        f"predictions/overlays/{STEM}.png",
        "predictions/labels/../labels/mixed/d2_a.tif",
    ],
)
def test_files_of_predictions_identify_their_image(place, monkeypatch, image):
    assert "model" in states(trace(place / image))
    monkeypatch.chdir(place)
    found = trace(image)
    assert found.passed
    assert found.subject == f"{STEM} in predictions"


@pytest.mark.parametrize(
    "image", [STEM, "d2_a", f"{STEM}.png", f"study/images/{STEM}.png"]
)
def test_names_in_predictions_and_in_a_study_identify_their_image(
    place, monkeypatch, image
):
    monkeypatch.chdir(place)
    assert "model" in states(trace(image, predictions="predictions"))
    assert "model" not in states(trace(image, study="study"))


def test_a_relative_file_name_is_found_from_inside_its_folder(place, monkeypatch):
    monkeypatch.chdir(labels_of(place).parent)
    assert trace("d2_a.tif").passed


def test_a_study_image_shows_its_annotation(place):
    study = Study.open(place / "study")
    (row,) = study.rows()
    image = study.image_path(row)
    assert "annotation" not in states(trace(image))
    Cells.from_labels(LABELS, study.cell_types).write(study.cells_path(row))
    assert states(trace(image))["annotation"] == "not recorded"
    annotated = {"annotator": "cellpose", "annotator_sha256": 64 * "a", "cells": 2}
    change_row(study, **annotated, diameter_px=31.5)
    found = trace(study.cells_path(row), cell=2)
    assert found.passed
    assert states(found)["annotation"] == "recorded"
    shown = str(found)
    assert "unknown, centre at y 2, x 3.5" in shown
    assert "2 cells in images.csv, 2 in the label image" in shown
    assert "by cellpose, SHA-256 of its weights aaaaaaaaaaaa" in shown
    assert "diameter in px 31.5, corrected or imported no" in shown
    path = study.cells_path(row)
    change_row(study, cells_sha256=digests.sha256_of_file(path), by_hand="cells 2")
    assert states(trace(image))["annotation"] == "same"
    assert "cells drawn by hand 2" in str(trace(image))
    whole = path.read_bytes()
    Cells.from_labels(LABELS[::-1], study.cell_types).write(path)
    # The number of cells is the same, but the cells differ.
    assert broken(trace(image)) == {"annotation": "changed"}
    path.write_bytes(whole)
    change_row(study, cells=3, cells_sha256="", corrected=True)
    assert broken(trace(image)) == {"annotation": "changed"}
    assert "SHA-256 of its labels" in str(trace(image))
    study.cells_path(row).unlink()
    assert broken(trace(image)) == {"annotation": "missing"}


def test_a_raw_file_that_changed_shows_both_fingerprints(place):
    before = digests.sha256_of_file(place / "raw" / "d2_a.tif")
    (place / "raw" / "d2_a.tif").write_bytes(b"another")
    after = digests.sha256_of_file(place / "raw" / "d2_a.tif")
    found = trace(labels_of(place))
    assert broken(found) == {"raw file": "changed"}
    assert not found.passed
    assert (found.links[-1].recorded, found.links[-1].found) == (before, after)
    assert f"SHA-256 was {before[:12]}, is {after[:12]}" in str(found)
    assert "Broken: raw file (changed)." in str(found)


def test_a_raw_file_that_moved_is_found_by_its_content(place):
    raw, archive = place / "raw" / "d2_a.tif", place / "archive" / "2024"
    archive.mkdir(parents=True)
    shutil.move(raw, archive / "d2_a.tif")
    found = trace(labels_of(place))
    assert broken(found) == {"raw file": "missing"}
    assert "--raw=DIR" in str(found)
    found = trace(labels_of(place), raw=place / "archive")
    assert found.passed
    assert f"moved; it was {raw}" in str(found)
    (archive / "d2_a.tif").rename(archive / "renamed.tif")
    (archive / "d2_a.tif").write_bytes(b"another of the same name")
    found = trace(labels_of(place), raw=place / "archive")
    assert found.passed
    assert "renamed.tif" in str(found)
    (archive / "renamed.tif").unlink()
    found = trace(labels_of(place), raw=place / "archive")
    assert broken(found) == {"raw file": "missing"}
    assert "no such file" in str(found)


def test_a_folder_to_search_that_does_not_exist_is_an_error(place):
    with pytest.raises(InputError, match=r"--raw=.*expected a folder"):
        trace(labels_of(place), raw=place / "nowhere")


def test_each_of_several_channel_files_has_a_link(place):
    raw = [place / "raw" / f"d2_a_w{i}.tif" for i in (1, 2)]
    for path in raw:
        path.write_bytes(path.name.encode())
    study = make_study(place / "two", raw)
    raw[1].write_bytes(b"another")
    found = trace(STEM, study=study.root)
    assert [link.state for link in found.links[-2:]] == ["same", "changed"]
    change_row(study, raw_sha256="")
    found = trace(STEM, study=study.root)
    assert [link.state for link in found.links[-2:]] == 2 * ["not recorded"]


def test_the_name_of_a_single_file_may_contain_the_separator(place):
    raw = place / "raw" / "a|b.tif"
    raw.write_bytes(b"odd")
    assert trace(STEM, study=make_study(place / "odd", [raw]).root).passed


def test_only_raw_folders_and_models_are_hashed_as_trees(place):
    raw = place / "raw" / "d2.zarr"
    raw.mkdir()
    (raw / "0").write_bytes(b"chunk")
    study = make_study(place / "zarr", [raw])
    assert trace(STEM, study=study.root).passed
    (raw / "1").write_bytes(b"more")
    assert broken(trace(STEM, study=study.root)) == {"raw file": "changed"}
    change_row(study, raw_file=str(place))
    assert broken(trace(STEM, study=study.root)) == {"raw file": "missing"}


def test_an_edited_merged_image_is_reported(place):
    image = place / "study" / "images" / f"{STEM}.png"
    png.write_png(image, np.full((4, 5, 3), 9, np.uint8))
    assert broken(trace(labels_of(place))) == {"merged image": "changed"}
    assert broken(trace(image)) == {"merged image": "changed"}
    image.unlink()
    assert broken(trace(image)) == {"merged image": "missing"}


def test_a_conversion_after_the_prediction_is_reported(place):
    study = Study.open(place / "study")
    change_row(study, raw_sha256=64 * "0")
    found = trace(labels_of(place))
    assert broken(found) == {"conversion": "changed"}
    assert "record different conversions" in str(found)


def test_an_edited_label_image_and_its_cell_are_reported(place):
    edited = LABELS.copy()
    edited[1, 3] = 1
    Cells.from_labels(edited, ("HEK",)).write(labels_of(place))
    found = trace(labels_of(place), cell=2)
    assert broken(found) == {"cell": "changed", "label image": "changed"}
    assert "6 px in cells.csv, 5 px in the label image" in str(found)
    Cells.from_labels(np.minimum(LABELS, 1), ("HEK",)).write(labels_of(place))
    found = trace(labels_of(place), cell=2)
    assert broken(found) == {"cell": "changed", "label image": "changed"}
    labels_of(place).unlink()
    found = trace(labels_of(place))
    assert broken(found) == {"cells": "changed", "label image": "missing"}


def test_changed_and_missing_models_are_reported(place):
    (place / "model" / "saved_model.pb").write_bytes(b"other network")
    assert broken(trace(labels_of(place))) == {"model": "changed"}
    shutil.rmtree(place / "model")
    assert broken(trace(labels_of(place))) == {"model": "missing"}


def test_only_a_folder_that_looks_like_a_model_is_read(place):
    change_record(place, model=str(place / "study"))
    assert broken(trace(labels_of(place))) == {"model": "missing"}


@pytest.mark.parametrize("cell", [0, -1, 3, 70000])
def test_a_cell_number_that_does_not_exist_is_an_error(place, cell):
    with pytest.raises(InputError, match=f"no cell {cell}; expected 1 to 2"):
        trace(labels_of(place), cell=cell)
    study = Study.open(place / "study")
    (row,) = study.rows()
    Cells.from_labels(LABELS, study.cell_types).write(study.cells_path(row))
    with pytest.raises(InputError, match=f"no cell {cell}; expected 1 to 2"):
        trace(study.cells_path(row), cell=cell)


def test_a_cell_keeps_its_number_if_a_person_deletes_another(place):
    study = Study.open(place / "study")
    (row,) = study.rows()
    path = study.cells_path(row)
    Cells.from_labels(LABELS, study.cell_types, ["HEK", "N2a"]).write(path)
    tifffile.imwrite(path, np.where(LABELS == 1, 0, LABELS).astype(np.uint16))
    path.with_suffix(".csv").write_text("cell,cell_type\n2,N2a\n")
    assert "N2a, centre at y 2, x 3.5" in str(trace(path, cell=2))
    with pytest.raises(InputError, match="no cell 1; expected one of 2"):
        trace(path, cell=1)


def test_the_error_for_an_unknown_image_lists_similar_names(place):
    with pytest.raises(InputError, match=f"mixed/d2_b.*similar names: {STEM}"):
        trace("mixed/d2_b", predictions=place / "predictions")
    with pytest.raises(InputError, match="not one of the 1 images"):
        trace(place / "study" / "raw.tif")
    with pytest.raises(InputError, match=r"no run.json and no study.yaml"):
        trace(place / "raw" / "d2_a.tif")


def test_a_name_that_two_images_have_is_refused(place):
    raw = place / "raw" / "d2_a.tif"
    study = make_study(place / "both", [raw], ("HEK/a", "N2a/a"))
    with pytest.raises(InputError, match="similar names: HEK/a, N2a/a"):
        trace("a", study=study.root)
    assert trace("N2a/a", study=study.root).passed
    assert trace(study.root / "images" / "HEK" / "a.png").passed
