"""Tests of outlines: exact, simple, and with the direction that tells holes apart."""

import numpy as np

from cellclass_tf.labels.outlines import inner_outlines, outlines_of, signed_area


def _fill(outlines, shape):
    """Fills outlines by the even-odd rule: counts the upright edges left of each pixel."""
    crossings = np.zeros(shape, int)
    for outline in outlines:
        for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, 0), strict=True):
            if x0 == x1:
                crossings[min(y0, y1) : max(y0, y1), x0:] += 1
    return crossings % 2 == 1


def _random_masks(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        shape = rng.integers(1, 12, 2)
        yield rng.random(shape) < rng.choice([0.2, 0.5, 0.8, 1.0])


def test_a_pixel_has_its_four_corners_clockwise():
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    (outline,) = outlines_of(mask)
    assert outline.tolist() == [[2, 1], [3, 1], [3, 2], [2, 2]]
    assert outline.dtype == np.int32
    assert signed_area(outline) == 1


def test_corners_on_straight_lines_are_dropped():
    # An L of 5 px: a column of 3 and, below, 2 more to the right.
    mask = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 1]], bool)
    (outline,) = outlines_of(mask)
    expected = [[0, 0], [1, 0], [1, 2], [3, 2], [3, 3], [0, 3]]
    assert outline.tolist() == expected


def test_a_hole_is_counter_clockwise():
    mask = np.ones((4, 5), bool)
    mask[1:3, 2] = False
    outer, hole = outlines_of(mask)
    assert [signed_area(outer), signed_area(hole)] == [20, -2]
    assert hole.tolist() == [[2, 1], [2, 3], [3, 3], [3, 1]]


def test_pixels_that_touch_at_a_corner_have_separate_outlines():
    for mask in (np.eye(2, dtype=bool), np.eye(2, dtype=bool)[::-1]):
        outlines = outlines_of(mask)
        assert [len(outline) for outline in outlines] == [4, 4]
        assert [signed_area(outline) for outline in outlines] == [1, 1]


def test_a_hole_that_touches_the_rim_at_a_corner_has_its_own_outline():
    mask = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    outer, hole = outlines_of(mask)
    # 7 px and the pixel that they enclose; the corner at the top left is outside.
    assert [signed_area(outer), signed_area(hole)] == [8, -1]


def test_an_empty_mask_has_no_outline():
    assert outlines_of(np.zeros((3, 3), bool)) == []
    assert outlines_of(np.zeros((0, 0), bool)) == []


def test_filled_outlines_equal_the_mask():
    for mask in _random_masks(400):
        outlines = outlines_of(mask)
        np.testing.assert_array_equal(_fill(outlines, mask.shape), mask)
        assert sum(map(signed_area, outlines)) == mask.sum()


def test_outlines_are_simple_and_turn_at_every_corner():
    for mask in _random_masks(400):
        for outline in outlines_of(mask):
            steps = np.roll(outline, -1, 0) - outline
            assert ((steps == 0).sum(axis=1) == 1).all()
            assert ((steps[:, 0] == 0) != (np.roll(steps, 1, 0)[:, 0] == 0)).all()
            assert len(np.unique(outline, axis=0)) == len(outline)
            assert min(map(tuple, outline[:, ::-1])) == tuple(outline[0, ::-1])


def test_views_and_masks_of_other_types_are_accepted():
    labels = np.zeros((6, 6), np.int32)
    labels[1:3, 2:5] = 7
    (outline,) = outlines_of((labels == 7).T)
    assert outline.tolist() == [[1, 2], [3, 2], [3, 5], [1, 5]]
    (outline,) = outlines_of(labels)
    assert signed_area(outline) == 6


def test_inner_outlines_are_at_the_requested_depth():
    (ring,) = inner_outlines(np.ones((20, 30), bool), 2.0)
    np.testing.assert_allclose(ring.min(axis=0), (2, 2))
    np.testing.assert_allclose(ring.max(axis=0), (28, 18))
    np.testing.assert_array_equal(ring[0], ring[-1])


def test_a_mask_that_is_too_small_for_the_depth_still_has_an_inner_outline():
    (ring,) = inner_outlines(np.ones((1, 1), bool), 5.0)
    assert 0 < ring.min() < ring.max() < 1
