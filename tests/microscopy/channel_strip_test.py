"""Tests of cellclass_tf.microscopy.channel_strip."""

import numpy as np
import pytest

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.microscopy import channel_strip


def strip(count, shape=(64, 80), dtype=np.uint16, emissions=()):
    pixels = np.random.default_rng(0).integers(0, 200, (count, *shape)).astype(dtype)
    return channel_strip.draw(
        Micrograph(pixels, ("",) * count, emissions, file="a.tif")
    )


@pytest.mark.parametrize("count", [1, 2, 5, 6, 30])
def test_channels_are_drawn_in_rows_of_five(count):
    picture = strip(count)
    rows = -(-min(count, 20) // 5)
    assert picture.shape[0] == rows * 442 + 72
    assert picture.shape[1] == max(2, min(count, 5)) * 374 + 14


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_dark_channel_is_stretched(dtype):
    assert strip(2, dtype=dtype).max() == 255


def test_emissions_are_shown():
    assert not np.array_equal(strip(2), strip(2, emissions=(461.0, None)))


def test_a_constant_and_a_narrow_channel_are_drawn():
    pixels = np.zeros((2, 16, 4000), np.uint16)
    assert channel_strip.draw(Micrograph(pixels, ("a", "b"))).ndim == 3
