"""Tests of cellclass_tf.analysis.contrasts."""

import numpy as np
import pytest
from scipy import special, stats

from cellclass_tf.analysis import contrasts, correction


def test_independent_replicates_are_compared_by_welchs_test_of_logits():
    first = special.logit([0.2, 0.25, 0.3, 0.22])
    second = special.logit([0.4, 0.5, 0.45])
    found = contrasts.contrast(first, second)
    assert found.p_value == stats.ttest_ind(first, second, equal_var=False).pvalue
    odds = np.exp(second.mean() - first.mean())
    assert found.odds_ratio == pytest.approx(odds)
    low, high = found.odds_ratio_ends
    assert 1 < low < odds < high
    low, high = found.difference_ends
    assert 0 < low < found.difference < high < 0.5
    middle, low, high = contrasts.mean_interval(first)
    assert low < middle < high
    assert middle == pytest.approx(special.expit(first.mean()))


def test_paired_replicates_are_compared_by_the_paired_t_test():
    first = special.logit([0.2, 0.4, 0.7])
    second = first + np.array([0.3, 0.35, 0.4])
    found = contrasts.contrast(first, second, paired=True)
    # Mean 0.35, standard deviation 0.05, so that t is 0.35 / (0.05 / sqrt(3)).
    wanted = 2 * stats.t.sf(0.35 / (0.05 / 3**0.5), 2)
    assert found.p_value == pytest.approx(wanted)
    assert found.test == contrasts.PAIRED
    low, high = np.log(found.odds_ratio_ends)
    reach = stats.t.ppf(0.975, 2) * 0.05 / 3**0.5
    assert (low, high) == pytest.approx((0.35 - reach, 0.35 + reach))
    low, high = found.difference_ends
    assert 0 < low < found.difference < high < 0.2
    assert contrasts.contrast(first, second).p_value > 0.5
    same = contrasts.contrast(first, first + 1, paired=True)
    assert same.p_value is None
    assert "do not differ" in same.reason


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("replicates", [2, 3, 4])
def test_the_interval_of_the_difference_contains_0_if_the_p_value_is_above_5_percent(
    replicates, paired
):
    rng, significant = np.random.default_rng(0), 0
    for _ in range(100):
        first, second = rng.normal([[-1], [-0.2]], 0.3, (2, replicates))
        found = contrasts.contrast(first, second, paired=paired)
        low, high = found.difference_ends
        # Nearer to 5 %, the random draws decide.
        if abs(found.p_value - 0.05) > 0.003:
            assert (low < 0 < high) == (found.p_value > 0.05)
        significant += found.p_value < 0.05
    assert 5 < significant < 95


def test_the_interval_of_the_difference_contains_it_at_the_nominal_rate():
    rng, true = np.random.default_rng(0), np.subtract(*special.expit([-0.2, -1]))
    contained = 0
    for _ in range(300):
        logits = rng.normal([[-1], [-0.2]], 0.3, (2, 4))
        low, high = contrasts.contrast(*logits).difference_ends
        contained += low <= true <= high
    # Welch's test is on the safe side with few replicates.
    assert 0.93 <= contained / 300 <= 0.98


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([0.0], [1.0, 1.1], "a single replicate"),
        ([1.0, 1.0], [2.0, 2.0], "do not differ"),
    ],
)
def test_a_comparison_without_a_test_gives_the_reason(first, second, reason):
    found = contrasts.contrast(np.array(first), np.array(second))
    assert found.p_value is None
    assert found.odds_ratio_ends is None
    assert reason in found.reason
    assert found.odds_ratio > 1


def test_a_single_replicate_has_a_mean_but_no_interval():
    middle, low, high = contrasts.mean_interval(np.array([0.0]))
    assert middle == 0.5
    assert np.isnan([low, high]).all()


def test_equal_replicates_have_a_mean_but_no_interval():
    logits = contrasts.logits_of(np.zeros(4), 1000)
    middle, low, high = contrasts.mean_interval(logits)
    assert middle == pytest.approx(0.5 / 1001)
    assert np.isnan([low, high]).all()


def test_logits_of_pure_replicates_are_clipped_by_half_a_cell():
    found = contrasts.logits_of(np.array([0.0, 1.0, 0.5]), 99)
    np.testing.assert_allclose(found, special.logit([0.005, 0.995, 0.5]))


def test_p_values_are_adjusted_by_holms_method():
    assert contrasts.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert contrasts.holm([0.9, 0.8]) == [1.0, 1.0]
    assert contrasts.holm([]) == []


# Where all cells of a condition are of one type, its dishes are equal to the last digit.
@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning:scipy")
@pytest.mark.parametrize(("icc", "dishes"), [(0.02, 3), (0.1, 3), (0.1, 6)])
def test_equal_conditions_differ_significantly_at_the_nominal_rate(icc, dishes):
    """With 240 cells per dish, 95 % classified correctly, 5 % of the tests may be wrong."""
    rng, wrong = np.random.default_rng(0), []
    alphas = np.array([0.3, 0.7]) * (1 - icc) / icc
    none = np.zeros((2, 2), int)
    held_out = correction.HeldOut(
        np.array([[[95, 5], [0, 0]], [[0, 0], [5, 95]]]), none, none, np.ones(2), "ab"
    )
    for _ in range(600):
        called = []
        for share in rng.dirichlet(alphas, 2 * dishes)[:, 0]:
            right = share * 0.95 + (1 - share) * 0.05
            called.append(rng.multinomial(240, [right, 1 - right]))
        found = correction.shares_by_unit(
            np.array(called), held_out, np.zeros(2 * dishes)
        )
        logits = contrasts.logits_of(found[:, 0], 240)
        told = stats.ttest_ind(logits[:dishes], logits[dishes:], equal_var=False)
        wrong.append(told.pvalue < 0.05)
    assert 0.02 <= np.mean(wrong) <= 0.075
