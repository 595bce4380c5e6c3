"""Tests of cellclass_tf.labels.neighbours."""

import numpy as np

from cellclass_tf.labels import neighbours


def test_cells_with_two_pixels_between_them_are_neighbours_and_with_three_not():
    for gap in range(5):
        row = np.zeros((3, 12), np.int32)
        row[:, :4], row[:, 4 + gap :] = 1, 2
        for labels in (row, row.T):
            found = neighbours.neighbours(np.ascontiguousarray(labels)).tolist()
            assert found == ([[1, 2]] if gap <= 2 else [])


def test_pairs_equal_those_of_dilated_cells(monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.zeros((90, 70), np.int32)
    for number in range(1, 60):
        y, x = rng.integers(0, (88, 68))
        labels[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = number
    found = set(map(tuple, neighbours.neighbours(labels).tolist()))
    # All pairs of pixels of two cells are compared.
    places, expected = np.argwhere(labels), set()
    for place in places:
        near = places[((places - place) ** 2).sum(axis=1) <= 9]
        ids = labels[tuple(near.T)]
        expected |= {(labels[tuple(place)], i) for i in ids if i > labels[tuple(place)]}
    assert found == expected
    assert len(found) > 10
    # Strips of a few rows give the same pairs.
    monkeypatch.setattr(neighbours, "_STRIP_PIXELS", 7 * 70)
    assert set(map(tuple, neighbours.neighbours(labels).tolist())) == expected


def test_the_nearest_distance_is_that_to_another_cell():
    found = neighbours.nearest_px(np.array([[0.0, 0], [3, 4], [3, 5]]))
    assert found.tolist() == [5, 1, 1]
    assert np.isnan(neighbours.nearest_px(np.zeros((1, 2)))).all()
    assert neighbours.nearest_px(np.zeros((0, 2))).shape == (0,)
