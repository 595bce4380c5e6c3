"""Tests of cellclass_tf.maskrcnn.views."""

import numpy as np
import pytest

from cellclass_tf.core.model_metadata import MOST_VIEWS
from cellclass_tf.maskrcnn import postprocessing, views
from cellclass_tf.maskrcnn.postprocessing import Detections

SHAPE = (30, 50)
BOX = np.array([[4.0, 20.0, 12.0, 44.0]], np.float32)


def detections(boxes, scores, masks=None, types=None):
    count = len(boxes)
    if masks is None:
        masks = np.ones((count, 8, 8), np.float16)
    if types is None:
        types = np.full((count, 2), 0.5, np.float32)
    return Detections(
        np.array(boxes, np.float32),
        np.array(scores, np.float32),
        np.array(types, np.float32),
        np.array(masks, np.float16),
        np.arange(count, dtype=np.float32)[:, np.newaxis],
    )


def test_there_are_as_many_views_as_a_model_may_ask_for():
    assert len(views._VIEWS) == MOST_VIEWS


@pytest.mark.parametrize("view", range(MOST_VIEWS))
def test_detections_in_a_view_are_transformed_back_to_the_field(view):
    """A drawn cell is the same after the field is rotated, cut out and rotated back."""
    field = np.zeros(SHAPE)
    # The shape differs from its mirror images.
    field[4:12, 20:44] = np.add.outer(np.arange(8), np.arange(24)) / 32
    seen = views.turned(field, view)
    (place,) = views.seen_boxes(BOX, view, SHAPE, seen.shape).astype(int)
    top, left, bottom, right = place
    assert seen[top:bottom, left:right].sum() == field.sum()
    whole = seen[top:bottom, left:right]
    small = whole[:, ::3] if whole.shape[1] > whole.shape[0] else whole[::3]
    found = detections([place], [0.9], [small])
    back = views.upright(found, view, seen.shape, SHAPE)
    np.testing.assert_array_equal(back.boxes_yxyx, BOX)
    # Every third sample is taken, starting at either end.
    difference = back.masks[0].astype(float) - field[4:12, 20:44:3]
    assert np.ptp(difference) < 2e-3
    assert abs(difference).max() < 0.08


@pytest.mark.parametrize("view", range(MOST_VIEWS))
def test_boxes_in_an_enlarged_view_are_transformed_back_to_the_field(view):
    turned_yx = views.turned(np.zeros(SHAPE), view).shape
    seen_yx = tuple(2 * side for side in turned_yx)
    place = views.seen_boxes(BOX, view, SHAPE, seen_yx)
    np.testing.assert_array_equal(
        place, 2 * views.seen_boxes(BOX, view, SHAPE, turned_yx)
    )
    back = views.upright(detections(place, [0.9]), view, seen_yx, SHAPE)
    np.testing.assert_array_equal(back.boxes_yxyx, BOX)


def test_half_of_two_four_and_eight_views_are_enlarged():
    zooms = np.array([views.zoom_of(view) for view in range(MOST_VIEWS)])
    assert zooms[0] == 1.0
    for count in (2, 4, 8):
        assert (zooms[:count] > 1).mean() == 0.5


def test_all_views_differ():
    field = np.arange(12).reshape(3, 4)
    seen = [views.turned(field, view).tobytes() for view in range(MOST_VIEWS)]
    assert len(set(seen)) == MOST_VIEWS
    assert views.turned(field, 1).shape == field.shape


def test_detections_of_a_cell_in_two_views_are_averaged():
    one = detections([[10, 10, 20, 20], [40, 10, 50, 20]], [0.9, 0.6])
    other = detections([[12, 10, 22, 20]], [0.3], types=[[0.9, 0.1]])
    found = views.merge([one, other])
    assert len(found.scores) == 2
    np.testing.assert_allclose(found.scores, [0.6, 0.3], rtol=1e-6)
    # Weighted by the scores, three to one.
    np.testing.assert_allclose(found.boxes_yxyx[0], [10.5, 10, 20.5, 20], rtol=1e-6)
    odds = np.sqrt(np.sqrt(9))
    assert found.probabilities[0, 0] / found.probabilities[0, 1] == pytest.approx(odds)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-6)
    # 0.75 where only the mask with the higher score is 1, and 1 where both are.
    assert found.masks[0, 0, 4] == pytest.approx(0.75, abs=0.1)
    assert found.masks[0, 4, 4] == pytest.approx(1)


def test_two_cells_of_one_view_are_not_merged():
    crowded = [[10, 10, 20, 20], [11, 10, 21, 20]]
    found = views.merge([detections(crowded, [0.9, 0.8])] * 2)
    np.testing.assert_allclose(found.scores, [0.9, 0.8], rtol=1e-6)
    np.testing.assert_allclose(found.boxes_yxyx, crowded, rtol=1e-6)


def test_views_without_detections_lower_the_score():
    nothing = detections(np.zeros((0, 4)), [])
    found = views.merge([nothing, detections([[0, 0, 8, 8]], [0.8]), nothing, nothing])
    assert found.scores == pytest.approx([0.2])
    assert len(views.merge([nothing, nothing]).scores) == 0


def test_a_resampled_mask_keeps_its_position():
    mask = np.zeros((8, 8), np.float32)
    mask[2:6, 2:6] = 1
    moved = views._resampled(
        mask, np.array([0.0, 0, 16, 16]), np.array([-4.0, 0, 12, 16])
    )
    rows, columns = np.nonzero(moved > 0.5)
    assert (rows.min(), rows.max() + 1) == (4, 8)
    assert (columns.min(), columns.max() + 1) == (2, 6)
    shape = (32, 32)
    cells = [
        postprocessing.cells_from_detections(
            detections([box], [0.9], [m]), shape, ("a", "b")
        )
        for box, m in (([0.0, 0, 16, 16], mask), ([-4.0, 0, 12, 16], moved))
    ]
    shared = (cells[0].labels > 0) & (cells[1].labels > 0)
    assert shared.sum() / (cells[0].labels > 0).sum() > 0.9
