"""Tests of cellclass_tf.labels.components."""

import numpy as np
import pytest

from cellclass_tf.labels import components

# Cell 1: 4 px and, apart, 1 px. Cell 2: two pixels that touch at a corner.
LABELS = np.array(
    [
        [1, 1, 0, 0, 2],
        [1, 1, 0, 2, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0],
    ]
)


def test_smaller_pieces_are_removed_and_corners_connect_pixels():
    labels = LABELS.copy()
    assert components.keep_largest_pieces(labels) == 1
    assert labels[3, 2] == 0
    assert (labels == 1).sum() == 4
    assert (labels == 2).sum() == 2


def test_holes_are_filled_on_request_except_where_another_cell_is():
    labels = np.ones((3, 5), int)
    labels[1, 1], labels[1, 3] = 0, 2
    unfilled = labels.copy()
    components.keep_largest_pieces(unfilled)
    assert unfilled[1, 1] == 0
    components.keep_largest_pieces(labels, fill_holes=True)
    assert labels[1].tolist() == [1, 1, 1, 2, 1]


def test_missing_numbers_of_cells_are_accepted():
    labels = np.array([[0, 7, 0, 7, 7]])
    assert components.keep_largest_pieces(labels) == 1
    assert labels.tolist() == [[0, 0, 0, 7, 7]]


def pieces(*boxes, size=100):
    """Returns label 5 in squares of (top, left, width)."""
    labels = np.zeros((size, size), np.uint64)
    for top, left, width in boxes:
        labels[top : top + width, left : left + width] = 2**40
    return labels


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64, np.int64])
def test_slips_of_the_pen_are_removed(dtype):
    # A piece of 400 px, and one of 9 px apart from it.
    labels = (pieces((10, 10, 20), (70, 70, 3)) > 0).astype(dtype) * dtype(200)
    assert components.mend_pieces(labels) == 9
    assert (labels == 200).sum() == 400


def test_a_piece_cut_off_by_another_cell_belongs_to_its_cell():
    labels = pieces((10, 10, 20), (15, 33, 10))
    before = labels.copy()
    assert components.mend_pieces(labels) == 0
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize(
    "boxes",
    [
        # A piece that is far away, and a piece that is near but as large.
        [(10, 10, 20), (15, 60, 10)],
        [(10, 10, 20), (10, 32, 20)],
    ],
)
def test_several_cells_with_one_number_are_rejected(boxes):
    with pytest.raises(ValueError, match=rf"number {2**40} is in 2 pieces, of 400 and"):
        components.mend_pieces(pieces(*boxes))
