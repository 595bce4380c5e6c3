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
        found.add(labels.numpy().tobytes())
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
