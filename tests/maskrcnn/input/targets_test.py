"""Tests of cellclass_tf.maskrcnn.input.targets."""

import numpy as np
import tensorflow as tf

from cellclass_tf.maskrcnn.input import targets

# Cell 1: rows 1-2, columns 1-4. Cell 3: one pixel. Cell 2 is outside this crop.
LABELS = np.zeros((6, 8), np.int32)
LABELS[1:3, 1:5] = 1
LABELS[5, 7] = 3


def test_boxes_enclose_the_visible_pixels():
    ids, boxes = targets.visible_cells(LABELS, np.array([8, 50, 1]), 0.3)
    np.testing.assert_array_equal(ids, [1, 3])
    np.testing.assert_array_equal(boxes, [[1, 1, 3, 5], [5, 7, 6, 8]])


def test_a_cell_cut_to_a_sliver_is_not_a_target():
    # 8 of 27 pixels are visible, less than 0.3; 8 of 26 are more than 0.3.
    assert targets.visible_cells(LABELS, np.array([27, 50, 9]), 0.3)[0].shape == 0
    np.testing.assert_array_equal(
        targets.visible_cells(LABELS, np.array([26, 50, 9]), 0.3)[0], [1]
    )


def test_masks_equal_the_pixels_of_the_label_image():
    labels = np.zeros((6, 8), np.int32)
    labels[1:5, 2:6] = 2
    labels[2, 3] = 1
    masks = targets.masks_in_boxes(
        labels, tf.constant([2, 1]), tf.constant([[1.0, 2, 5, 6], [2.0, 3, 3, 4]]), 8
    )
    # A box of 4 x 4 px seen at 8 x 8: every pixel is four samples.
    expected = np.kron((labels[1:5, 2:6] == 2).astype(np.float32), np.ones((2, 2)))
    np.testing.assert_array_equal(masks[0], expected)
    np.testing.assert_array_equal(masks[1], np.ones((8, 8)))
