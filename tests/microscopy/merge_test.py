"""Tests of cellclass_tf.microscopy.merge."""

import numpy as np
import pytest

from cellclass_tf import errors
from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.microscopy import merge


def field(*names, pixels=None, is_rgb=False):
    if pixels is None:
        pixels = np.zeros((len(names), 4, 5), np.uint16)
    return Micrograph(pixels, names, file="a.tif", is_rgb=is_rgb)


def test_a_merged_image_is_not_changed():
    pixels = np.random.default_rng(0).integers(0, 255, (3, 6, 7), np.uint8)
    pixels[0] = 0
    picture = field("red", "green", "blue", pixels=pixels, is_rgb=True)
    merged = merge.merge_channels(picture, limits=((0, 255), (0, 255)))
    np.testing.assert_array_equal(merged, np.moveaxis(pixels, 0, -1))


def test_contrast_is_linear_between_the_limits_and_clips_beyond():
    pixels = np.array([[[0, 100, 200, 300]], [[0, 0, 0, 0]]], np.uint16)
    merged = merge.merge_channels(
        field("DAPI", "GFP", pixels=pixels), limits=((100, 200), (0, 1))
    )
    np.testing.assert_array_equal(merged[0, :, 2], [0, 0, 255, 255])
    np.testing.assert_array_equal(merged[..., 0], 0)


def test_limits_of_a_group_are_those_of_all_its_pixels():
    dark = np.zeros((2, 100, 100), np.uint16)
    bright = np.full((2, 100, 100), 1000, np.uint16)
    counts = [merge.histograms(field("", "", pixels=p), (0, 1)) for p in (dark, bright)]
    assert merge.contrast_limits(counts) == ((0, 1000), (0, 1000))


def test_a_few_bright_pixels_of_debris_do_not_set_the_limit():
    pixels = np.full((2, 100, 100), 500, np.uint16)
    # 4 of 10,000 pixels are fewer than the 5 that may clip.
    pixels[:, 0, :4] = 60_000
    counts = merge.histograms(field("", "", pixels=pixels), (0, 1))
    assert merge.contrast_limits([counts])[0] == (500, 501)


def test_a_black_margin_does_not_change_the_limits():
    rng = np.random.default_rng(0)
    pixels = rng.poisson(100, (2, 100, 100)).astype(np.uint16) + 20
    pixels[:, 40:60, 40:60] += 800
    padded = pixels.copy()
    # A stitched scan, of which one channel was shifted by three pixels.
    padded[:, :20], padded[1, :, :3] = 0, 0
    limits = merge.contrast_limits(
        [merge.histograms(field("", "", pixels=pixels), (0, 1))]
    )
    found = merge.contrast_limits(
        [merge.histograms(field("", "", pixels=padded), (0, 1))]
    )
    np.testing.assert_allclose(found, limits, atol=5)


@pytest.mark.parametrize(("mean", "step"), [(1, 1), (0.01, 1), (2, 257)])
def test_zeros_of_a_background_count(mean, step):
    # Subtracting the background leaves noise; a threshold leaves mostly zeros; and 8 bits
    # that were stretched to 16 leave gaps.
    pixels = np.random.default_rng(0).poisson(mean, (2, 100, 100)).astype(np.uint16)
    pixels[:, 40:60, 40:60] = 80
    pixels *= step
    counts = merge.histograms(field("", "", pixels=pixels), (0, 1))
    assert counts.sum() == 2 * 100 * 100


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32, np.int64])
def test_whole_numbers_of_all_types_keep_their_values(dtype):
    pixels = np.array([[[0, 100]], [[300, 4095]]], dtype)
    found = merge.with_whole_numbers(field("a", "b", pixels=pixels)).pixels
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "16.67% of the pixels are NaN or infinite"),
        (np.inf, "NaN or infinite"),
        (0.5, "whole grey values.*float32 from 0.5 to 1"),
        (-1, "from -1 to 1"),
        (70_000, "from 1 to 70000"),
    ],
)
def test_other_numbers_are_refused(value, message):
    pixels = np.ones((2, 1, 3), np.float32)
    pixels[1, 0, 2] = value
    with pytest.raises(errors.InputError, match=f"a.tif: .*{message}"):
        merge.merge_channels(field("DAPI", "GFP", pixels=pixels))
