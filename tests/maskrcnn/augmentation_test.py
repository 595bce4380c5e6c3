"""Tests of cellclass_tf.maskrcnn.augmentation."""

import numpy as np
import pytest
import tensorflow as tf

from cellclass_tf.maskrcnn import augmentation

LABELS = np.arange(30 * 40, dtype=np.int32).reshape(30, 40)
# The image says of every pixel what the labels say of it.
IMAGE = np.stack([LABELS % 256, LABELS // 256, LABELS * 0], -1).astype(np.uint8)


def seed(number):
    return tf.constant([7, number], tf.int64)


def agrees(image, labels):
    image = image.numpy().astype(int)
    return np.array_equal(image[..., 0] + 256 * image[..., 1], labels.numpy())


@pytest.mark.parametrize("number", range(5))
def test_crops_and_turns_move_image_and_labels_together(number):
    image, labels = augmentation.random_crop(
        IMAGE, LABELS, size=20.0, scale_range=(0.8, 1.25), seed=seed(number)
    )
    assert 16 <= image.shape[0] <= 25 and image.shape[:2] == labels.shape
    image, labels = augmentation.random_turn(image, labels, seed=seed(number))
    assert agrees(image, labels)


def test_all_eight_positions_come_up():
    square = LABELS[:4, :4]
    found = set()
    for number in range(60):
        _, labels = augmentation.random_turn(IMAGE[:4, :4], square, seed=seed(number))
        found.add(np.asarray(labels).tobytes())
    assert len(found) == 8


def test_beyond_a_small_field_there_is_background():
    image, labels = augmentation.central_crop(IMAGE + 1, LABELS + 1, size=50.0)
    assert labels.shape == (50, 50)
    assert int(tf.math.count_nonzero(labels)) == LABELS.size
    assert not image.numpy()[labels.numpy() == 0].any()


def test_the_same_seed_gives_the_same_crop():
    arguments = {"size": 20.0, "scale_range": (0.8, 1.25)}
    a = augmentation.random_crop(IMAGE, LABELS, seed=seed(1), **arguments)
    b = augmentation.random_crop(IMAGE, LABELS, seed=seed(1), **arguments)
    c = augmentation.random_crop(IMAGE, LABELS, seed=seed(2), **arguments)
    np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(a[1], c[1])


def test_intensity_stays_in_range_and_without_change_is_the_identity():
    image = tf.cast(IMAGE, tf.float32)
    same = augmentation.random_intensity(image, gain=0, gamma=0, noise=0, seed=seed(1))
    np.testing.assert_allclose(same, image, atol=1e-2)
    wild = augmentation.random_intensity(image, gain=2, gamma=1, noise=1, seed=seed(1))
    assert wild.numpy().min() >= 0 and wild.numpy().max() <= 255


def disc(size, row, column, radius):
    rows, columns = np.mgrid[:size, :size]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def test_composing_moves_whole_cells_and_leaves_those_that_would_cover_others():
    here = disc(60, 20, 20, 8).astype(np.int32)
    free, blocked = disc(60, 45, 40, 8), disc(60, 22, 24, 8)
    there = (free * 1 + blocked * 2).astype(np.int32)
    image = np.where(here > 0, 100, 10)[..., None].repeat(3, -1).astype(np.uint8)
    other = np.where(there > 0, 200, 12)[..., None].repeat(3, -1).astype(np.uint8)
    composed, moved = augmentation.compose(
        image, here, other, there, most_overlap=0.2, rim=2
    )
    np.testing.assert_array_equal(moved, free)
    composed = composed.numpy()[..., 0]
    assert (composed[free] == 200).all() and (composed[here > 0] == 100).all()
    # What was not moved leaves no trace, and neither does its rim.
    assert (composed[blocked & (here == 0)] == 10).all()
    # Elsewhere the brighter background counts.
    assert composed[0, 59] == 12


def test_composing_with_an_empty_field_changes_no_label():
    empty = np.zeros((60, 60), np.int32)
    image = np.full((60, 60, 3), 9, np.uint8)
    composed, moved = augmentation.compose(
        image, disc(60, 20, 20, 8).astype(np.int32), image, empty, most_overlap=0, rim=2
    )
    assert not moved.numpy().any()
    np.testing.assert_array_equal(composed, image)
