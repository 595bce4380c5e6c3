"""Tests of cellclass_tf.maskrcnn.cell_namer.combining."""

import numpy as np
import pytest

from cellclass_tf.maskrcnn.cell_namer import combining


def test_result_is_one_of_two_networks_or_their_geometric_mean():
    detector, namer = np.float32([[0.8, 0.2]]), np.float32([[0.5, 0.5]])
    assert combining.combine(detector, namer, "detector") is detector
    assert combining.combine(detector, namer, "namer") is namer
    both = combining.combine(detector, namer, "both")
    assert both[0] == pytest.approx([2 / 3, 1 / 3], abs=1e-6)


def test_zero_cells_and_probabilities_of_zero_can_be_combined():
    assert combining.combine(*[np.zeros((0, 2), np.float32)] * 2, "both").shape == (
        0,
        2,
    )
    both = combining.combine(np.float32([[1, 0]]), np.float32([[0, 1]]), "both")
    assert both[0] == pytest.approx([0.5, 0.5])
