"""Tests of cellclass_tf.labels.runs."""

import numpy as np
import pytest

from cellclass_tf.labels import runs

# Two runs of one cell in a row, runs that touch, and runs at both edges of the image.
LABELS = np.array(
    [
        [1, 1, 0, 1, 2],
        [2, 2, 2, 2, 2],
        [2, 0, 0, 0, 3],
    ]
)


@pytest.fixture(params=[1, 11, 1 << 20])
def _stripes(request, monkeypatch):
    monkeypatch.setattr(runs, "_PIXELS_AT_ONCE", request.param)


@pytest.mark.usefixtures("_stripes")
def test_the_runs_of_a_hand_drawn_image_are_found():
    found = runs.runs_of(LABELS)
    assert list(zip(*found, strict=True)) == [
        (1, 0, 0, 2),
        (1, 0, 3, 4),
        (2, 0, 4, 5),
        (2, 1, 0, 5),
        (2, 2, 0, 1),
        (3, 2, 4, 5),
    ]
    assert found.lengths.tolist() == [2, 1, 1, 5, 1, 1]


@pytest.mark.usefixtures("_stripes")
def test_sums_over_runs_equal_sums_over_pixels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (23, 40)).repeat(2, 1)
    image = rng.integers(0, 256, (23, 80, 3)).astype(np.uint8)
    # A channel of a merged image is not contiguous in memory; cell 6 does not exist.
    found = runs.sums_of(runs.runs_of(labels), image[..., 2], 6)
    true = [image[..., 2][labels == label].sum() for label in range(1, 7)]
    assert found.tolist() == true


def test_an_image_of_background_has_no_runs():
    found = runs.runs_of(np.zeros((3, 4), np.int32))
    assert [len(column) for column in found] == [0, 0, 0, 0]
    assert runs.sums_of(found, np.ones((3, 4), np.uint8), 2).tolist() == [0, 0]
