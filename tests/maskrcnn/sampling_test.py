"""Tests of cellclass_tf.maskrcnn.sampling."""

import numpy as np

from cellclass_tf.maskrcnn import sampling


def sampled(cells, most, seed=0):
    """Returns the numbers of the cells that are kept, for each type."""
    sample = sampling.TypeSample(2, most, np.random.default_rng(seed))
    kept = [[], []]
    for number, kind in enumerate(cells):
        place = sample.place_for(kind)
        if place is not None:
            kept[kind][place : place + 1] = [number]
    return kept


def test_all_cells_are_kept_in_order_if_there_are_few():
    assert sampled([0, 1, 1, 0, 1], 8) == [[0, 3], [1, 2, 4]]


def test_types_get_the_same_room_however_many_cells_they_have():
    kept = sampled([0] * 500 + [1] * 7, 40)
    assert [len(cells) for cells in kept] == [20, 7]
    assert len(set(kept[0])) == 20


def test_every_cell_is_kept_with_the_same_probability():
    counts = np.zeros(30)
    for seed in range(2000):
        np.add.at(counts, sampled([0] * 30, 20, seed)[0], 1)
    # A third of the cells; four standard deviations.
    assert np.abs(counts / 2000 - 1 / 3).max() < 0.045
