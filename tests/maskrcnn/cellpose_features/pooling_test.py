"""Tests of cellclass_tf.maskrcnn.cellpose_features.pooling."""

import numpy as np
import pytest

from cellclass_tf.maskrcnn.cellpose_features import pooling


def encode(planes):
    """Returns the planes, and their means over squares of 2 x 2 pixels."""
    batch, height, width, channels = planes.shape
    squares = planes.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return {"level_0": planes, "level_1": squares.mean(axis=(2, 4))}


def field(shape=(90, 130), seed=0):
    """An image whose 1st and 99th percentiles are 0 and 250, and 6 cells."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 251, (*shape, 3)).astype(np.uint8)
    image[:, :2], image[:, -2:] = 0, 250
    labels = np.zeros(shape, np.int32)
    for n in range(6):
        labels[5 + 11 * n : 14 + 11 * n, 3 + 17 * n : 21 + 17 * n] = n + 1
    return image, labels


def test_features_are_means_and_standard_deviations_over_each_cell():
    image, labels = field()
    found = pooling.features_of(encode, image, labels, scale=1.0)
    assert found.shape == (6, 8)
    assert found.dtype == np.float32
    seen = image[..., 1:] / 250
    height, width = seen.shape[:2]
    coarse = seen.reshape(height // 2, 2, width // 2, 2, 2).mean(axis=(1, 3))
    coarse = coarse.repeat(2, axis=0).repeat(2, axis=1)
    for n in range(6):
        values = np.concatenate([seen, coarse], axis=-1)[labels == n + 1]
        np.testing.assert_allclose(found[n, :4], values.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(found[n, 4:], values.std(axis=0), atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 0.7, 1.6])
def test_tiles_do_not_change_the_features(monkeypatch, scale):
    image, labels = field()
    whole = pooling.features_of(encode, image, labels, scale=scale)
    monkeypatch.setattr(pooling, "_TILE_PX", 48)
    monkeypatch.setattr(pooling, "_MARGIN_PX", 8)
    calls = []

    def counted(planes):
        calls.append(planes.shape)
        return encode(planes)

    tiled = pooling.features_of(counted, image, labels, scale=scale)
    assert len(calls) > 4
    assert all(max(shape) <= 48 for shape in calls)
    assert all(side % 8 == 0 for shape in calls for side in shape[1:3])
    # Coarse pixels begin at the corner of a tile, and resampling at its border.
    level = tiled[:, [0, 1, 4, 5]], whole[:, [0, 1, 4, 5]]
    np.testing.assert_allclose(*level, atol=1e-3)
    np.testing.assert_allclose(tiled, whole, atol=0.08)


def test_features_do_not_depend_on_brightness():
    image, labels = field()
    darker = (image // 2 + 5).astype(np.uint8)
    first, second = (
        pooling.features_of(encode, seen, labels, scale=1.0) for seen in (image, darker)
    )
    np.testing.assert_allclose(first, second, atol=0.01)


def test_a_channel_that_is_left_out_or_has_no_contrast_is_0():
    image, labels = field()
    found = pooling.features_of(encode, image, labels, scale=1.0, grayscale=True)
    assert (found[:, 1::2] == 0).all()
    assert (found[:, ::2] > 0).all()
    image[..., 2] = 77
    np.testing.assert_array_equal(
        pooling.features_of(encode, image, labels, scale=1.0), found
    )


def test_a_cell_that_vanishes_has_no_features_and_changes_no_other():
    image, labels = field()
    before = pooling.features_of(encode, image, labels, scale=0.25)
    labels[88, 128] = 7
    found = pooling.features_of(encode, image, labels, scale=0.25)
    assert np.isnan(found[6]).all()
    np.testing.assert_array_equal(found[:6], before)


def test_cells_that_all_vanish_have_no_features():
    image, labels = field()
    labels[:] = 0
    labels[88, 128] = 1
    found = pooling.features_of(encode, image, labels, scale=0.25)
    assert found.shape == (1, 8)
    assert np.isnan(found).all()


@pytest.mark.parametrize("noise", [0, 3])
def test_features_do_not_depend_on_the_area_around_the_cells(noise):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :40]
    far = np.hypot(y - 20, x - 20)
    labels = np.zeros((40, 40), np.int32)
    labels[far < 15] = 1

    def features(width):
        image = rng.integers(0, noise + 1, (width, width, 3)).astype(np.uint8)
        image[:40, :40, 1][far < 15], image[:40, :40, 2][far < 9] = 120, 200
        whole = np.zeros((width, width), np.int32)
        whole[:40, :40] = labels
        return pooling.features_of(encode, image, whole, scale=1.0)

    # The cell fills 44 percent of one field, and less than one percent of the other.
    np.testing.assert_allclose(features(320), features(40), atol=0.06)


def test_black_areas_of_a_stitched_scan_do_not_change_the_features():
    image, labels = field((88, 136))
    image[..., 1:] = np.clip(image[..., 1:], 40, None)
    expected = pooling.features_of(encode, image, labels, scale=1.0)
    below = [(0, 32), (0, 0)]
    image, labels = np.pad(image, [*below, (0, 0)]), np.pad(labels, below)
    found = pooling.features_of(encode, image, labels, scale=1.0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_spreads_lose_no_digits_beside_large_means():
    image, labels = field()

    def shifted(planes):
        return {name: values * 0.01 + 50 for name, values in encode(planes).items()}

    plain = pooling.features_of(encode, image, labels, scale=1.0)
    found = pooling.features_of(shifted, image, labels, scale=1.0)
    np.testing.assert_allclose(found[:, 4:] * 100, plain[:, 4:], rtol=0.01)


@pytest.mark.parametrize(
    ("shape", "tiles", "side"),
    # Tiles of 96 px that share 16 px reach 96, 176 and 256 px.
    [((96, 50), 1, 96), ((100, 40), 2, 64), ((176, 100), 4, 96), ((177, 30), 3, 72)],
)
def test_tiles_are_no_larger_than_needed(monkeypatch, shape, tiles, side):
    monkeypatch.setattr(pooling, "_TILE_PX", 96)
    monkeypatch.setattr(pooling, "_MARGIN_PX", 8)
    shapes = []

    def recorded(planes):
        shapes.append(planes.shape[1:3])
        return encode(planes)

    image, labels = field(shape)
    labels[:] = 0
    labels[::4, ::4] = 1
    pooling.features_of(recorded, image, labels, scale=1.0)
    assert len(shapes) == tiles
    assert max(map(max, shapes)) == side
