"""Tests of moved studies and predictions, and of invalid and old records."""

import shutil

import numpy as np
import pytest
import tifffile

import cellclass_tf as cc
from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError
from cellclass_tf.provenance.tracing import trace
from tests.provenance.places import (
    STEM,
    TABLE,
    broken,
    change_record,
    change_row,
    entry_of,
    labels_of,
    make_predictions,
    make_study,
    states,
)


def test_predictions_of_raw_files_move_with_their_study(place):
    root = place / "of_raw"
    study = make_study(root / "converted", [place / "raw" / "d2_a.tif"])
    make_predictions(root, study, place / "model", place / "raw", prefix="mixed/")
    assert trace(root / "labels" / "d2_a.tif", cell=2).passed
    root.rename(place / "moved")
    assert trace(place / "moved" / "labels" / "d2_a.tif", cell=2).passed
    assert trace(STEM, predictions=place / "moved").passed
    shutil.rmtree(place / "moved" / "converted")
    found = trace(place / "moved" / "labels" / "d2_a.tif")
    assert broken(found) == {"merged image": "missing"}
    assert states(found)["raw file"] == "same"


def test_raw_files_are_found_if_everything_moved_together(place, tmp_path_factory):
    change_record(place, folder=str(place / "predictions"))
    whole = tmp_path_factory.mktemp("elsewhere") / "all"
    shutil.copytree(place, whole)
    shutil.rmtree(place)
    found = trace(labels_of(whole))
    assert states(found)["raw file"] == "same"
    assert found.passed


def test_a_study_that_moved_elsewhere_has_to_be_given(place):
    (place / "study").rename(place / "elsewhere")
    found = trace(labels_of(place))
    assert broken(found) == {"merged image": "missing"}
    assert "--study=DIR" in str(found)
    assert states(found)["conversion"] == "not recorded"
    assert trace(labels_of(place), study=place / "elsewhere").passed


def test_relative_paths_are_resolved_from_any_folder(
    place, monkeypatch, tmp_path_factory
):
    raw = {"raw_file": "raw/d2_a.tif"}
    change_row(Study.open(place / "study"), **raw)
    change_record(place, study="study", model="model", images=[entry_of(place) | raw])
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert trace(labels_of(place)).passed


@pytest.mark.parametrize("image", ["../../x.png", "/x.png", "..\\x.png", "", 7, None])
def test_a_path_in_a_record_cannot_lead_out_of_the_study(place, image):
    change_record(place, images=[entry_of(place) | {"image": image}])
    with pytest.raises(InputError, match=r"run.json: expected the record"):
        trace(labels_of(place))
    with pytest.raises(InputError):
        trace("../../x", predictions=place / "predictions")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        '{"images": {}}',
        '{"images": ["x"]}',
        '{"model": 1}',
        9999 * "[",
    ],
)
def test_a_broken_record_is_one_clear_error(place, text):
    (place / "predictions" / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"run.json.*Run `cellclass predict` again"):
        trace(labels_of(place))


def test_predictions_without_a_record_are_an_error(place):
    (place / "predictions" / "run.json").unlink()
    with pytest.raises(InputError, match=r"run.json"):
        trace(STEM, predictions=place / "predictions")


@pytest.mark.parametrize(
    "table", ["", "image\nmixed/d2_a\n", TABLE.replace(",2,N2a", ",two,N2a")]
)
def test_a_broken_table_is_one_clear_error(place, table):
    (place / "predictions" / "cells.csv").write_text(table)
    with pytest.raises(InputError, match=r"cells.csv"):
        trace(labels_of(place), cell=1)


def test_values_that_older_versions_did_not_record_are_not_broken_links(place):
    study = Study.open(place / "study")
    change_row(study, image_sha256="", raw_sha256="", verdict="")
    change_record(
        place, format=None, images=[{"image": f"{STEM}.png"}], model_sha256=""
    )
    table = place / "predictions" / "cells.csv"
    table.write_text("".join(s.rpartition(",")[0] + "\n" for s in TABLE.splitlines()))
    found = trace(labels_of(place), cell=2)
    assert found.passed
    assert [k for k, v in states(found).items() if v == "not recorded"] == [
        "cell",
        "label image",
        "model",
        "merged image",
        "quality",
        "raw file",
    ]


def test_a_manifest_that_is_older_than_the_run_does_not_break_the_trace(place):
    change_row(Study.open(place / "study"), image_sha256="", raw_sha256="")
    assert trace(labels_of(place)).passed


def test_control_characters_in_records_are_not_printed(place):
    change_record(place, finished="\x1b[2J")
    assert "\x1b" not in str(trace(labels_of(place)))


def test_the_trace_of_a_real_conversion_passes_until_its_raw_file_changes(tmp_path):
    rng = np.random.default_rng(0)
    raw = tmp_path / "raw" / "HEK" / "d1_a.ome.tif"
    raw.parent.mkdir(parents=True)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    pixels = rng.integers(100, 1000, (2, 32, 40), np.uint16)
    tifffile.imwrite(raw, pixels, ome=True, metadata=metadata)
    assert not cc.convert(tmp_path / "raw", tmp_path / "s").failures
    image = tmp_path / "s" / "images" / "HEK" / "d1_a.png"
    found = cc.trace(image)
    assert found.passed
    assert "nuclei DAPI, cytoplasm GFP" in str(found)
    assert states(found)["raw file"] == states(found)["merged image"] == "same"
    raw.write_bytes(raw.read_bytes() + b"\0")
    assert broken(cc.trace(image)) == {"raw file": "changed"}
