"""Tests of cellclass_tf.maskrcnn.postprocessing."""

import numpy as np

from cellclass_tf.maskrcnn import postprocessing

TYPES = ("HEK", "N2a")


def detections(boxes, scores, masks=None, probabilities=None):
    count = len(boxes)
    if masks is None:
        masks = np.ones((count, 4, 4))
    if probabilities is None:
        probabilities = np.tile([0.9, 0.1], (count, 1))
    return postprocessing.Detections(
        np.array(boxes, np.float32),
        np.array(scores, np.float32),
        np.array(probabilities, np.float32),
        np.array(masks, np.float16),
        np.zeros((count, 0), np.float32),
    )


def test_a_full_mask_fills_its_box_and_no_more():
    found = postprocessing.cells_from_detections(
        detections([[1, 2, 4, 6]], [0.9]), (6, 8), TYPES
    )
    expected = np.zeros((6, 8))
    expected[1:4, 2:6] = 1
    np.testing.assert_array_equal(found.labels, expected)
    assert found.cell_types == ("HEK",)


def test_a_disc_is_recovered_from_its_mask():
    rows, columns = np.mgrid[:40, :40] + 0.5
    disc = (rows - 20) ** 2 + (columns - 20) ** 2 <= 15**2
    samples = (np.arange(28) + 0.5) / 28 * 30 + 5
    mask = (samples[:, None] - 20) ** 2 + (samples[None] - 20) ** 2 <= 15**2
    found = postprocessing.cells_from_detections(
        detections([[5, 5, 35, 35]], [1], mask[None]), (40, 40), TYPES
    )
    both = np.sum(disc & (found.labels == 1))
    # Smoothing removes a few pixels where the disc touches its box.
    assert both / np.sum(disc | (found.labels == 1)) > 0.95


def test_a_duplicate_detection_keeps_the_type_with_the_higher_score():
    found = postprocessing.cells_from_detections(
        detections(
            [[0, 0, 10, 10], [0, 1, 10, 11]],
            [0.6, 0.9],
            probabilities=[[0.9, 0.1], [0.2, 0.8]],
        ),
        (12, 12),
        TYPES,
    )
    assert found.cell_types == ("N2a",)
    assert found.areas_px.tolist() == [100]


def test_overlapping_pixels_go_to_the_cell_with_the_higher_mask_value():
    # Two boxes overlap in columns 8 and 9; the right mask has larger values there.
    masks = np.stack([np.full((4, 4), 0.6), np.full((4, 4), 0.9)])
    found = postprocessing.cells_from_detections(
        detections([[0, 0, 10, 10], [0, 8, 10, 20]], [0.9, 0.8], masks), (10, 20), TYPES
    )
    assert found.areas_px.tolist() == [80, 120]


def test_equal_neighbours_are_divided_half_way_and_cells_are_one_piece():
    # Both masks are full; the boxes share columns 8 to 11 of 20.
    found = postprocessing.cells_from_detections(
        detections([[0, 0, 10, 12], [0, 8, 10, 20]], [0.9, 0.8]), (10, 20), TYPES
    )
    np.testing.assert_array_equal(found.labels[5], [1] * 10 + [2] * 10)


def test_separate_pixels_are_removed_and_holes_filled():
    mask = np.ones((20, 20))
    mask[:8, 4:8] = mask[4:8, :8] = 0  # cuts off the corner
    mask[12:16, 12:16] = 0  # a hole
    found = postprocessing.cells_from_detections(
        detections([[0, 0, 20, 20]], [1], mask[None]), (20, 20), TYPES
    )
    assert (found.labels[12:16, 12:16] == 1).all()
    assert not found.labels[:4, :4].any()


def test_cells_at_and_beyond_the_border_are_cut():
    found = postprocessing.cells_from_detections(
        detections([[-3, -3, 4, 4], [8, 8, 14, 14]], [0.9, 0.9]), (10, 10), TYPES
    )
    assert found.areas_px.tolist() == [16, 4]


def test_outlines_are_smooth_and_leave_no_gap_between_neighbours():
    labels = np.zeros((60, 90), np.int32)
    labels[10:50, 10:45], labels[10:50, 45:80] = 1, 2
    labels[28:30, 45:56] = 1  # a tongue into the neighbour
    labels[28:30, 80:88] = 2  # and one into the background
    smooth = postprocessing._with_smooth_outlines(labels)
    assert (smooth[28:30, 50:56] == 2).all()
    assert not smooth[28:30, 84:].any()
    assert (smooth[14:46, 14:76] > 0).all()
    before, after = np.bincount(labels.ravel()), np.bincount(smooth.ravel())
    np.testing.assert_allclose(after[1:], before[1:], rtol=0.03)
