"""Tests of cellclass_tf.core.micrograph."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf.core.micrograph import Micrograph, pixel_size_ratio

PIXELS = np.arange(30, dtype=np.uint16).reshape(2, 3, 5)


def test_the_size_is_that_of_one_plane():
    assert Micrograph(PIXELS, ("DAPI", "GFP")).size_yx == (3, 5)


@pytest.mark.parametrize(
    ("pixels", "names", "told"),
    [
        (PIXELS, ("DAPI",), r"\(2, 3, 5\) and 1 names"),
        (PIXELS[0], ("a", "b", "c"), r"\(3, 5\) and 3 names"),
        (PIXELS[None], ("a",), r"\(1, 2, 3, 5\) and 1 names"),
    ],
)
def test_the_number_of_channel_names_must_match_the_planes(pixels, names, told):
    with pytest.raises(ValueError, match=told):
        Micrograph(pixels, names)


def test_a_copy_with_other_pixels_is_checked_too():
    one = Micrograph(PIXELS, ("DAPI", "GFP"), file="a.tif")
    half = dataclasses.replace(one, pixels=PIXELS[:, :2])
    assert (half.size_yx, half.file) == ((2, 5), "a.tif")
    with pytest.raises(ValueError, match="C channel names"):
        dataclasses.replace(one, pixels=PIXELS[:1])


def test_micrographs_are_compared_as_objects_not_pixel_by_pixel():
    one, same = (Micrograph(PIXELS, ("DAPI", "GFP")) for _ in range(2))
    assert one != same
    assert len({one, same, one}) == 2


def test_the_ratio_of_pixel_sizes_is_1_if_one_is_unknown():
    assert pixel_size_ratio(0.5, 0.25) == 2.0
    for sizes in ((None, 0.25), (0.5, 0.0), (0.0, None)):
        assert pixel_size_ratio(*sizes) == 1.0
