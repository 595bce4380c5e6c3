"""Tests of cellclass_tf.analysis.spot_check.plan."""

import numpy as np
import pytest

from cellclass_tf.analysis import correction
from cellclass_tf.analysis.spot_check import plan


def held_out(right, missed=0):
    confusions = np.array([[[right, 100 - right], [100 - right, right]]])
    nothing = np.zeros((1, 2), int)
    return correction.HeldOut(confusions, nothing + missed, nothing, np.ones(1), ["a"])


def test_fewer_errors_need_fewer_labels():
    share = np.array([0.3, 0.7])
    needed = [
        plan.cells_for_width(0.1, plan.variance_a_cell(share, of), 0.0)
        for of in (held_out(98), held_out(90), None)
    ]
    assert needed == sorted(needed)
    assert needed[0] < needed[2] / 3
    # Labels alone: 0.3 x 0.7 / n has to give +-5 points.
    assert needed[2] == pytest.approx(0.21 / (0.05 / 1.96) ** 2, rel=0.02)


def test_the_variance_agrees_with_a_simulation():
    rng = np.random.default_rng(0)
    share, rates = np.array([0.3, 0.7]), held_out(90, missed=20).rates
    true = rng.binomial(1, share[0], 200_000) == 1
    call = np.where(true, rng.choice(3, true.size, p=[0.75, 1 / 12, 1 / 6]), 0)
    other = rng.choice(3, true.size, p=[1 / 12, 0.75, 1 / 6])
    call = np.where(true, call, other)
    assert rates[0, 0] == pytest.approx(0.75)
    y = np.where(true, 0.7, -0.3)
    x = np.select([call == 0, call == 1], [0.7, -0.3], 0.0)
    found = plan.variance_a_cell(share, held_out(90, missed=20))
    assert found[0] == pytest.approx(((y - x) ** 2).mean(), rel=0.02)


def test_no_number_of_labels_is_enough_if_units_differ_too_much():
    assert plan.cells_for_width(0.1, np.array([0.1]), 0.01) is None
    more = plan.cells_for_width(0.1, np.array([0.1]), 0.0005)
    assert more > plan.cells_for_width(0.1, np.array([0.1]), 0.0)


def test_twice_the_errors_need_more_labels():
    share = np.array([0.5, 0.5])
    one, two = (plan.variance_a_cell(share, held_out(95), times) for times in (1, 2))
    assert two[0] == pytest.approx(2 * one[0])
    assert two[0] <= 0.25
