"""Tests of cellclass_tf.maskrcnn.input.augmentation."""

import numpy as np
import tensorflow as tf

from cellclass_tf.maskrcnn.input import augmentation

LABELS = np.arange(30 * 40, dtype=np.int32).reshape(30, 40)
# The pixels of the image have the values of the labels.
IMAGE = np.stack([LABELS % 256, LABELS // 256, LABELS * 0], -1).astype(np.uint8)


def seed(number):
    return tf.constant([7, number], tf.int64)


def test_intensity_stays_in_range_and_without_change_is_the_identity():
    image = tf.cast(IMAGE, tf.float32)
    same = augmentation.random_intensity(image, gain=0, gamma=0, noise=0, seed=seed(1))
    np.testing.assert_allclose(same, image, atol=1e-2)
    wild = augmentation.random_intensity(image, gain=2, gamma=1, noise=1, seed=seed(1))
    assert wild.numpy().min() >= 0
    assert wild.numpy().max() <= 255


def disc(size, row, column, radius):
    rows, columns = np.mgrid[:size, :size]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def composed(here, there, image, other):
    result, moved = augmentation.copy_paste(
        image, here, other, there, most_overlap=0.2, diameter_px=16.0
    )
    return result.numpy().astype(int)[..., 1], moved.numpy()


def grey(values):
    return np.asarray(values)[..., np.newaxis].repeat(3, -1).astype(np.uint8)


def test_only_cells_that_cover_little_of_others_are_pasted():
    here = disc(60, 20, 20, 8).astype(np.int32)
    free, blocked = disc(60, 45, 40, 8), disc(60, 22, 24, 8)
    there = (free * 1 + blocked * 2).astype(np.int32)
    image, other = grey(np.where(here > 0, 100, 10)), grey(np.where(there > 0, 200, 12))
    found, moved = composed(here, there, image, other)
    np.testing.assert_array_equal(moved, free)
    assert (found[free] == 200).all()
    assert (found[here > 0] == 100).all()
    # Cells that were not pasted leave no trace, and neither do their rims.
    assert (found[blocked & (here == 0)] == 10).all()
    # The background of the other field is not added.
    assert (found[~free & (here == 0)] == 10).all()


def test_halos_are_pasted_only_with_their_cells():
    here = disc(120, 30, 30, 10).astype(np.int32)
    moves, blocked = disc(120, 90, 90, 10), disc(120, 30, 34, 10)
    there = (moves * 1 + blocked * 2).astype(np.int32)
    rings = disc(120, 90, 90, 14) | disc(120, 30, 34, 18)
    other = grey(np.where(there > 0, 200, np.where(rings, 60, 10)))
    found, _ = composed(here, there, grey(np.where(here > 0, 100, 10)), other)
    halo = disc(120, 90, 90, 14) & ~moves
    assert (found[halo] > 50).all()
    assert (found[disc(120, 30, 34, 18) & (here == 0)] < 15).all()


def test_noise_of_both_backgrounds_does_not_add_up():
    rng = np.random.default_rng(0)
    here, there = disc(120, 30, 30, 10) * 1, disc(120, 90, 90, 10) * 1
    image, other = (
        grey(np.where(cells > 0, 200, 20) + rng.normal(0, 3, (120, 120)))
        for cells in (here, there)
    )
    found, moved = composed(here.astype(np.int32), there.astype(np.int32), image, other)
    between = (here == 0) & (moved == 0)
    before = image[..., 1].astype(int)[between]
    assert abs(found[between].mean() - before.mean()) < 0.1
    assert abs(found[between].std() - before.std()) < 0.1


def test_added_light_does_not_overflow():
    here, there = np.zeros((60, 60), np.int32), disc(60, 30, 30, 8).astype(np.int32)
    other = grey(np.where(disc(60, 30, 30, 14), 250, 0))
    found, _ = composed(here, there, grey(np.full((60, 60), 200)), other)
    assert found.min() >= 200


def test_composing_with_an_empty_or_a_full_field_changes_nothing():
    cell = disc(60, 20, 20, 8).astype(np.int32)
    image = grey(np.full((60, 60), 9))
    found, moved = composed(cell, np.zeros((60, 60), np.int32), image, image)
    assert not moved.any()
    np.testing.assert_array_equal(found, 9)
    full = np.ones((60, 60), np.int32)
    found, moved = composed(full, full, image, grey(np.full((60, 60), 90)))
    assert not moved.any()
    np.testing.assert_array_equal(found, 9)


def test_blur_widens_a_point_and_keeps_its_total_light():
    point = np.zeros((21, 21, 3), np.float32)
    point[10, 10] = 90
    blurred = augmentation.random_blur(tf.constant(point), most_px=2.0, seed=seed(1))
    assert blurred.numpy()[10, 10, 0] < 80
    np.testing.assert_allclose(blurred.numpy().sum(axis=(0, 1)), 90, rtol=1e-4)
    again = augmentation.random_blur(tf.constant(point), most_px=2.0, seed=seed(1))
    np.testing.assert_array_equal(blurred, again)
    assert augmentation.random_blur(point, most_px=0.0, seed=seed(1)) is point


def test_blur_does_not_change_uniform_light_up_to_the_border():
    even = tf.fill([16, 16, 3], 7.0)
    blurred = augmentation.random_blur(even, most_px=1.0, seed=seed(2))
    np.testing.assert_allclose(blurred, even, rtol=1e-5)


def test_padding_around_a_small_field_is_not_background():
    rng = np.random.default_rng(0)
    image = rng.integers(10, 14, (96, 96, 3)).astype(np.uint8)
    other = np.zeros((96, 96, 3), np.uint8)
    other[24:72, 24:72] = rng.integers(30, 34, (48, 48, 3))
    labels = np.zeros((96, 96), np.int32)
    labels[40:56, 40:56] = 1
    composed, moved = augmentation.copy_paste(
        image, 0 * labels, other, labels, most_overlap=0.2, diameter_px=16.0
    )
    around = (moved.numpy() == 0)[..., np.newaxis] & np.ones((1, 1, 3), bool)
    # There is no light around the cell, and its field's background is not added.
    np.testing.assert_allclose(composed.numpy()[around], image[around], atol=2)
