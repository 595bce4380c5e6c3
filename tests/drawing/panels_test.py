"""Tests of cellclass_tf.drawing.panels."""

import numpy as np
import pytest

from cellclass_tf.drawing import panels

IMAGE = np.zeros((2, 3, 3), np.uint8)
IMAGE[..., 1], IMAGE[..., 2] = 100, 40


@pytest.mark.parametrize(
    ("channels", "colours"),
    [
        ("magenta_green", [(40, 100, 40)]),
        ("merged", [(0, 100, 40)]),
        ("grey", [(100, 100, 100), (40, 40, 40)]),
        ("grey_cytoplasm", [(100, 100, 100)]),
        ("grey_nuclei", [(40, 40, 40)]),
    ],
)
def test_channels_have_the_requested_colours(channels, colours):
    shown = panels.panels_of(IMAGE, channels)
    assert len(shown) == panels.panel_count(channels)
    assert [tuple(panel.pixels[0, 0]) for panel in shown] == colours
    assert all((panel.pixels == panel.pixels[0, 0]).all() for panel in shown)


def test_only_panels_of_one_channel_have_titles():
    titles = [panel.title for panel in panels.panels_of(IMAGE, "grey")]
    assert titles == ["cytoplasm", "nuclei"]
    assert panels.panels_of(IMAGE, "magenta_green")[0].title == ""


@pytest.mark.parametrize(
    ("width_px", "factors"),
    # One inch: 300 px are just enough, 599 not yet enough to halve them.
    [(100, (3, 1)), (299, (2, 1)), (300, (1, 1)), (599, (1, 1)), (10_000, (1, 33))],
)
def test_whole_blocks_of_pixels_give_300_dpi(width_px, factors):
    assert panels.pixel_factor(width_px, 25.4) == factors


def test_blocks_cut_by_the_edge_are_averaged_too():
    image = np.zeros((2, 3, 3), np.uint8)
    image[:, 0], image[:, 2] = 100, 60
    assert panels.averaged(image, 2)[..., 0].tolist() == [[50, 60]]
    assert panels.averaged(image, 1) is image
