"""Tests of cellclass_tf.maskrcnn.tiled_network, with a stub that finds bright squares."""

import types

import numpy as np
import pytest
from scipy import ndimage

from cellclass_tf.core.model_metadata import MOST_VIEWS
from cellclass_tf.maskrcnn.tiled_network import TiledNetwork

TILE_PX = 64
# Cells of a field of several tiles; the second one is on a tile border.
BOXES = [(5, 8, 15, 22), (28, 50, 40, 60), (60, 100, 75, 110), (70, 3, 84, 12)]


def tensor(values):
    values = np.asarray(values, np.float32)
    return types.SimpleNamespace(numpy=lambda: values)


class Network:
    """Finds bright rectangles; the probability of the first type grows with brightness."""

    def __init__(self):
        self.batches = []

    def serve(self, images):
        self.batches.append(len(images))
        found = [self._found(image) for image in images]
        most = max(1, *(len(boxes) for boxes in found))
        boxes = np.zeros((len(images), most, 4))
        for n, of_tile in enumerate(found):
            boxes[n, : len(of_tile)] = np.reshape(of_tile, (-1, 4))
        scores = np.where(boxes[..., 2] > 0, 0.8, 0.0)
        return {
            "detection_boxes": tensor(boxes),
            "detection_outer_boxes": tensor(boxes),
            "detection_scores": tensor(scores),
            "detection_probabilities": tensor(np.full((*scores.shape, 2), 0.5)),
            "detection_masks": tensor(np.ones((*scores.shape, 4, 4))),
            "detection_features": tensor(scores[..., None]),
            "num_detections": types.SimpleNamespace(
                numpy=lambda: np.array([len(b) for b in found])
            ),
        }

    def _found(self, image):
        labels, _ = ndimage.label(image[..., 1] > 0)
        return [
            (y.start, x.start, y.stop, x.stop) for y, x in ndimage.find_objects(labels)
        ]

    def name_cells(self, images, boxes):
        self.batches.append(len(images))
        odds = np.zeros((*boxes.shape[:2], 2))
        for n, of_tile in enumerate(boxes.astype(int)):
            for k, (top, left, bottom, right) in enumerate(of_tile):
                level = images[n][top:bottom, left:right, 1].mean() / 255
                odds[n, k] = level, 1 - level
        return {
            "scores": tensor(odds.sum(axis=-1)),
            "probabilities": tensor(odds),
            "features": tensor(odds),
        }


@pytest.fixture
def field():
    """A field of 90 x 130 px with four cells, each of its own brightness."""
    image = np.zeros((90, 130, 3), np.uint8)
    for n, (top, left, bottom, right) in enumerate(BOXES):
        image[top:bottom, left:right, 1] = 51 * (n + 1)
    return image


def tiled(network):
    return TiledNetwork(
        network.serve,
        network.name_cells,
        tile_px=TILE_PX,
        model_diameter_px=12.0,
        types=2,
    )


@pytest.mark.parametrize("views", range(1, MOST_VIEWS + 1))
def test_every_cell_is_found_once_in_any_number_of_views(field, views):
    network = Network()
    found = tiled(network).detect(field, scale=1.0, score_threshold=0.5, views=views)
    order = np.lexsort(found.boxes_yxyx[:, :2].T[::-1])
    # In an enlarged field, the edges of rectangles are between pixels.
    np.testing.assert_allclose(
        found.boxes_yxyx[order], BOXES, atol=1e-4 if views == 1 else 0.8
    )
    np.testing.assert_allclose(found.scores, 0.8, rtol=1e-5)
    assert min(network.batches) > 1


@pytest.mark.parametrize("views", [1, 4, MOST_VIEWS])
def test_cells_in_boxes_are_classified_at_any_position(field, views):
    found = tiled(Network()).types_at(field, np.array(BOXES), scale=1.0, views=views)
    levels = np.array([0.2, 0.4, 0.6, 0.8])
    # In an enlarged field, the border of a rectangle is darker.
    near = 1e-3 if views == 1 else 0.05
    np.testing.assert_allclose(found["probabilities"][:, 0], levels, atol=near)
    np.testing.assert_allclose(found["scores"], 1.0, atol=1e-5)
    np.testing.assert_allclose(found["features"][:, 0], levels, atol=near)


def test_a_cell_found_in_half_of_the_views_has_half_the_score(field):
    network = Network()
    seen = network.serve

    def one_in_two(images):
        outputs = seen(images)
        # Every second tile, and so every second view, returns nothing.
        outputs["detection_scores"].numpy()[::2] = 0.0
        return outputs

    network.serve = one_in_two
    small = field[:40, :40]
    found = tiled(network).detect(small, scale=1.0, score_threshold=0.3, views=2)
    assert found.scores == pytest.approx([0.4])
    found = tiled(network).detect(small, scale=1.0, score_threshold=0.5, views=2)
    assert len(found.scores) == 0


def test_the_network_is_not_called_without_cells(field):
    network = Network()
    found = tiled(network).types_at(field, np.zeros((0, 4)), scale=1.0)
    assert found["probabilities"].shape == (0, 2)
    assert not network.batches
