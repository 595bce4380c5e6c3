"""Fixtures for tests of interchange."""

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells

TYPES = ("HEK", "N2a")


@pytest.fixture
def cells():
    """Returns lobed cells, one of a single pixel, some at the borders; HEK, N2a, unknown."""
    y, x = np.mgrid[:90, :120]
    labels = np.zeros((90, 120), np.int32)
    for number, (cy, cx) in enumerate([(0, 0), (40, 30), (60, 80), (89, 119)], start=1):
        angle = np.arctan2(y - cy, x - cx)
        labels[np.hypot(y - cy, x - cx) < 14 + 3 * np.sin(5 * angle)] = number
    labels[5, 100] = 5
    names = ["HEK", "N2a", "unknown", "HEK", "N2a"]
    return Cells.from_labels(labels, TYPES, names)


@pytest.fixture
def odd_cells():
    """Returns a ring around a cell, and a cell in two pieces, one in a hole of the other."""
    labels = np.zeros((40, 60), np.int32)
    labels[5:30, 5:30] = 1
    labels[10:25, 10:25] = 0
    labels[12:20, 12:20] = 2
    labels[5:30, 35:58] = 3
    labels[8:27, 38:55] = 0
    labels[12:20, 42:50] = 3
    return Cells.from_labels(labels, TYPES, ["HEK", "N2a", "HEK"])
