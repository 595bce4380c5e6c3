"""Tests of cellclass_tf.drawing.overlay."""

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.drawing import caption, overlay, palette, picture

TYPES = ("HEK", "N2a")
PINK, BLUE = palette.ON_DARK[:2]


def _cells(width=900, probability=1.0):
    """Returns a HEK cell and an N2a cell that touches it on the right, 40 x 40 px each."""
    labels = np.zeros((200, width), np.int32)
    labels[50:90, 50:90] = 1
    labels[50:90, 90:130] = 2
    rest = 1 - probability
    probabilities = np.array([[probability, rest], [rest, probability]], np.float32)
    return Cells(
        labels, TYPES, np.array([1, 2], np.int32), np.ones(2, np.float32), probabilities
    )


def _draw(cells, **details):
    image = np.zeros((*cells.labels.shape, 3), np.uint8)
    return overlay.draw_overlay(image, cells, **details)


def _where(picture, colour, height=200):
    return (picture[:height] == colour).all(axis=-1)


def test_cells_are_outlined_within_their_own_pixels():
    picture = _draw(_cells())
    rim = np.zeros((200, 900), bool)
    rim[50:90, 50:90] = True
    # Outlines are 2 px wide up to 1,000 px.
    rim[52:88, 52:88] = False
    np.testing.assert_array_equal(_where(picture, PINK), rim)
    np.testing.assert_array_equal(_where(picture, BLUE), np.roll(rim, 40, axis=1))


def test_uncertain_cells_have_gaps_in_their_outlines():
    solid = _where(_draw(_cells(probability=0.7)), PINK)
    dashed = _where(_draw(_cells(probability=0.6)), PINK)
    assert not (dashed & ~solid).any()
    assert 0.4 < dashed.sum() / solid.sum() < 0.8


def test_cells_of_unknown_type_are_grey():
    cells = Cells.from_labels(_cells().labels, TYPES)
    picture = _draw(cells)
    assert _where(picture, palette.UNKNOWN).sum() == 2 * (40**2 - 36**2)


def test_image_and_cells_are_not_changed():
    cells = _cells()
    image = np.full((200, 900, 3), 90, np.uint8)
    before = cells.labels.copy()
    overlay.draw_overlay(image, cells)
    assert (image == 90).all()
    np.testing.assert_array_equal(cells.labels, before)


def test_the_caption_is_below_the_picture_and_names_the_types_in_use():
    picture = _draw(_cells(), name="mixed/a", pixel_size_um=0.5)
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 900
    strip = picture[200:]
    assert (strip == PINK).all(axis=-1).any()
    assert (strip == BLUE).all(axis=-1).any()


def test_the_scale_bar_has_a_round_length():
    # 900 px x 0.5 µm is 450 µm; a fifth is 90, so 50 µm, which is 100 px.
    with_bar = _draw(_cells(), pixel_size_um=0.5)[200:]
    white = (with_bar == 255).all(axis=-1)
    runs = [len(run) for row in white for run in "".join(map(str, row * 1)).split("0")]
    assert max(runs) == 100


@pytest.mark.parametrize(
    ("longest", "expected"), [(90, 50), (20, 20), (19.9, 10), (0.3, 0.2), (1, 1)]
)
def test_scale_bars_have_the_largest_round_length_that_fits(longest, expected):
    assert caption.round_length_um(longest) == pytest.approx(expected)


def test_small_fields_are_enlarged_with_their_scale():
    labels = np.zeros((100, 256), np.int32)
    labels[10:40, 10:40] = 1
    cells = Cells.from_labels(labels, TYPES, "HEK")
    picture = _draw(cells, name="a", pixel_size_um=1.0)
    # 256 px become 1,024 by four.
    assert picture.shape[1] == 1024
    assert picture.shape[0] > 400
    y, x = np.nonzero(_where(picture, PINK, 400))
    assert (y.min(), x.min(), y.max(), x.max()) == (40, 40, 159, 159)


def test_ten_types_have_ten_colours_and_fit():
    colours = {palette.colour_of_type(i) for i in range(11)}
    assert len(colours) == 11
    labels = np.zeros((50, 820), np.int32)
    for i in range(10):
        labels[10:30, 40 * i : 40 * i + 30] = i + 1
    names = [f"a rather long name {i}" for i in range(10)]
    picture = _draw(Cells.from_labels(labels, names, names), name="n" * 300)
    legend = picture[50:]
    assert all((legend == c).all(axis=-1).any() for c in palette.ON_DARK)


def test_field_without_cells_is_drawn():
    cells = Cells.from_labels(np.zeros((100, 900), np.int32), TYPES)
    assert not _where(_draw(cells), PINK, 100).any()


def test_dark_fields_are_brightened_and_noise_is_not():
    dark = np.zeros((100, 100, 3), np.uint8)
    dark[..., 1] = 5
    dark[40:60, 40:60, 1] = 100
    bright = picture.brighten(dark)
    # The background is black and the 99.8th percentile white.
    assert bright[0, 0, 1] == 0
    assert bright[50, 50, 1] == 255
    noise = np.zeros((100, 100, 3), np.uint8)
    noise[::2, ::2, 1] = 6
    # White is 48 at least: 255 (6 / 48)^0.7 = 59.5.
    assert picture.brighten(noise).max() == 59


def test_comparison_puts_truth_left_and_prediction_right():
    true = Cells.from_labels(_cells().labels, TYPES, "HEK")
    image = np.zeros((200, 900, 3), np.uint8)
    picture = overlay.comparison(image, true, _cells(probability=0.6), name="a")
    left, right = picture[:, :900], picture[:, -900:]
    assert picture.shape[1] > 1800
    # Below the title; legends show the colours of both.
    assert not (left[:200] == BLUE).all(axis=-1).any()
    assert (right[:200] == BLUE).all(axis=-1).any()


def test_an_image_of_another_size_is_rejected():
    with pytest.raises(
        ValueError, match=r"a: expected .*\(200, 900, 3\).*got \(2, 2, 3\)"
    ):
        overlay.draw_overlay(np.zeros((2, 2, 3), np.uint8), _cells(), name="a")


def test_a_comparison_of_types_in_another_order_is_rejected():
    true = Cells.from_labels(_cells().labels, TYPES[::-1], "HEK")
    with pytest.raises(ValueError, match="same types on both sides"):
        overlay.comparison(np.zeros((200, 900, 3), np.uint8), true, _cells())
