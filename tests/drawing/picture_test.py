"""Tests of cellclass_tf.drawing.picture."""

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.drawing import caption, picture

RED = (255, 0, 0)


def outlined(pen, size=40):
    """Returns a grey canvas with the outline of one square cell, whose corner is at 10, 10."""
    labels = np.zeros((60, 60), np.int32)
    labels[10 : 10 + size, 10 : 10 + size] = 1
    canvas = np.full((60, 60, 3), 90, np.uint8)
    picture.outline_cell(canvas, Cells.from_labels(labels, ("HEK",)), 0, 1, pen)
    return canvas


@pytest.mark.parametrize(
    ("width", "scale"), [(200, 4), (399, 3), (400, 2), (799, 2), (800, 1), (2000, 1)]
)
def test_narrow_fields_are_enlarged_by_the_least_whole_number(width, scale):
    image = np.zeros((3, width, 3), np.uint8)
    image[1, 5] = 200
    canvas, found = picture.canvas_of(image)
    assert found == scale
    assert canvas.shape == (3 * scale, width * scale, 3)
    rows, columns = np.nonzero(canvas.any(axis=-1))
    assert rows.size == scale**2
    assert (rows.min(), columns.min()) == (scale, 5 * scale)


def test_an_outline_has_a_dark_line_along_its_inside():
    canvas = outlined(picture.Pen(RED, width=3))
    # Red for three pixels, then a third of the brightness, then as it was.
    assert (canvas[30, 10:13] == RED).all()
    assert (canvas[30, 13] == 30).all()
    assert (canvas[30, 14:46] == 90).all()
    assert (canvas[30, :10] == 90).all()


def test_dashes_have_about_the_requested_length():
    def dashes(length):
        canvas = outlined(picture.Pen(RED, width=1, dash=length))
        top, right = canvas[10, 10:49], canvas[10:49, 49]
        bottom, left = canvas[49, 49:10:-1], canvas[49:10:-1, 10]
        rim = np.concatenate([top, right, bottom, left])
        red = (rim == RED).all(axis=-1)
        assert (rim[~red] == 30).all()
        return np.count_nonzero(red & ~np.roll(red, 1))

    # A disc of 1,600 px is 142 px around, dashes and gaps of 12 px are 6 pairs; there
    # are four at least.
    assert dashes(12) == 6
    assert dashes(6) == 12
    assert dashes(100) == 4


def test_panels_of_any_height_are_aligned_at_the_top():
    low, high = np.full((2, 3, 3), 200, np.uint8), np.full((5, 4, 3), 100, np.uint8)
    row = picture.side_by_side([low, high])
    assert row.shape == (5, 3 + 12 + 4, 3)
    assert row.dtype == np.uint8
    assert (row[:2, :3] == 200).all()
    assert (row[:, 15:] == 100).all()
    assert (row[2:, :3] == caption.BACKGROUND).all()
    assert (row[:, 3:15] == caption.BACKGROUND).all()


def test_a_field_full_of_cells_keeps_them_when_brightened():
    full = np.full((20, 20, 3), 100, np.uint8)
    full[:10] = 200
    # Black is 32 at most, not the 10th percentile of 100: 255 (68 / 168)^0.7 = 135.4.
    assert (picture.brighten(full)[10:] == 135).all()
    assert (picture.brighten(full)[:10] == 255).all()


@pytest.mark.parametrize(
    ("size_yx", "width"), [((10, 20), 2), ((1200, 400), 3), ((400, 4000), 10)]
)
def test_outlines_are_wider_in_large_pictures(size_yx, width):
    assert picture.outline_width(size_yx) == width
