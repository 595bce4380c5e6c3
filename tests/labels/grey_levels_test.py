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


@pytest.mark.parametrize("values", [[3], [3, 9], [0, 0, 255], [1, 2, 7, 9], [5] * 6])
def test_the_median_equals_that_of_numpy(values):
    levels = np.bincount(values, minlength=256)
    assert grey_levels.median_of(levels) == np.median(values)
