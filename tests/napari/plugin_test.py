"""Tests of the napari plug-in: layers, the manifest, and the widget without a window."""

import os

import numpy as np
import pytest

from cellclass_tf import errors
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.storage import csv_json, png
from tests.predictions import write_predictions

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("napari")

from cellclass_tf.napari import plugin

TYPES = ("HEK", "N2a")


@pytest.fixture
def study(tmp_path):
    made = Study.create(tmp_path / "study", TYPES)
    for name in ("a", "b"):
        row = ImageRow(f"mixed/{name}.png", "mixed", pixel_size_um=0.5)
        made.update([row])
        image = np.zeros((40, 50, 3), np.uint8)
        image[5:15, 5:15, 1], image[8:12, 8:12, 2] = 90, 200
        png.write_png(made.image_path(row), image)
        labels = np.zeros((40, 50), np.int32)
        labels[5:15, 5:15], labels[20:30, 20:40] = 1, 2
        cells = Cells.from_labels(labels, TYPES, ["HEK", "N2a"])
        cells.write(made.cells_path(row), types_csv=True)
    return made


def test_a_study_opens_as_channels_and_cells_with_features(study):
    layers = plugin.get_reader(str(study.root))(str(study.root))
    names = [settings["name"] for _, settings, _ in layers]
    assert names[:3] == ["mixed/a cytoplasm", "mixed/a nuclei", "mixed/a cells"]
    assert len(layers) == 6
    assert [s["visible"] for _, s, _ in layers] == [True] * 3 + [False] * 3
    labels, settings, kind = layers[2]
    assert kind == "labels"
    assert labels.max() == 2
    assert settings["scale"] == (0.5, 0.5)
    features = settings["features"]
    assert features["cell_type"].tolist()[1:] == ["HEK", "N2a"]
    assert features["nucleus_area_px"][1] > 0
    assert features["index"].tolist() == [
        0,
        1,
        2,
    ]
    # napari itself takes them.
    from napari.layers import Layer

    for layer in layers:
        assert Layer.create(*layer).name in names


def test_one_field_of_predictions_opens_by_its_label_image(tmp_path):
    cells = Cells.from_labels(np.eye(30, dtype=np.int32), TYPES, "HEK")
    write_predictions(tmp_path, {"mixed/a": cells, "b": cells})
    path = tmp_path / "labels/mixed/a.tif"
    (layer,) = plugin.get_reader(path)(path)
    assert layer[1]["name"] == "mixed/a cells"
    rows = csv_json.read_csv(tmp_path / "cells.csv")
    told = [row | {"time": "3", "repeated": "True"} for row in rows]
    csv_json.write_csv(tmp_path / "cells.csv", list(told[0]), told)
    ((_, settings, _),) = plugin.read_layers(path)
    assert settings["features"]["time"].tolist()[1:] == [3] * 30
    assert settings["features"]["repeated"].tolist()[1:] == [True] * 30


def test_other_paths_are_left_to_other_readers(tmp_path):
    other = tmp_path / "x.tif"
    other.write_bytes(b"")
    assert plugin.get_reader(str(other)) is None
    assert plugin.get_reader(str(tmp_path)) is None
    assert plugin.get_reader([str(other)]) is None


def test_napari_finds_reader_and_widget():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("cellclass_tf")
    for command in manifest.contributions.commands:
        module, _, name = str(command.python_name).partition(":")
        assert module == "cellclass_tf.napari.plugin"
        assert callable(getattr(plugin, name))
    assert manifest.contributions.readers[0].accepts_directories
    assert manifest.contributions.widgets[0].display_name == "Outline and name cells"


def test_planes_are_merged_as_by_the_library():
    plane = np.arange(400, dtype=np.uint16).reshape(20, 20)
    merged = plugin.merged_of(plane, plane[::-1])
    assert merged.dtype == np.uint8
    assert not merged[..., 0].any()
    assert merged[-1, -1, 1] == 255
    assert merged[0, -1, 2] == 255
    small = plane.astype(np.uint8)
    np.testing.assert_array_equal(plugin.merged_of(small, small)[..., 1], small)
    with pytest.raises(errors.InputError, match="two planes"):
        plugin.merged_of(np.stack([plane]), np.stack([plane]))


@pytest.fixture
def widget(monkeypatch):
    """Returns the widget with two channels and outlines, without a window."""
    import napari
    from napari.components import ViewerModel
    from napari.qt import threading
    from napari.utils import _magicgui

    viewer = ViewerModel()
    for name in ("a cytoplasm", "a nuclei"):
        viewer.add_image(np.zeros((40, 50), np.uint8), name=name)
    labels = np.zeros((40, 50), np.int32)
    labels[5:15, 5:15] = 3
    viewer.add_labels(labels, name="by another program")
    monkeypatch.setattr(napari, "current_viewer", lambda: viewer)
    # Where there is a window, it is found by that.
    monkeypatch.setattr(_magicgui, "find_viewer_ancestor", lambda widget: viewer)
    asked = []

    def noted(function, *arguments, **_):
        asked.append((function, arguments))

    monkeypatch.setattr(threading, "create_worker", noted)
    made = plugin.predict_widget()
    made.viewer, made.asked = viewer, asked
    return made


@pytest.mark.parametrize("given", [False, True])
def test_the_widget_classifies_the_chosen_outlines(widget, tmp_path, given):
    assert widget.cytoplasm.value.name == "a cytoplasm"
    assert widget.nuclei.value.name == "a nuclei"
    assert widget.outlines.value is None
    if given:
        widget.outlines.value = widget.viewer.layers["by another program"]
    widget(model=tmp_path)
    ((function, (*_, labels)),) = widget.asked
    assert function is plugin.predict_layer
    assert (labels is None) != given
    if given:
        assert labels.max() == 3


class _Predictor:
    """Replaces a loaded model; finds nothing."""

    def predict(self, image, *, pixel_size_um):
        return Cells.from_labels(np.zeros(image.shape[:2], np.int32), TYPES, ())

    def name(self, image, labels, *, pixel_size_um):
        return Cells.from_labels(labels, TYPES, "HEK")


@pytest.mark.parametrize(("given", "cells"), [(False, 0), (True, 2)])
def test_given_outlines_are_classified_and_others_predicted(monkeypatch, given, cells):
    from cellclass_tf.maskrcnn import predictor

    monkeypatch.setattr(predictor.Predictor, "load", lambda model: _Predictor())
    labels = np.zeros((40, 50), np.int32)
    labels[5:15, 5:15], labels[20:30, 20:40] = 1, 2
    image = np.zeros((40, 50, 3), np.uint8)
    found = plugin._predict("model", image, None, labels if given else None)
    assert len(found) == cells
