"""Tests of cellclass_tf.core.drawn_cells."""

import numpy as np

from cellclass_tf.core.drawn_cells import DrawnCell, labels_of_drawn


def test_the_smaller_of_two_overlapping_cells_gets_the_pixel():
    large = DrawnCell((0, 0), np.ones((2, 4), bool))
    small = DrawnCell((1, 3), np.ones((2, 1), bool))
    labels, contested = labels_of_drawn([small, large], (3, 5))
    expected = [[2, 2, 2, 2, 0], [2, 2, 2, 1, 0], [0, 0, 0, 1, 0]]
    np.testing.assert_array_equal(labels, expected)
    assert contested == 1


def test_a_mask_is_cropped_to_the_box_of_its_cell():
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2] = mask[2, 4] = True
    cell = DrawnCell.cut(mask)
    assert cell.corner_yx == (1, 2)
    np.testing.assert_array_equal(cell.mask, [[1, 0, 0], [1, 0, 1]])
    assert DrawnCell.cut(np.zeros((2, 2), bool)) is None
