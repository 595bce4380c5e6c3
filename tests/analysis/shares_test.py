"""Tests of cellclass_tf.analysis.shares."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from cellclass_tf.analysis import shares


def test_units_that_differ_give_wider_intervals_than_their_cells_alone():
    alike = shares.estimate_shares(np.array([[20, 20]] * 10))
    apart = shares.estimate_shares(np.array([[36, 4], [4, 36]] * 5))
    widths = [np.ptp(found.interval()[:, 0]) for found in (alike, apart)]
    assert widths[1] > 2 * widths[0]
    # At least as wide as for 400 independent cells, and not much wider.
    assert 1 < widths[0] / (2 * 1.96 * 0.025) < 1.3
    assert np.median(alike.icc) < 0.02
    assert np.median(apart.icc) > 0.2


def test_the_posterior_agrees_with_integration_on_a_fine_grid():
    """Shares and ICC on the grid are weighted by scipy's distribution."""
    counts = np.array([[12, 28], [20, 18], [7, 35], [15, 30]])
    draws, icc = shares.posterior(counts, (1.0, 5.0), np.random.default_rng(0))
    grid = (np.arange(200) + 0.5) / 200
    share, alike = np.meshgrid(grid, grid, indexing="ij")
    total = (1 - alike) / alike
    logs = stats.beta.logpdf(alike, 1, 5) + stats.beta.logpdf(share, 0.5, 0.5)
    for first, second in counts:
        logs += stats.betabinom.logpmf(
            first, first + second, share * total, (1 - share) * total
        )
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    of_share, of_icc = weights.sum(axis=1), weights.sum(axis=0)
    for tail in (0.025, 0.5, 0.975):
        exact = np.interp(tail, of_share.cumsum(), grid)
        assert np.quantile(draws[:, 0], tail) == pytest.approx(exact, abs=0.015)
        exact = np.interp(tail, of_icc.cumsum(), grid)
        assert np.quantile(icc, tail) == pytest.approx(exact, abs=0.02)


def test_draws_of_units_of_equal_size_are_those_of_their_mean():
    counts = np.array([[12, 28], [20, 20], [7, 33], [15, 25]])
    found = shares.estimate_shares(counts)
    draws, _ = shares.posterior(counts, (0.5, 3.0), np.random.default_rng(0))
    np.testing.assert_allclose(found.draws, draws, atol=1e-9)


@pytest.mark.parametrize(
    "counts",
    [
        [[1500, 1000], [150, 350], [175, 325], [140, 360]],
        [[360, 240], [30, 70], [35, 65], [28, 72]],
        [[900, 50, 50], [20, 0, 80], [30, 0, 70]],
    ],
)
def test_the_share_among_all_cells_lies_in_its_interval_if_one_unit_is_large(counts):
    found = shares.estimate_shares(np.array(counts))
    low, high = found.interval()
    assert (low < found.shares).all()
    assert (found.shares < high).all()
    np.testing.assert_allclose(found.draws.sum(axis=1), 1)


@pytest.mark.parametrize("sizes", [[50, 60, 80, 100, 120, 1500], [1000, 60, 60, 60]])
def test_intervals_are_valid_if_units_differ_in_size(sizes):
    rng, true, icc = np.random.default_rng(0), 0.4, 0.15
    of_culture = of_cells = 0
    for seed in range(60):
        total = (1 - icc) / icc
        own = rng.beta(total * true, total * (1 - true), len(sizes))
        first = rng.binomial(sizes, own)
        counts = np.stack([first, sizes - first], axis=1)
        low, high = shares.estimate_shares(counts, seed=seed).interval()[:, 0]
        of_culture += low <= true <= high
        of_cells += low <= np.average(own, weights=sizes) <= high
    assert of_culture >= 54
    assert of_cells == 60


def test_units_with_one_type_only_still_have_an_interval():
    found = shares.estimate_shares(np.array([[30, 0], [40, 0], [30, 0]]))
    low, high = found.interval()
    assert found.shares[0] == 1
    assert 0.8 < low[0] < 0.99
    assert high[0] <= 1


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([[0, 0], [0, 0]], "no cell has a type"),
        (np.zeros((0, 2)), "no cell has a type"),
        ([[3, 4]], "a single field"),
    ],
)
def test_an_estimate_without_interval_gives_the_reason(counts, reason):
    found = shares.estimate_shares(np.array(counts))
    assert found.interval() is None
    assert reason in found.reason
    assert found.p_values(np.array([0.5, 0.5])) is None
    assert np.isnan(shares.units_for(found, 0.1)).all()
    assert shares.logit_t(np.array(counts)) is None


def test_p_values_of_expected_shares_agree_with_the_interval():
    found = shares.estimate_shares(
        np.array([[12, 20], [15, 22], [9, 18], [14, 19], [11, 25]])
    )
    low, high = found.interval()[:, 0]
    for expected in np.linspace(low - 0.02, high + 0.02, 9):
        p = found.p_values(np.array([expected, 1 - expected]))[0]
        assert (p >= 0.05) == (low <= expected <= high)


def test_the_computed_number_of_units_gives_the_width():
    rng = np.random.default_rng(0)
    few = rng.multinomial(40, [0.3, 0.7], 8)
    needed = shares.units_for(shares.estimate_shares(few), 0.08)[0]
    assert 8 < needed < 60
    many = rng.multinomial(40, [0.3, 0.7], int(needed))
    assert np.ptp(shares.estimate_shares(many).interval()[:, 0]) < 0.08 * 1.15


def test_two_units_are_too_few_to_promise_narrow_intervals():
    """With an ICC of 0.1, about 60 dishes of 240 cells are needed for 10 points."""
    rng = np.random.default_rng(1)
    alphas = np.array([0.4, 0.6]) * 0.9 / 0.1
    told = [
        shares.units_for(
            shares.estimate_shares(
                [rng.multinomial(240, rng.dirichlet(alphas)) for _ in range(2)]
            ),
            0.1,
        )[0]
        for _ in range(20)
    ]
    assert 30 < np.median(told) < 150


def test_logit_t_agrees_with_students_t():
    counts = np.array([[10, 30], [14, 26], [9, 31]])
    logits = np.log((counts[:, 0] + 0.5) / (counts[:, 1] + 0.5))
    ends = stats.t.interval(0.95, 2, logits.mean(), stats.sem(logits))
    expected = 1 / (1 + np.exp(-np.array(ends)))
    np.testing.assert_allclose(shares.logit_t(counts)[:, 0], expected)


def test_memory_does_not_grow_with_the_number_of_units():
    rng, peaks = np.random.default_rng(0), []
    for units in (200, 800):
        counts = rng.multinomial(30, [0.4, 0.6], units)
        tracemalloc.start()
        shares.estimate_shares(counts)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] < 200e6
