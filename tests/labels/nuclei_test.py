"""Tests of cellclass_tf.labels.nuclei."""

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import nuclei


def field(seed=0):
    """Returns cells of 40 px with dim and bright nuclei of 20 px, and one without a nucleus."""
    y, x = np.mgrid[:60, :180]
    labels, light = np.zeros((60, 180), np.int32), np.full((60, 180), 20.0)
    for number, brightness in enumerate((200, 60, 0)):
        far = np.hypot(y - 30, x - 30 - 60 * number)
        labels[far < 25] = number + 1
        light[far < 10] += brightness
    light += np.random.default_rng(seed).normal(0, 2, light.shape)
    return np.clip(light, 0, 255).astype(np.uint8), labels


def test_the_size_of_a_nucleus_does_not_depend_on_its_brightness():
    light, labels = field()
    found = nuclei.nuclei_of(light, Cells.from_labels(labels, ("HEK",)))
    areas = [len(of.rows) for of in found]
    assert areas[:2] == pytest.approx([314, 314], rel=0.06)
    assert areas[2] == 0
    rows, columns, total = found[1]
    assert total == areas[1]
    assert found[2].total_px == 0
    assert (rows.mean(), columns.mean()) == pytest.approx((30, 90), abs=0.3)


def test_the_nucleus_of_a_neighbour_is_not_counted():
    light, labels = field()
    # The cell without a nucleus covers one pixel of the rim of the bright nucleus.
    labels[:, 120:] = np.where(labels[:, 120:] == 3, 3, 0)
    found = nuclei.nuclei_of(light, Cells.from_labels(labels, ("HEK",)))
    for number, (rows, columns, _) in enumerate(found, start=1):
        assert (labels[rows, columns] == number).all()


def test_a_field_full_of_one_cell_and_one_without_cells_are_measured():
    labels = np.ones((30, 30), np.int32)
    cells = Cells.from_labels(labels, ("HEK",))
    ((rows, *_),) = nuclei.nuclei_of(np.zeros((30, 30), np.uint8), cells)
    assert not len(rows)
    assert (
        nuclei.nuclei_of(
            np.zeros((9, 9), np.uint8), Cells.from_labels(0 * labels[:9, :9], ("HEK",))
        )
        == []
    )


def test_the_larger_of_two_nuclei_is_measured_and_both_areas_are_added():
    y, x = np.mgrid[:60, :80]
    labels = np.int32(np.hypot(y - 30, x - 40) < 29)
    light = np.full((60, 80), 20.0)
    light[np.hypot(y - 30, x - 28) < 9] = 200
    light[np.hypot(y - 30, x - 54) < 7] = 200
    # A speck is not counted.
    light[12:15, 38:41] = 250
    noisy = light + np.random.default_rng(0).normal(0, 2, light.shape)
    channel = np.clip(noisy, 0, 255).astype(np.uint8)
    (found,) = nuclei.nuclei_of(channel, Cells.from_labels(labels, ("HEK",)))
    assert len(found.rows) == pytest.approx(np.pi * 81, rel=0.06)
    assert found.total_px == pytest.approx(np.pi * (81 + 49), rel=0.06)
