"""Tests of cellclass_tf.drawing.palette, for readers with any colour vision."""

import numpy as np
import pytest
from skimage import color

from cellclass_tf.drawing import palette
from tests import colour_vision

# The cytoplasm from half brightness on, and nuclei; what outlines are drawn on.
GREENS = [(0, level, 0) for level in (128, 160, 192, 224, 255)]
BLUES = [(0, 0, level) for level in (128, 192, 255)]
SAFE_ON_DARK = palette.ON_DARK[: palette.SAFE_TYPES]
SAFE_ON_WHITE = palette.ON_WHITE[: palette.SAFE_TYPES]
# The colours of earlier versions, of Okabe and Ito, and Tol.
FORMER = [(230, 159, 0), (204, 121, 167), (240, 228, 66), (213, 94, 0), (86, 180, 233)]


def least_visible(colours, grounds, vision):
    return colour_vision.differences(colours, grounds, vision).min()


def least_apart(colours, vision):
    found = colour_vision.differences(colours, colours, vision)
    return found[np.triu_indices(len(colours), 1)].min()


@pytest.mark.parametrize("vision", colour_vision.VISIONS)
def test_outlines_stand_out_from_cells_and_background(vision):
    assert least_visible(SAFE_ON_DARK, GREENS, vision) > 12
    assert least_visible(SAFE_ON_DARK, BLUES, vision) > 10
    assert least_visible(SAFE_ON_DARK, [palette.BLACK], vision) > 30
    others = [*palette.ON_DARK, palette.UNKNOWN]
    assert least_visible(others, [*GREENS, palette.BLACK], vision) > 10


def test_the_former_orange_and_yellow_looked_like_green_to_deuteranopes():
    found = colour_vision.differences(FORMER, GREENS, "deuteranopia").min(axis=1)
    assert (found[[0, 2, 3]] < 5).all()


@pytest.mark.parametrize("vision", colour_vision.VISIONS)
def test_six_types_and_unknown_cells_can_be_distinguished(vision):
    assert palette.SAFE_TYPES >= 6
    assert least_apart([*SAFE_ON_DARK, palette.UNKNOWN], vision) > 13
    assert least_apart(SAFE_ON_WHITE, vision) > 13
    assert least_apart(palette.GROUPS_ON_WHITE, vision) > 10


def test_normal_vision_tells_ten_types_apart():
    assert len(palette.ON_DARK) == len(palette.ON_WHITE) == 10
    assert least_apart([*palette.ON_DARK, palette.UNKNOWN], "normal") > 12
    assert least_apart(palette.ON_WHITE, "normal") > 12


def test_colours_for_charts_stand_out_from_paper():
    ratios = [
        colour_vision.contrast(chart, palette.WHITE) for chart in palette.ON_WHITE
    ]
    # What WCAG 2.2 asks of graphical objects (1.4.11).
    assert min(ratios) > 3


def test_a_type_has_similar_hues_on_dark_and_on_white():
    dark, white = (
        color.lab2lch(color.rgb2lab(np.array(colours, np.uint8)))[:, 2]
        for colours in (palette.ON_DARK, palette.ON_WHITE)
    )
    apart = np.degrees(np.abs((dark - white + np.pi) % (2 * np.pi) - np.pi))
    assert apart.max() < 20, apart


def test_colours_repeat_and_unknown_has_its_own():
    assert palette.colour_of_type(1) == palette.colour_of_type(11) == palette.PINK
    assert palette.colour_on_white(1) == palette.colour_on_white(11)
    assert palette.colour_of_type(0) == palette.colour_on_white(0) == palette.UNKNOWN
    assert palette.hex_of((255, 0, 10)) == "#ff000a"
