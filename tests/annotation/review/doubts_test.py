"""Tests of doubtful cells: each reason, and when it does not apply."""

import numpy as np
import pytest

from cellclass_tf.annotation.review import doubts
from cellclass_tf.annotation.review.doubts import Doubt, doubtful_cells
from cellclass_tf.core.cells import Cells

DIAMETER = 24


def _disk(shape, centre, radius):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def _field(rows=3, columns=5, radius=12):
    """Returns cells of 24 px, 40 px apart, each with a nucleus of 12 px, none doubtful."""
    labels = np.zeros((40 * rows, 40 * columns), np.int32)
    rng = np.random.default_rng(0)
    image = np.zeros((*labels.shape, 3), np.uint8)
    image[..., 2] = rng.integers(8, 13, labels.shape)
    for cell in range(rows * columns):
        centre = 20 + 40 * (cell // columns), 20 + 40 * (cell % columns)
        labels[_disk(labels.shape, centre, radius)] = cell + 1
        image[_disk(labels.shape, centre, 6), 2] = 150
    image[..., 1] = 90 * (labels > 0)
    return image, labels


def _reasons(image, labels, probabilities=None, diameter=DIAMETER):
    cells = Cells.from_labels(labels, ("HEK",))
    found = doubtful_cells(image, cells, diameter, probabilities)
    return {doubt.cell: doubt.reasons for doubt in found}


def test_correct_cells_are_not_listed():
    assert _reasons(*_field(), probabilities=np.full(15, 0.97)) == {}


def test_cell_without_nucleus_is_listed():
    image, labels = _field()
    image[labels == 8, 2] = 10
    assert _reasons(image, labels) == {8: ("no nucleus",)}


def test_touching_nuclei_in_one_outline_count_as_two():
    image, labels = _field()
    # Cell 8 lies in the middle of the field, at (60, 100).
    image[labels == 8, 2] = 10
    for x in (95, 105):
        image[_disk(labels.shape, (60, x), 5.5), 2] = 150
    assert _reasons(image, labels) == {8: ("two nuclei",)}


def test_specks_are_not_nuclei():
    image, labels = _field()
    image[_disk(labels.shape, (60, 109), 1), 2] = 250
    assert _reasons(image, labels) == {}


def test_rim_of_a_neighbours_nucleus_is_not_a_nucleus():
    image, labels = _field()
    # Cell 8 takes the first two columns of cell 9's nucleus, which begins at 134.
    labels[54:67, 112:136] = 8
    assert _reasons(image, labels) == {}


def test_merged_nuclei_of_touching_cells_count_for_each_cell():
    image, labels = _field()
    # The nuclei of two neighbours that touch become one bar.
    labels[48:73, 112:120] = 8
    labels[48:73, 120:134] = 9
    image[55:66, 100:141, 2] = 150
    assert _reasons(image, labels) == {}


def test_channel_without_nuclei_makes_no_cell_doubtful():
    image, labels = _field()
    rng = np.random.default_rng(1)
    for channel in (np.zeros(labels.shape), rng.integers(0, 30, labels.shape)):
        image[..., 2] = channel
        assert _reasons(image, labels) == {}


def test_cells_at_the_border_are_only_listed_as_cut():
    image, labels = _field()
    # The first column loses its left half, nuclei and all.
    image, labels = image[:, 26:].copy(), labels[:, 26:].copy()
    found = _reasons(image, labels)
    assert found == {cell: ("cut by border",) for cell in (1, 6, 11)}


def test_outline_that_ends_just_before_the_border_counts_as_cut():
    image, labels = _field()
    # The half cells come to lie at the right, and lose their last column.
    flipped = image[:, :25:-1].copy(), labels[:, :25:-1].copy()
    flipped[1][:, -1] = 0
    assert _reasons(*flipped) == {cell: ("cut by border",) for cell in (1, 6, 11)}


def test_sizes_are_compared_within_the_field():
    image, labels = _field()
    labels[(labels == 8) & ~_disk(labels.shape, (60, 100), 7)] = 0
    labels[_disk(labels.shape, (60, 140), 18)] = 9
    # 441 px are typical: 149 px and 1009 px are not.
    assert _reasons(image, labels) == {8: ("odd size",), 9: ("odd size",)}


def test_few_cells_are_compared_with_the_diameter():
    image, labels = _field(1, 3)
    assert _reasons(image, labels) == {}
    # 441 px against a disc of 60 px, 2827 px.
    found = _reasons(image, labels, diameter=60)
    assert {"odd size"} <= set(found[2])


def test_uncertain_cells_are_listed_with_the_most_serious_first():
    image, labels = _field()
    sure = np.full(15, 0.95)
    sure[[3, 7, 11]] = 0.6, 0.5, 0.7
    image[labels == 12, 2] = 10
    found = _reasons(image, labels, sure)
    assert list(found) == [12, 8, 4]
    assert found[12] == ("low probability", "no nucleus")


def test_doubtful_cell_has_its_position():
    image, labels = _field()
    image[labels == 8, 2] = 10
    cells = Cells.from_labels(labels, ("HEK",))
    (doubt,) = doubtful_cells(image, cells, DIAMETER, np.full(15, 0.9))
    assert doubt == Doubt(8, ("no nucleus",), 0.9, 60.0, 100.0, 441)


@pytest.mark.parametrize("scale", [2, 5])
def test_scale_does_not_matter(scale):
    image, labels = _field()
    image[labels == 8, 2] = 10
    large = image.repeat(scale, 0).repeat(scale, 1)
    found = _reasons(
        large, labels.repeat(scale, 0).repeat(scale, 1), diameter=scale * DIAMETER
    )
    assert found == {8: ("no nucleus",)}


def test_field_without_cells_has_no_doubts():
    image, labels = _field()
    assert _reasons(image, np.zeros_like(labels)) == {}


def test_counts_are_written_and_read():
    given = [
        Doubt(1, ("two nuclei", "odd size"), None, 0, 0, 1),
        Doubt(2, ("two nuclei",), None, 0, 0, 1),
        Doubt(3, ("cut by border",), None, 0, 0, 1),
    ]
    text = doubts.summary(given)
    assert text == "two nuclei 2; odd size 1; cut by border 1"
    assert doubts.counts_of(text) == {
        "low probability": 0,
        "two nuclei": 2,
        "no nucleus": 0,
        "odd size": 1,
        "cut by border": 1,
    }
    assert doubts.summary([]) == ""
    assert not any(doubts.counts_of("whatever").values())
