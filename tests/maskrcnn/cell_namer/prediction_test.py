"""Tests of cellclass_tf.maskrcnn.cell_namer.prediction."""

import numpy as np
import pytest
import tensorflow as tf

from cellclass_tf.maskrcnn.cell_namer import crops
from cellclass_tf.maskrcnn.cell_namer.prediction import Namer


def field():
    image = np.random.default_rng(0).integers(0, 200, (80, 80, 3)).astype(np.uint8)
    image[..., 0], image[:40, :, 1] = 0, 255
    labels = np.zeros((80, 80), np.int32)
    labels[30:50, 30:50], labels[60:70, 60:70] = 1, 2
    return image, labels


class Recorder:
    """A signature that calls cells by the upper half of a crop, and keeps the crops."""

    def __init__(self):
        self.calls = []

    def __call__(self, crops):
        self.calls.append(crops)
        first = 0.2 + 0.6 * (crops[:, :32].mean(axis=(1, 2, 3)) / 255)
        return {"probabilities": tf.constant(np.stack([first, 1 - first], axis=1))}


@pytest.mark.parametrize("views", [1, 2, 4])
def test_a_cell_is_seen_in_several_orientations(views):
    signature = Recorder()
    image, labels = field()
    found = Namer(signature, 1.0).probabilities_of(
        image, labels, ratio=1.0, views=views
    )
    upright, calls = signature.calls[0], list(signature.calls)
    turns = [np.rot90(upright, k, axes=(1, 2)) for k in (0, 2, 1, 3)[:views]]
    for call, expected in zip(calls, turns, strict=True):
        np.testing.assert_array_equal(call, expected)
    each = np.array([signature(crops=seen)["probabilities"].numpy() for seen in turns])
    means = np.exp(np.log(each).mean(axis=0))
    np.testing.assert_allclose(
        found, means / means.sum(axis=1, keepdims=True), atol=1e-6
    )


def test_crops_are_cut_at_the_scale_and_with_the_channels_of_the_training():
    image, labels = field()
    signature = Recorder()
    Namer(signature, 0.5, True).probabilities_of(image, labels, ratio=0.8, views=1)
    expected = crops.crops_of(image, labels, zoom=0.4, grayscale=True)
    np.testing.assert_array_equal(signature.calls[0], expected)


def test_many_cells_are_classified_in_several_calls(monkeypatch):
    image, labels = field()
    whole = Namer(Recorder(), 1.0).probabilities_of(image, labels, ratio=1.0, views=2)
    monkeypatch.setattr(crops, "CROPS_A_CALL", 1)
    signature = Recorder()
    parts = Namer(signature, 1.0).probabilities_of(image, labels, ratio=1.0, views=2)
    assert len(signature.calls) == 4
    np.testing.assert_allclose(parts, whole, atol=1e-6)
