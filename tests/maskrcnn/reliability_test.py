"""Tests of cellclass_tf.maskrcnn.reliability."""

import io

import numpy as np
import pytest
from PIL import Image

from cellclass_tf.core.model_metadata import Bin
from cellclass_tf.maskrcnn import reliability


def measured():
    """80 probabilities that are 0.20 too high, and 20 correct ones."""
    probabilities = np.repeat([0.95, 0.65], [80, 20])
    right = np.concatenate([np.arange(80) < 60, np.arange(20) < 13])
    return reliability.Reliability.of(probabilities, right)


def test_the_expected_error_is_the_gap_between_confidence_and_accuracy():
    found = measured()
    assert found.expected_error == pytest.approx(0.16)
    assert found.counts.tolist() == [0, 0, 0, 0, 0, 0, 20, 0, 0, 80]


def test_only_bins_with_cells_are_recorded():
    low, high = measured().bins()
    assert low == Bin(*(pytest.approx(x) for x in (0.6, 0.7, 0.65, 0.65)), 20)
    assert high == Bin(*(pytest.approx(x) for x in (0.9, 1.0, 0.95, 0.75)), 80)


def test_a_picture_is_drawn_although_some_bins_are_empty():
    drawn = reliability.png_of(measured(), measured(), temperature=1.5, fields=3)
    assert Image.open(io.BytesIO(drawn)).size[0] > 500


def test_intervals_are_those_of_wilson():
    low, high = reliability.wilson_interval(np.array([0.8, 1.0]), np.array([10, 10]))
    # As R's prop.test(c(8, 10), c(10, 10), correct = FALSE), one by one.
    np.testing.assert_allclose(low, [0.4902, 0.7225], atol=2e-4)
    np.testing.assert_allclose(high, [0.9433, 1.0], atol=2e-4)
