"""Tests of cellclass_tf.analysis.priors."""

import numpy as np
import pytest

from cellclass_tf.analysis import priors


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_shares_are_recovered_whatever_the_shares_in_the_calibration(share):
    """There is one feature, normal in each type; probabilities are exact at 30 and 70 %."""
    rng, known = np.random.default_rng(0), np.array([0.3, 0.7])
    types = rng.random(20_000) >= share
    feature = rng.normal(types * 1.5, 1.0)
    likelihoods = np.exp(-((feature[:, None] - np.array([0.0, 1.5])) ** 2) / 2)
    probabilities = likelihoods * known
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = priors.em_shares(probabilities, known)
    assert found[0] == pytest.approx(share, abs=0.015)
    assert found.sum() == pytest.approx(1)


def test_no_cells_give_nan_and_a_type_absent_from_the_calibration_works():
    assert np.isnan(priors.em_shares(np.zeros((0, 2)), np.array([0.5, 0.5]))).all()
    found = priors.em_shares(np.array([[1.0, 0.0]] * 3), np.array([1.0, 0.0]))
    assert found.tolist() == [1.0, 0.0]
