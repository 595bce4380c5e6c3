"""Tests that files of version 0.1.0, which had no format versions, can be opened.

previous_version/ holds a study, predictions of it and of its raw file, and the records of
the model and its training. They were written in /data/previous, which does not exist.
"""

import pathlib
import shutil

import pytest

import cellclass_tf as cc
from cellclass_tf.core.model_metadata import ModelMetadata
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.run_record import RunRecord
from cellclass_tf.datasets import simulation

MADE = pathlib.Path(__file__).parent / "previous_version"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Returns a copy of all files, in which relative paths are valid."""
    shutil.copytree(MADE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_study_opens_with_its_cells(place):
    study = cc.Study.open("study")
    assert study.cell_types == ("HEK", "N2a")
    assert study.pixel_size_um == 0.325
    rows = study.rows()
    assert [row.corrected for row in rows] == [True] * 3
    assert [len(study.read_cells(row)) for row in rows] == [1, 1, 5]
    assert set(study.read_cells(rows[2]).cell_types) == {"HEK", "N2a"}


def test_converting_and_annotating_again_have_nothing_to_do(place):
    before = cc.Study.open("study").rows()
    outcome = cc.convert("study/raw", "study", group=simulation.GROUP_PATTERN)
    # Copied files are measured again, with the same results.
    assert not outcome.failures
    assert len(outcome.results) == 3
    assert not cc.annotate("study", annotator="watershed").results
    names = ("image_sha256", "corrected", "cells", "verdict", "nuclei_limits")
    for old, new in zip(before, cc.Study.open("study").rows(), strict=True):
        assert [getattr(old, n) for n in names] == [getattr(new, n) for n in names]


@pytest.mark.parametrize(
    ("folder", "stem"),
    [
        ("predictions_of_study", "mixed/mixed_dish1_0001"),
        ("predictions_of_raw", "mixed_dish1_0001"),
    ],
)
def test_predictions_are_read_reported_and_traced(place, folder, stem):
    predictions = Predictions(folder)
    assert predictions.stems == (stem,)
    assert len(predictions.read(stem)) == 5
    image, size = predictions.images()[stem]
    assert size == 0.325
    assert image.exists()
    assert predictions.record.model_metadata.train_steps == 600
    shares = cc.mixture(folder, seed=0)
    assert shares["confusion_fields"] == 24
    page = cc.report(folder).read_text(encoding="utf-8")
    assert "cellclass_maskrcnn_small" in page
    assert "ckpt-600" in page
    found = cc.trace(f"{folder}/labels/{stem}.tif", cell=1)
    assert {link.name: link.state for link in found.links} == {
        "cell": "same",
        "label image": "same",
        "prediction run": "recorded",
        # Its network is not among the files.
        "model": "changed",
        "merged image": "same",
        "conversion": "recorded",
        "quality": "recorded",
        "raw file": "same",
    }


def test_predictions_are_evaluated_and_compared(place):
    scores = cc.evaluate("predictions_of_study", "study")
    assert scores["cells_true"] == 5
    assert scores["images"] == 1
    cc.compare("predictions_of_study", "study", "difference")
    assert cc.export_cells("predictions_of_raw", "out", format="zarr").done


def test_a_record_that_is_written_again_is_of_the_new_format(place):
    path = place / "predictions_of_raw" / "run.json"
    record = RunRecord.read(path)
    assert record.images[0].stem == "mixed_dish1_0001"
    record.write(path)
    assert RunRecord.read(path) == record


def test_the_records_of_a_model_and_its_training_are_read():
    pytest.importorskip("tensorflow")
    from cellclass_tf.maskrcnn import runs

    metadata = ModelMetadata.read(MADE / "model" / "cellclass.json")
    assert metadata.score_threshold == 0.425
    assert metadata.calibration.cells == 754
    assert runs.experiment_of(MADE / "training") == "cellclass_maskrcnn_small"
    params = runs.load_params("cellclass_maskrcnn_small", MADE / "training")
    assert params.task.fingerprint == metadata.dataset_fingerprint
