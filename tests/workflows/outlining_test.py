"""Tests of cellclass_tf.workflows.outlining, called by `predict`."""

import dataclasses
import shutil

import numpy as np
import pytest
import tifffile

import cellclass_tf as cc
from cellclass_tf.core.model_metadata import (
    METADATA_FILE,
    CalibrationRecord,
    NamingRecord,
)
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.study import ImageRow
from cellclass_tf.storage import digests, png
from tests.fake_model import save_model
from tests.metadata import held_out_fields, model_metadata

pytestmark = pytest.mark.usefixtures("no_report")
FIGURES = CalibrationRecord(held_out_fields([[[9, 1], [2, 8]]]), (), 0.1)
OF_DATASET = NamingRecord("dataset", 0.0, 1.0, FIGURES)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


def measured(saved, tmp_path, *naming):
    """Returns a copy of the model that was measured with such outlines."""
    folder = shutil.copytree(saved, tmp_path / "model")
    metadata = model_metadata(naming=naming, pixel_size_um=0.5)
    metadata.write(folder / METADATA_FILE)
    return folder


@pytest.fixture
def study(tmp_path):
    study = cc.Study.create(tmp_path / "study", pixel_size_um=0.5)
    rows = [ImageRow(f"mixed/{n}.png", "mixed", group="dish1") for n in "ab"]
    for row in rows:
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[20:44, 20:44, 1], pixels[26:38, 26:38, 2] = 100, 200
        png.write_png(study.image_path(row), pixels)
    study.update(rows)
    return study


def draw(path, *boxes):
    labels = np.zeros((64, 64), np.uint16)
    for number, (top, bottom) in enumerate(boxes, start=1):
        labels[top:bottom, 8:40] = 3 * number
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, labels)


def test_cells_in_label_images_are_classified_and_the_source_is_recorded(
    saved, study, tmp_path
):
    outlines, out = tmp_path / "labels", tmp_path / "out"
    draw(outlines / "a.tif", (0, 16), (20, 62))
    draw(outlines / "b.tif")
    model = measured(saved, tmp_path, OF_DATASET)
    outcome = cc.predict(model, study.root, out, outlines=outlines)
    assert len(outcome.done) == 2
    assert not outcome.failures
    found = Predictions(out)
    cells = found.read("mixed/a")
    np.testing.assert_array_equal(
        cells.labels > 0, tifffile.imread(outlines / "a.tif") > 0
    )
    # The stand-in network takes the cell's fraction of the tile's height as p(N2a).
    assert cells.cell_types == ("HEK", "N2a")
    np.testing.assert_allclose(cells.probabilities[:, 1], [16 / 64, 42 / 64], atol=1e-3)
    assert len(found.read("mixed/b")) == 0
    record = found.record
    assert (record.outlines.source, record.outlines.folder) == ("files", str(outlines))
    assert record.images[0].outlines_file == str(outlines / "a.tif")
    assert record.images[0].outlines_sha256 == digests.sha256_of_file(
        outlines / "a.tif"
    )
    assert record.calibration == FIGURES
    assert record.naming == OF_DATASET
    assert record.settings["score_threshold"] == 0
    links = cc.trace(out / "labels" / "mixed" / "a.tif", predictions=out)
    (link,) = [link for link in links.links if link.name == "outlines"]
    assert link.state == "same"
    assert str(outlines / "a.tif") in " ".join(link.says)
    # Nothing is repeated except for label images that were changed.
    again = cc.predict(model, study.root, out, outlines=outlines)
    assert not again.done
    draw(outlines / "b.tif", (0, 30))
    again = cc.predict(model, study.root, out, outlines=outlines)
    assert list(again.done) == ["mixed/b"]


def test_a_field_with_invalid_labels_fails_alone(saved, study, tmp_path):
    outlines, out = tmp_path / "labels", tmp_path / "out"
    draw(outlines / "a.tif", (0, 16))
    tifffile.imwrite(outlines / "b.tif", np.ones((64, 60), np.uint16))
    outcome = cc.predict(saved, study.root, out, outlines=outlines)
    assert list(outcome.done) == ["mixed/a"]
    assert (
        f"{outlines / 'b.tif'}: Expected a label image" in outcome.failures["mixed/b"]
    )
    (outlines / "b.tif").unlink()
    outcome = cc.predict(saved, study.root, out, outlines=outlines)
    assert list(outcome.skipped) == ["mixed/a"]
    assert "expected a label image of mixed/b.png" in outcome.failures["mixed/b"]
    assert any("was not measured" in note for note in outcome.notes)


def test_an_annotator_outlines_with_the_diameter_of_the_group(saved, study, tmp_path):
    out = tmp_path / "out"
    model = measured(saved, tmp_path, OF_DATASET)
    outcome = cc.predict(model, study.root, out, outlines="watershed")
    assert len(outcome.done) == 2
    (note,) = outcome.notes
    assert "not measured with the outlines of watershed" in note
    record = Predictions(out).record
    assert record.outlines.source == "watershed"
    assert record.outlines.settings
    cells = Predictions(out).read("mixed/a")
    assert len(cells) == 1
    assert cells.labels[32, 32] == 1
    # A drawn square of 24 px.
    assert cells.probabilities[0, 1] == pytest.approx(24 / 64, abs=0.1)
    assert not cc.predict(model, study.root, out, outlines="watershed").done


def test_error_rates_measured_with_an_annotator_are_used_for_it(saved, study, tmp_path):
    own = NamingRecord("watershed", 0.9, 2.0, FIGURES, settings="w")
    model = measured(saved, tmp_path, OF_DATASET, own)
    out = tmp_path / "out"
    outcome = cc.predict(model, study.root, out, outlines="watershed")
    assert not outcome.notes
    # No cell fills nine tenths of a tile.
    assert len(Predictions(out).read("mixed/a")) == 0
    assert Predictions(out).record.naming == own


def test_message_about_missing_weights_names_the_measured_ones(saved, study, tmp_path):
    own = NamingRecord("cellpose:mine", 0.1, 1.0, FIGURES, sha256="5a5a")
    model = measured(saved, tmp_path, own)
    missing = tmp_path / "gone"
    with pytest.raises(cc.InputError, match=r"gone.*cellpose:mine, SHA-256 5a5a"):
        cc.predict(
            model, study.root, tmp_path / "out", outlines="cellpose", weights=missing
        )
    with pytest.raises(cc.InputError, match="expected network, cellpose, watershed or"):
        cc.predict(model, study.root, tmp_path / "out", outlines=missing)


def test_a_model_of_an_older_version_must_be_exported_again(saved, study, tmp_path):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(saved))
    module, folder = tf.Module(), tmp_path / "old"
    module.serve = loaded.signatures["serving_default"]
    tf.saved_model.save(module, str(folder), {"serving_default": module.serve})
    dataclasses.replace(model_metadata()).write(folder / METADATA_FILE)
    with pytest.raises(cc.InputError, match="Export it again"):
        cc.predict(folder, study.root, tmp_path / "out", outlines="watershed")
