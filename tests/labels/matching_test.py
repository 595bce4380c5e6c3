"""Tests of cellclass_tf.labels.matching."""

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import matching


def _random_labels(rng, count=25, side=48):
    """Returns random rectangles; later ones cover earlier ones."""
    labels = np.zeros((side, side), np.int32)
    for label in range(1, count + 1):
        top, left = rng.integers(0, side - 4, 2)
        height, width = rng.integers(4, 14, 2)
        labels[top : top + height, left : left + width] = label
    return Cells.from_labels(labels, ()).labels


def _disturbed(rng, labels):
    """Returns labels moved by up to 2 px, with some cells left out and renumbered."""
    moved = np.roll(labels, rng.integers(-2, 3, 2), (0, 1))
    moved = np.where(rng.random(labels.max() + 1)[moved] < 0.2, 0, moved)
    return Cells.from_labels(moved, ()).labels


def test_the_iou_matrix_equals_that_of_dense_masks():
    rng = np.random.default_rng(0)
    true = _random_labels(rng)
    predicted = _disturbed(rng, true)
    a = true.ravel() == np.arange(1, true.max() + 1)[:, None]
    b = predicted.ravel() == np.arange(1, predicted.max() + 1)[:, None]
    shared = a.astype(int) @ b.T.astype(int)
    union = a.sum(axis=1)[:, None] + b.sum(axis=1) - shared
    dense = matching.iou_matrix(true, predicted).toarray()
    np.testing.assert_allclose(dense, shared / union)


def test_a_large_field_is_counted_in_strips(monkeypatch):
    rng = np.random.default_rng(1)
    true = _random_labels(rng)
    whole = matching.iou_matrix(true, true[::-1]).toarray()
    monkeypatch.setattr(matching, "_STRIP_PIXELS", 48 * 5)
    np.testing.assert_array_equal(
        matching.iou_matrix(true, true[::-1]).toarray(), whole
    )


def test_cells_match_one_to_one():
    true = np.array([[1, 1, 1, 1, 0, 2, 2, 3]])
    predicted = np.array([[2, 2, 2, 0, 0, 1, 0, 0]])
    matches = matching.match_cells(true, predicted)
    # 1-2 share 3 of 4 pixels, 2-1 share 1 of 2; cell 3 has none.
    np.testing.assert_array_equal(matches.pairs, [[1, 2], [2, 1]])
    np.testing.assert_array_equal(matches.ious, [0.75, 0.5])
    np.testing.assert_array_equal(matches.missed, [3])
    assert matches.invented.size == 0


def test_a_cell_that_covers_two_halves_matches_one_of_them():
    true = np.array([[1, 1, 2, 2]])
    matches = matching.match_cells(true, np.ones((1, 4), int))
    # Both halves have an IoU of exactly 0.5.
    assert matches.pairs.shape == (1, 2)
    assert len(matches.missed) == 1


def test_more_pairs_are_preferred_to_one_better_pair():
    # IoU: 1-1 2/5, 1-2 2/4, 2-2 1/3. The best pair alone would leave only itself.
    true = np.array([[1, 1, 1, 1, 0, 2, 0]])
    predicted = np.array([[1, 1, 2, 2, 0, 2, 1]])
    assert matching.iou_matrix(true, predicted).toarray().tolist() == [
        [2 / 5, 2 / 5],
        [0, 1 / 3],
    ]
    matches = matching.match_cells(true, predicted, 0.3)
    np.testing.assert_array_equal(matches.pairs, [[1, 1], [2, 2]])


@pytest.mark.parametrize("seed", range(5))
def test_the_threat_score_equals_the_average_precision_of_cellpose(seed):
    from cellpose import metrics

    rng = np.random.default_rng(seed)
    true = _random_labels(rng)
    predicted = _disturbed(rng, true)
    thresholds = [0.2, 0.5, 0.75, 0.9]
    theirs = metrics.average_precision([true], [predicted], thresholds)[0][0]
    ours = [matching.threat_score(true, predicted, iou) for iou in thresholds]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_field_compared_with_itself_matches_completely():
    labels = _random_labels(np.random.default_rng(3))
    assert matching.threat_score(labels, labels, 1) == 1


def test_fields_without_cells_have_a_score_of_zero_or_none():
    empty, one = np.zeros((3, 3), int), np.ones((3, 3), int)
    assert np.isnan(matching.threat_score(empty, empty))
    assert matching.threat_score(one, empty) == 0
    np.testing.assert_array_equal(matching.match_cells(empty, one).invented, [1])


def test_label_images_of_different_shapes_are_rejected():
    with pytest.raises(ValueError, match=r"one shape; got \(2, 3\) and \(3, 2\)"):
        matching.match_cells(np.zeros((2, 3), int), np.zeros((3, 2), int))


def test_a_threshold_out_of_range_is_rejected():
    with pytest.raises(ValueError, match="got 0"):
        matching.match_cells(np.zeros((2, 3), int), np.zeros((2, 3), int), 0)
