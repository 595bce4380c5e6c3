"""Tests of cellclass_tf.labels.sizes."""

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import sizes


def test_a_disc_has_its_diameter_back():
    rows, columns = np.ogrid[-60:61, -60:61]
    labels = (np.hypot(rows, columns) <= 50).astype(np.int32)
    (diameter,) = sizes.diameters_of(sizes.areas_of(labels))
    assert diameter == pytest.approx(100, abs=1)
    assert sizes.disc_area(diameter) == pytest.approx(labels.sum())
    (same,) = Cells.from_labels(labels, ("HEK",)).diameters_px
    assert same == diameter


def test_no_cell_has_no_area():
    assert sizes.areas_of(np.zeros((3, 3), int)).shape == (0,)
    assert sizes.diameters_of(np.empty(0)).shape == (0,)


def test_the_feret_diameter_is_the_longest_way_through_a_cell():
    labels = np.zeros((30, 60), np.int32)
    labels[3, 5:55] = 1
    labels[10:12, 5:7] = 2
    labels[20, 20] = 3
    # An L has its longest way outside of it.
    labels[14:28, 40] = labels[27, 40:58] = 4
    found = sizes.feret_diameters(Cells.from_labels(labels, ("HEK",)))
    assert found[0] == 50 and found[2] == 1
    assert found[1] == pytest.approx(np.hypot(2, 1))
    assert found[3] == pytest.approx(np.hypot(13.5, 17.5), abs=0.3)
