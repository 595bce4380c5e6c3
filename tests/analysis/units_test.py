"""Tests of cellclass_tf.analysis.units."""

import numpy as np
import pytest
from scipy import stats

from cellclass_tf.analysis import units


@pytest.mark.parametrize(
    ("groups", "places", "unit", "of"),
    [
        ("aabb", "1234", "dish", "aabb"),
        ("aaaa", "1233", "field", "1233"),
        # It is unknown which fields belong to one dish.
        ("abcd", "1234", "field", "1234"),
        ("abab", "1212", "field", "1212"),
        ("", "", "field", ""),
    ],
)
def test_units_are_dishes_if_there_are_several(groups, places, unit, of):
    assert units.units_of(list(groups), list(places)) == (unit, list(of))


def test_each_unit_is_left_out_once():
    stays = units.left_out(["b", "a", "b", "c"])
    assert stays.tolist() == [
        [True, False, True, True],
        [False, True, False, True],
        [True, True, True, False],
    ]
    many = units.left_out([f"{n:03d}" for n in range(100)])
    assert many.shape == (40, 100)
    assert ((~many).sum(axis=0) == 1).all()


def test_the_interval_of_a_mean_is_students_t():
    """For units of equal size, the jackknife error of a mean is its standard error."""
    parts = np.array([0.62, 0.7, 0.55, 0.66, 0.71, 0.58])
    without = (parts.sum() - parts) / 5
    low, high = units.interval_of(parts.mean(), without, 10_000)
    # On the scale of the logit, whose slope is 1 / p (1 - p).
    mean = parts.mean()
    reach = stats.t.ppf(0.975, 5) * stats.sem(parts) / (mean * (1 - mean))
    ends = stats.logistic.cdf(stats.logistic.ppf(mean) + np.array([-1, 1]) * reach)
    np.testing.assert_allclose([low, high], ends, atol=2e-3)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_intervals_of_scores_0_and_1_are_clopper_pearsons(score):
    low, high = units.interval_of(score, np.full(6, score), 60)
    right = round(60 * score)
    exact = stats.binomtest(right, 60).proportion_ci(method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high))


def test_undefined_scores_have_no_interval():
    parts = np.full(6, 0.5)
    assert units.interval_of(np.nan, parts, 10) is None
    assert units.interval_of(0.5, parts[:4], 10) is None
    assert units.interval_of(0.5, np.append(parts[:4], np.nan), 10) is None
    assert units.interval_of(0.5, parts, 0) is None


@pytest.mark.parametrize("count", [5, 8, 20])
def test_intervals_contain_the_true_value(count):
    """The recall of 40 cells per unit differs between units; its mean is 0.9."""
    rng, held = np.random.default_rng(0), []
    for _ in range(600):
        recalls = rng.beta(18, 2, count)
        cells = rng.poisson(40, count) + 1
        found = rng.binomial(cells, recalls)
        without = (found.sum() - found) / (cells.sum() - cells)
        score = found.sum() / cells.sum()
        low, high = units.interval_of(score, without, int(cells.sum()))
        held.append(low <= 0.9 <= high)
    assert 0.92 <= np.mean(held) <= 0.98
