"""Tests of cellclass_tf.labels.grey_levels."""

import numpy as np
import pytest

from cellclass_tf.labels import grey_levels, runs


@pytest.mark.parametrize("at_once", [90, 1 << 20])
def test_counted_levels_equal_a_histogram_of_the_pixels(at_once, monkeypatch):
    monkeypatch.setattr(runs, "_PIXELS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    # A channel of a merged image is not contiguous in memory.
    channel = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)[..., 1]
    labels = rng.integers(0, 3, (30, 40))
    outside = grey_levels.levels_outside(channel, labels)
    assert (outside == np.bincount(channel[labels == 0], minlength=256)).all()
    every = grey_levels.levels_of(channel)
    assert (every == np.bincount(channel.ravel(), minlength=256)).all()
    inside = grey_levels.levels_inside(channel, labels)
    assert (inside == np.bincount(channel[labels > 0], minlength=256)).all()


@pytest.mark.parametrize("values", [[3], [3, 9], [0, 0, 255], [1, 2, 7, 9], [5] * 6])
@pytest.mark.parametrize("percent", [0, 10, 50, 99.8, 100])
def test_a_percentile_equals_that_of_numpy(values, percent):
    levels = np.bincount(values, minlength=256)
    found = grey_levels.percentile_of(levels, percent)
    assert found == pytest.approx(np.percentile(values, percent))


def test_without_pixels_a_percentile_is_not_a_number():
    assert np.isnan(grey_levels.percentile_of(np.zeros(256, np.int64), 50))


@pytest.mark.parametrize("at", [np.s_[:16], np.s_[:, 24:48], np.s_[8:24, 16:32]])
def test_black_areas_are_left_out(at):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 4, (45, 50, 3)).astype(np.uint8)
    image[..., 0] = 0
    image[40:, :8], image[2] = 0, 0
    expected = grey_levels.levels_of(image[..., 1])
    assert (grey_levels.levels_of_field(image, 1) == expected).all()
    # The last rows and columns, which fill no square, count as imaged.
    whole = np.zeros((45, 50), bool)
    whole[at] = True
    whole[40:], whole[:, 48:] = False, False
    image[whole] = 0
    found = grey_levels.levels_of_field(image, 1)
    assert found.sum() == image[..., 0].size - whole.sum()
    assert (found == grey_levels.levels_outside(image[..., 1], whole)).all()


def test_of_a_black_image_every_pixel_counts():
    assert grey_levels.levels_of_field(np.zeros((16, 8, 3), np.uint8), 2)[0] == 128
