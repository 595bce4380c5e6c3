"""Tests of cellclass_tf.labels.components."""

import numpy as np

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


def test_crumbs_go_and_corners_hold():
    labels = LABELS.copy()
    assert components.keep_largest_pieces(labels) == 1
    assert labels[3, 2] == 0
    assert (labels == 1).sum() == 4
    assert (labels == 2).sum() == 2


def test_second_largest_piece_is_measured():
    assert components.second_largest_pieces(LABELS) == {1: 1}


def test_holes_are_filled_where_asked_but_never_with_another_cell():
    labels = np.ones((3, 5), int)
    labels[1, 1], labels[1, 3] = 0, 2
    unfilled = labels.copy()
    components.keep_largest_pieces(unfilled)
    assert unfilled[1, 1] == 0
    components.keep_largest_pieces(labels, fill_holes=True)
    assert labels[1].tolist() == [1, 1, 1, 2, 1]


def test_numbers_that_are_missing_do_not_matter():
    labels = np.array([[0, 7, 0, 7, 7]])
    assert components.second_largest_pieces(labels) == {7: 1}
    assert components.keep_largest_pieces(labels) == 1
    assert labels.tolist() == [[0, 0, 0, 7, 7]]
