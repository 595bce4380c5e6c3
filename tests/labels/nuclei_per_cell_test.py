"""Tests of cellclass_tf.labels.nuclei_per_cell."""

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import nuclei_per_cell as nuclei

DIAMETER = 24


def _field(spots, shape=(60, 160), cell=12):
    """Returns cells of 24 px at (30, 40 i + 20), and spots of (x, radius) on noise."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    channel = np.random.default_rng(0).integers(8, 13, shape).astype(np.uint8)
    labels = np.zeros(shape, np.int32)
    for number in range(4):
        labels[(y - 30) ** 2 + (x - 40 * number - 20) ** 2 <= cell**2] = number + 1
    for middle, radius in spots:
        channel[(y - 30) ** 2 + (x - middle) ** 2 <= radius**2] = 150
    return channel, Cells.from_labels(labels, ("HEK",))


def _counts(channel, cells, diameter=DIAMETER):
    return nuclei.nuclei_per_cell(channel, cells, diameter).tolist()


def test_nuclei_are_counted_by_cell():
    # Two touching nuclei, one, none, and two separate ones.
    spots = [(15, 5.5), (25, 5.5), (60, 6), (134, 4), (146, 4)]
    assert _counts(*_field(spots)) == [2, 1, 0, 2]


def test_dim_nuclei_are_counted_beside_bright_ones():
    channel, cells = _field([(20, 6), (60, 6), (100, 6), (140, 6)])
    dim = channel[:, 120:] > 100
    channel[:, 120:][dim] = 60
    assert _counts(channel, cells) == [1, 1, 1, 1]


def test_a_nucleus_belongs_to_the_cell_that_holds_most_of_it():
    channel, cells = _field([(20, 6), (60, 6), (100, 6), (140, 6)])
    cells.labels[24:37, 72:98] = 2
    # A third of the nucleus at x 100 lies in cell 2 now.
    assert _counts(channel, cells) == [1, 1, 1, 1]


def test_specks_are_not_counted():
    assert _counts(*_field([(16, 6), (26, 1), (60, 6), (100, 1)])) == [1, 1, 0, 0]


@pytest.mark.parametrize("noise", [1, 30, 200])
def test_noise_has_no_nuclei(noise):
    channel, cells = _field([])
    channel[:] = np.random.default_rng(1).integers(0, noise, channel.shape)
    assert nuclei.nuclei_per_cell(channel, cells, DIAMETER) is None


def test_uneven_light_has_no_nuclei():
    channel, cells = _field([])
    channel[:] = np.linspace(10, 120, channel.shape[1]).astype(np.uint8)
    assert nuclei.nuclei_per_cell(channel, cells, DIAMETER) is None


@pytest.mark.parametrize("scale", [2, 3, 5])
def test_counts_do_not_depend_on_the_scale(scale):
    channel, cells = _field([(15, 5.5), (25, 5.5), (60, 6), (140, 6)])
    large = Cells.from_labels(cells.labels.repeat(scale, 0).repeat(scale, 1), ("HEK",))
    channel = channel.repeat(scale, 0).repeat(scale, 1)
    assert _counts(channel, large, scale * DIAMETER) == [2, 1, 0, 1]


def test_counts_in_tiles_equal_those_of_the_whole_field(monkeypatch):
    spots = [(15, 5.5), (25, 5.5), (60, 6), (134, 4), (146, 4)]
    whole = _counts(*_field(spots))
    # Tiles overlap by twice three diameters.
    monkeypatch.setattr(nuclei, "_TILE_PX", 150)
    assert _counts(*_field(spots)) == whole
