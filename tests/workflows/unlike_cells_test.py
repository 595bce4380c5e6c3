"""Tests of cellclass_tf.workflows.unlike_cells, and of what `predict` reports."""

import json

import numpy as np
import pytest
import tifffile

import cellclass_tf as cc
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.study import ImageRow
from cellclass_tf.maskrcnn import familiarity
from cellclass_tf.storage import png
from cellclass_tf.workflows import unlike_cells
from tests.fake_model import save_model

TYPES = ("HEK", "N2a")
BOXES = [(8 * row, 8 * column) for row in range(8) for column in range(8)]


def labels():
    """Returns 64 cells of 6 px."""
    drawn = np.zeros((64, 64), np.uint16)
    for number, (top, left) in enumerate(BOXES, start=1):
        drawn[top : top + 6, left : left + 6] = number
    return drawn


def image(light):
    pixels = np.zeros((64, 64, 3), np.uint8)
    inside = labels() > 0
    pixels[inside, 1], pixels[inside, 2] = light, light
    return pixels


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Makes a model whose training fields had a brightness of 90 to 110."""
    folder = save_model(tmp_path_factory.mktemp("model"))
    predictor, gathered = cc.Predictor.load(folder), familiarity.Familiarizer()
    for light in range(90, 111, 2):
        named = predictor.name_uncalibrated(image(light), labels())
        gathered.add(image(light), named, f"dish{light}", 1.0)
    gathered.fit().write(folder / familiarity.FAMILIARITY_FILE)
    return folder


def make_study(root, lights):
    study = cc.Study.create(root, TYPES)
    rows = [ImageRow(f"mixed/{n}.png", "mixed") for n in range(len(lights))]
    for row, light in zip(rows, lights, strict=True):
        png.write_png(study.image_path(row), image(light))
        path = root / "outlines" / f"{row.name}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, labels())
    study.update(rows)
    return study


def predict(model, study, out, **options):
    return cc.predict(
        model, study.root, out, outlines=study.root / "outlines", **options
    )


def test_proportions_of_fields_unlike_the_training_fields_are_withheld(model, tmp_path):
    study, out = make_study(tmp_path / "study", [100, 30, 104]), tmp_path / "out"
    outcome = predict(model, study, out)
    (note,) = [note for note in outcome.notes if "resemble" in note]
    assert note.startswith("1 of 3 fields do not resemble the training fields: mixed/1")
    assert "withheld" in note
    known, strange, _ = Predictions(out).record.images
    assert known.compared
    assert not known.unlike
    assert "cells look unlike the training cells" in strange.unlike[0]
    assert "cytoplasm in the cells has a grey level of 30" in " ".join(strange.unlike)
    assert [p.name for p in (out / "unlike" / "mixed").iterdir()] == ["1.png"]
    estimate = json.loads((out / "mixture.json").read_text())["estimates"][0]
    assert estimate["withheld"].startswith("1 of 3 fields do not resemble")
    told = estimate["types"]["HEK"]
    assert told["share"] is None
    assert told["corrected"] is None
    assert told["cells"] == 192
    page = (out / "report.html").read_text()
    assert "The proportions are withheld" in page
    assert "mixed/1" in page
    # The fields that resemble the training fields have a proportion each.
    assert page.count("100.0 %") == 2
    # They are reported nevertheless if asked for.
    cc.report(out, answer_anyway=True)
    estimate = json.loads((out / "mixture.json").read_text())["estimates"][0]
    assert estimate["types"]["HEK"]["share"] == 1
    assert not estimate["withheld"]
    predict(model, study, out, answer_anyway=True)
    assert "The proportions are withheld" not in (out / "report.html").read_text()


def test_proportions_of_fields_like_the_training_fields_are_reported(model, tmp_path):
    study, out = make_study(tmp_path / "study", [100, 96]), tmp_path / "out"
    outcome = predict(model, study, out)
    assert not any("resemble" in note for note in outcome.notes)
    assert not (out / "unlike").exists()
    estimate = json.loads((out / "mixture.json").read_text())["estimates"][0]
    assert estimate["types"]["HEK"]["share"] == 1
    assert not estimate["withheld"]


def test_unusual_cells_are_drawn_beside_the_most_similar_training_cells(model):
    predictor = cc.Predictor.load(model)
    cells = predictor.name(image(30), labels())
    judged = predictor.judge(image(30), cells)
    shown = unlike_cells.draw(
        image(30), cells, judged.distances, predictor.familiarity, 1.0, "mixed/1"
    )
    assert shown.ndim == 3
    assert shown.shape[0] > 6 * 144
    assert shown.shape[1] > 4 * 144
    few = cells.kept(np.arange(len(cells)) < 2)
    small = unlike_cells.draw(
        image(30), few, judged.distances[:2], predictor.familiarity, 1.0, "mixed/1"
    )
    assert small.shape[0] < shown.shape[0]


def test_cells_without_network_features_are_not_compared(model):
    cells = Cells.from_labels(labels(), TYPES)
    assert cc.Predictor.load(model).judge(image(30), cells) is None
