"""Tests of cellclass_tf.maskrcnn.combining."""

import numpy as np
import pytest

from cellclass_tf.maskrcnn import combining


def test_one_classifier_is_not_changed():
    found = {"detector": np.float32([[0.8, 0.2]]), "namer": np.float32([[0.5, 0.5]])}
    for name, probabilities in found.items():
        assert combining.combine(found, (name,)) is probabilities


@pytest.mark.parametrize("count", [2, 3])
def test_result_lies_between_the_product_and_the_geometric_mean(count):
    odds = np.arange(2, 2 + count)
    found = {str(n): np.float32([[n / (n + 1), 1 / (n + 1)], [0.5, 0.5]]) for n in odds}
    both = combining.combine(found, tuple(found))
    np.testing.assert_allclose(both.sum(axis=1), 1, atol=1e-6)
    combined = both[0, 0] / both[0, 1]
    assert combined == pytest.approx(np.prod(odds) ** (1 / np.sqrt(count)), rel=1e-5)
    assert np.prod(odds) ** (1 / count) < combined < np.prod(odds)
    assert both[1] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("named_by", [("features",), ("namer", "features")])
def test_the_detector_classifies_a_cell_that_another_classifier_cannot_see(named_by):
    found = {
        "detector": np.float32([[0.5, 0.5], [0.1, 0.9]]),
        "namer": np.float32([[0.5, 0.5], [0.5, 0.5]]),
        "features": np.float32([[0.8, 0.2], [np.nan, np.nan]]),
    }
    combined = combining.combine(found, named_by)
    assert combined[0, 0] > 0.7
    assert combined[1, 1] > 0.7


def test_zero_cells_and_probabilities_of_zero_can_be_combined():
    nobody = np.zeros((0, 2), np.float32)
    assert combining.combine({"a": nobody, "b": nobody}, ("a", "b")).shape == (0, 2)
    against = {"a": np.float32([[1, 0]]), "b": np.float32([[0, 1]])}
    assert combining.combine(against, ("a", "b"))[0] == pytest.approx([0.5, 0.5])
