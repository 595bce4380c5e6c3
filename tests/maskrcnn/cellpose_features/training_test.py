"""Tests of cellclass_tf.maskrcnn.cellpose_features.training."""

import logging

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.encoder_weights import EncoderWeights
from cellclass_tf.maskrcnn import config, sampling
from cellclass_tf.maskrcnn.cellpose_features import pooling, training
from cellclass_tf.maskrcnn.input import reading
from tests.annotation import cellpose_networks

pytestmark = cellpose_networks.needs_3
TYPES = ("HEK", "N2a")


@pytest.fixture(scope="module")
def weights():
    tensors = cellpose_networks.make().state_dict().items()
    encoder = {k: v.numpy() for k, v in tensors if k.startswith("downsample.")}
    return EncoderWeights(encoder, 30.0, "5a5a")


def field(types, seed=0, pixel_size_um=0.5):
    """A field of smooth HEK cells and striped N2a cells."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 20, (40, 40 * len(types), 3)).astype(np.uint8)
    labels = np.zeros(image.shape[:2], np.int32)
    for n, name in enumerate(types):
        box = np.s_[5:35, 40 * n + 5 : 40 * n + 35]
        labels[box] = n + 1
        image[box] = 120
        if name == "N2a":
            image[5:35:3, box[1]] = 250
    cells = Cells.from_labels(labels, TYPES, types)
    return reading.Field(image, cells, pixel_size_um)


def task_of(cell_diameter_px):
    return config.CellMaskRCNNTask(
        type_names=list(TYPES), cell_diameter_px=cell_diameter_px, pixel_size_um=0.5
    )


def test_types_are_told_apart_by_texture(weights):
    fields = [field(["HEK", "N2a", "HEK"], 1), field(["N2a", "unknown", "N2a"], 2)]
    trained = training.train(weights, task_of(30.0), iter(fields))
    record = trained.record
    assert (record.scale, record.sha256, record.cells) == (1.0, "5a5a", 5)
    other = field(["N2a", "HEK", "N2a", "N2a"], 3)
    features = pooling.features_of(
        trained.encoder.encode, other.image, other.cells.labels, scale=1.0
    )
    called = (features @ trained.linear.weights + trained.linear.bias).argmax(axis=1)
    assert [TYPES[n] for n in called] == ["N2a", "HEK", "N2a", "N2a"]


def test_cells_are_resized_to_the_diameter_of_the_network(weights, monkeypatch):
    scales = []

    def features_of(encode, image, labels, *, scale, grayscale):
        scales.append(scale)
        return np.random.default_rng(0).normal(size=(labels.max(), 4))

    monkeypatch.setattr(pooling, "features_of", features_of)
    sizes = (0.5, 0.25, 0.0)
    fields = [field(["HEK", "N2a"], pixel_size_um=size) for size in sizes]
    trained = training.train(weights, task_of(60.0), iter(fields))
    assert scales == [0.5, 0.25, 0.5]
    assert trained.record.scale == 0.5


def test_without_cells_of_a_type_there_is_no_classifier(weights, caplog):
    with caplog.at_level(logging.WARNING):
        assert training.train(weights, task_of(30.0), [field(["N2a"] * 3)]) is None
        assert training.train(weights, task_of(30.0), []) is None
    assert "no cells of type HEK" in caplog.text


def test_a_sample_of_many_cells_is_used(weights, monkeypatch):
    monkeypatch.setattr(sampling, "MOST_CELLS", 4)
    fields = [field(["HEK", "HEK", "HEK"], n) for n in range(3)]
    trained = training.train(weights, task_of(30.0), [*fields, field(["N2a"])])
    assert trained.record.cells == 3
