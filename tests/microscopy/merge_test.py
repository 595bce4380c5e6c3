"""Tests of cellclass_tf.microscopy.merge."""

import numpy as np
import pytest

from cellclass_tf import files
from cellclass_tf.micrograph import Micrograph
from cellclass_tf.microscopy import merge


def field(*names, pixels=None, is_rgb=False):
    if pixels is None:
        pixels = np.zeros((len(names), 4, 5), np.uint16)
    return Micrograph(pixels, names, file="a.tif", is_rgb=is_rgb)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("DAPI", "GFP"), (0, 1)),
        (("FITC confocal", "Hoechst 33342"), (1, 0)),
        # Of two channels the other one is the other kind.
        (("anything", "dapi"), (1, 0)),
        (("brightfield", "GFP", "DAPI"), (2, 1)),
    ],
)
def test_channels_are_found_by_name(names, expected):
    assert merge.choose_channels(field(*names)) == expected


@pytest.mark.parametrize("names", [("", ""), ("DAPI", "Hoechst"), ("a", "b", "DAPI")])
def test_a_doubt_is_refused_with_the_channels_listed(names):
    with pytest.raises(
        files.InputError, match="a.tif: which channel is which.*--nuclei"
    ):
        merge.choose_channels(field(*names))


def test_names_and_indices_of_the_user_count_first():
    assert merge.choose_channels(field("DAPI", "GFP"), nuclei="gfp", cytoplasm=0) == (
        1,
        0,
    )
    assert merge.choose_channels(field("", ""), nuclei="1", cytoplasm="0") == (1, 0)
    assert merge.choose_channels(field("488", "405"), nuclei=405, cytoplasm=488) == (
        1,
        0,
    )
    with pytest.raises(files.InputError, match="no channel 'Cy5'; it has 0: DAPI"):
        merge.choose_channels(field("DAPI", "GFP"), nuclei="Cy5")


def test_one_channel_is_refused():
    with pytest.raises(files.InputError, match="expected two channels"):
        merge.choose_channels(field("DAPI"))


def test_a_merged_picture_comes_back_as_it_was():
    pixels = np.random.default_rng(0).integers(0, 255, (3, 6, 7), np.uint8)
    pixels[0] = 0
    picture = field("red", "green", "blue", pixels=pixels, is_rgb=True)
    merged = merge.merge_channels(picture, limits=((0, 255), (0, 255)))
    np.testing.assert_array_equal(merged, np.moveaxis(pixels, 0, -1))


def test_a_picture_with_red_in_it_is_refused():
    pixels = np.ones((3, 4, 5), np.uint8)
    with pytest.raises(files.InputError, match="red channel is not empty"):
        merge.choose_channels(field("red", "green", "blue", pixels=pixels, is_rgb=True))


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
