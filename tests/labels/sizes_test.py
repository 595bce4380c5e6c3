"""Tests of cellclass_tf.labels.sizes."""

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import sizes


def test_the_diameter_of_a_disc_follows_from_its_area():
    rows, columns = np.ogrid[-60:61, -60:61]
    labels = (np.hypot(rows, columns) <= 50).astype(np.int32)
    (diameter,) = sizes.diameters_of(sizes.areas_of(labels))
    assert diameter == pytest.approx(100, abs=1)
    assert sizes.disc_area(diameter) == pytest.approx(labels.sum())
    (same,) = Cells.from_labels(labels, ("HEK",)).diameters_px
    assert same == diameter


def test_an_image_without_cells_has_no_areas():
    assert sizes.areas_of(np.zeros((3, 3), int)).shape == (0,)
    assert sizes.diameters_of(np.empty(0)).shape == (0,)
