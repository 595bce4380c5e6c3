"""Tests of cellpose with the installed version: fields, tiles, devices and fingerprints."""

import numpy as np
import pytest
import torch

from cellclass_tf.annotation.annotators import cellpose, cellpose_adapter
from cellclass_tf.annotation.annotators.cellpose import CellposeAnnotator
from cellclass_tf.errors import InputError
from tests.annotation.cellpose_networks import MAJOR


def test_field_without_cells_has_an_empty_label_image(own_weights):
    image = np.zeros((40, 60, 3), np.uint8)
    labels, _, _ = CellposeAnnotator(own_weights, 30, cellprob_threshold=50).annotate(
        image
    )
    assert labels.shape == (40, 60)
    assert labels.dtype == np.int32
    assert labels.max() == 0


def test_fingerprint_depends_on_weights_and_parameters(own_weights):
    def fingerprint(*args, **kwargs):
        return CellposeAnnotator(own_weights, *args, **kwargs).fingerprint

    prints = [fingerprint(30), fingerprint(31), fingerprint(30, 0.5), fingerprint()]
    prints += [fingerprint(30, cellprob_threshold=1.0)]
    assert len(set(prints)) == 5
    assert fingerprint(30, batch_size=1) == prints[0]


def test_invalid_numbers_and_images_are_refused(own_weights):
    with pytest.raises(InputError, match="got 0"):
        CellposeAnnotator(own_weights, diameter_px=0)
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8; got \(5, 5\)"):
        CellposeAnnotator(own_weights, 30).annotate(np.zeros((5, 5), np.uint8))


@pytest.fixture
def bright_pieces(own_weights, monkeypatch):
    """Returns an annotator that finds every bright piece; its probability is its brightness."""
    from scipy import ndimage

    seen = []

    def segment(self, image, diameter, limits):
        seen.append((image.shape[:2], limits))
        labels, _ = ndimage.label(image[..., 1] > 100)
        logits = np.where(image[..., 1] > 200, 2.0, 0.0)
        return labels.astype(np.int32), logits

    monkeypatch.setattr(CellposeAnnotator, "_segment", segment)
    annotator = CellposeAnnotator(own_weights, diameter_px=30)
    return annotator, seen


def test_tiles_find_the_cells_of_the_whole_field_once(bright_pieces, monkeypatch):
    annotator, seen = bright_pieces
    image = np.zeros((900, 700, 3), np.uint8)
    rng = np.random.default_rng(0)
    for y in range(5, 860, 40):
        for x in range(5, 660, 40):
            height, width = rng.integers(10, 35, 2)
            image[y : y + height, x : x + width, 1] = rng.choice([150, 250])
    whole = annotator.annotate(image)
    assert len(seen) == 1
    monkeypatch.setattr(cellpose, "_TILE_PX", 400)
    tiled = annotator.annotate(image)
    assert len(seen) > 6
    assert all(max(shape) <= 400 for shape, _ in seen[1:])
    np.testing.assert_array_equal(tiled.labels > 0, whole.labels > 0)
    pairs = np.unique(np.stack([whole.labels, tiled.labels], -1).reshape(-1, 2), axis=0)
    assert len(pairs) == len(whole.probabilities) + 1
    order = pairs[1:, 1] - 1
    np.testing.assert_allclose(tiled.probabilities[order], whole.probabilities)


def test_tiles_have_the_contrast_limits_of_the_whole_field(bright_pieces, monkeypatch):
    annotator, seen = bright_pieces
    image = np.zeros((100, 2000, 3), np.uint8)
    # Of each hundred columns one is 10 and one 90; blue is flat.
    image[..., 1] = 50
    image[:, ::50, 1] = 10
    image[:, 1::50, 1] = 90
    image[..., 2] = 7
    monkeypatch.setattr(cellpose, "_TILE_PX", 400)
    annotator.annotate(image)
    assert {str(limits) for _, limits in seen} == {"[(10.0, 90.0), None]"}


def test_probability_is_the_mean_over_the_cell(bright_pieces):
    annotator, _ = bright_pieces
    image = np.zeros((50, 60, 3), np.uint8)
    image[5:15, 5:15, 1] = 150
    image[5:10, 5:15, 1] = 250
    image[30:40, 30:40, 1] = 250
    # The sigmoid of 2 is 0.8808, that of 0 is 0.5; the first cell is half and half.
    found = annotator.annotate(image).probabilities
    np.testing.assert_allclose(found, [0.6904, 0.8808], atol=1e-4)


def test_small_detached_pieces_of_cells_are_dropped(own_weights, monkeypatch):
    labels = np.zeros((40, 40), np.uint16)
    labels[5:20, 5:20] = 1
    labels[30, 30] = 1
    found = labels, np.zeros((40, 40), np.float32)
    installed = type(cellpose_adapter.installed())
    monkeypatch.setattr(installed, "segment", lambda *_, **__: found)
    image = np.zeros((40, 40, 3), np.uint8)
    found = CellposeAnnotator(own_weights, 30).annotate(image).labels
    assert found[30, 30] == 0
    assert (found == 1).sum() == 225


@pytest.mark.parametrize("found", ["cpu", "cuda:0", "mps"])
def test_the_device_is_the_one_that_cellpose_finds(own_weights, monkeypatch, found):
    class Core:
        @staticmethod
        def assign_device(gpu):
            assert gpu
            return torch.device(found), found != "cpu"

    monkeypatch.setattr(cellpose, "_core", lambda: Core)
    assert f"device {found}" in CellposeAnnotator(own_weights, 30).settings


def test_missing_device_is_refused(own_weights):
    for device in ("cuda:99", "abacus"):
        with pytest.raises(InputError, match=f"device '{device}' cannot be used"):
            CellposeAnnotator(own_weights, 30, device=device)
    assert "device cpu" in CellposeAnnotator(own_weights, 30, device="cpu").settings


def test_settings_name_versions_and_parameters(own_weights):
    settings = CellposeAnnotator(own_weights, 30, 0.75, -1.0).settings
    for part in (
        f"cellpose {MAJOR}.",
        "torch 2.",
        "flow_threshold 0.75",
        "-1.0",
        "given",
    ):
        assert part in settings
