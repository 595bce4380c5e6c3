"""Tests of cellclass_tf.maskrcnn.input.crops."""

import numpy as np
import pytest
import tensorflow as tf

from cellclass_tf.maskrcnn import config
from cellclass_tf.maskrcnn.input import crops

LABELS = np.arange(30 * 40, dtype=np.int32).reshape(30, 40)
# The pixels of the image have the values of the labels.
IMAGE = np.stack([LABELS % 256, LABELS // 256, LABELS * 0], -1).astype(np.uint8)


def seed(number):
    return tf.constant([7, number], tf.int64)


def agrees(image, labels):
    image = image.numpy().astype(int)
    return np.array_equal(image[..., 0] + 256 * image[..., 1], labels.numpy())


@pytest.mark.parametrize("number", range(5))
def test_crops_and_turns_move_image_and_labels_together(number):
    image, labels = crops.random_crop(
        IMAGE, LABELS, size=20.0, scale_range=(0.8, 1.25), seed=seed(number)
    )
    assert 16 <= image.shape[0] <= 25
    assert image.shape[:2] == labels.shape
    image, labels = crops.random_turn(image, labels, seed=seed(number))
    assert agrees(image, labels)


def test_all_eight_orientations_occur():
    square = LABELS[:4, :4]
    found = set()
    for number in range(60):
        _, labels = crops.random_turn(IMAGE[:4, :4], square, seed=seed(number))
        found.add(np.asarray(labels).tobytes())
    assert len(found) == 8


def test_the_same_seed_gives_the_same_crop():
    arguments = {"size": 20.0, "scale_range": (0.8, 1.25)}
    a = crops.random_crop(IMAGE, LABELS, seed=seed(1), **arguments)
    b = crops.random_crop(IMAGE, LABELS, seed=seed(1), **arguments)
    c = crops.random_crop(IMAGE, LABELS, seed=seed(2), **arguments)
    np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(a[1], c[1])


def test_the_scale_follows_the_pixel_size_if_it_is_known():
    task = config.cellclass_maskrcnn_small().task
    task.scale, task.pixel_size_um = 0.5, 0.5
    for size_um, scale in ((0.5, 0.5), (1.0, 1.0), (0.0, 0.5)):
        field = {"pixel_size_um": np.float32(size_um)}
        assert float(crops.scale_of(task, field)) == pytest.approx(scale)
    task.pixel_size_um = 0.0
    assert float(crops.scale_of(task, {"pixel_size_um": np.float32(2)})) == 0.5


def test_a_resized_crop_keeps_its_cells_and_their_areas():
    labels = np.kron([[1, 2], [3, 0]], np.ones((10, 10), int)).astype(np.int32)
    image = np.repeat(labels[..., np.newaxis] * 50, 3, -1).astype(np.uint8)
    cells = {"type": np.array([0, 1, 0]), "area_px": np.array([100, 100, 100])}
    image, labels, cells = crops.resize_crop(image, labels, cells, 10)
    assert image.shape == (10, 10, 3)
    assert image.dtype == tf.uint8
    expected = np.kron([[1, 2], [3, 0]], np.ones((5, 5), int))
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(cells["area_px"], [25, 25, 25])
    np.testing.assert_array_equal(cells["type"], [0, 1, 0])
