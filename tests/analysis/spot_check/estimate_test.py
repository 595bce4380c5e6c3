"""Tests of cellclass_tf.analysis.spot_check.estimate."""

import dataclasses

import numpy as np
import pytest

from cellclass_tf.analysis.spot_check import estimate
from experiments.benchmarks import spot_check


def sample_of(true, called, *, population=None, right=None):
    """Returns one stratum of windows; all cells are found, `right` of them correctly."""
    true, called = np.asarray(true, float), np.asarray(called, float)
    real = true.sum(axis=1)
    return estimate.LabelledSample(
        np.zeros(len(true), int),
        np.array([population or 10 * len(true)]),
        true,
        called,
        real if right is None else np.asarray(right, float),
        real,
        called.sum(axis=0) * 10,
    )


def test_if_all_windows_are_labelled_the_shares_are_those_of_the_labels():
    true = [(2, 0), (1, 1), (0, 3), (2, 1)]
    called = [(1, 1), (1, 1), (1, 2), (1, 1)]
    whole = sample_of(true, called, population=4)
    whole = dataclasses.replace(whole, called_in_all=whole.called.sum(axis=0))
    found = estimate.estimate_by_sample(whole)
    assert found.shares == pytest.approx([0.5, 0.5])
    assert np.ptp(found.interval()[:, 0]) == pytest.approx(0, abs=1e-6)


def test_only_calls_that_correlate_with_the_labels_are_used():
    rng = np.random.default_rng(0)
    first = rng.binomial(3, 0.4, 60)
    true = np.stack([first, 3 - first], axis=1)
    same = estimate.estimate_by_sample(sample_of(true, true))
    chance = rng.binomial(3, 0.4, 60)
    noise = np.stack([chance, 3 - chance], axis=1)
    none = estimate.estimate_by_sample(sample_of(true, noise, right=[1.5] * 60))
    assert same.tuning == pytest.approx(1, abs=0.01)
    assert none.tuning < 0.35
    assert same.errors[0] < none.errors[0] / 2


def test_a_sample_without_errors_still_has_an_interval():
    true = [(1, 1)] * 30
    found = estimate.estimate_by_sample(sample_of(true, true))
    assert found.errors[0] == pytest.approx(1 / 60, rel=0.1)
    assert found.accuracy == 1
    assert 0.85 < found.accuracy_ends[0] < 1


def test_errors_absent_from_held_out_fields_are_corrected():
    kind = spot_check.Kind("shift", right=(0.8, 0.7))
    found = spot_check.coverage(kind, 40, 0)
    assert found["held-out correction"][0] < 0.3
    assert found["spot check"][0] >= 0.85
    # Labels and calls together give a narrower interval than labels alone.
    assert found["spot check"][1] < found["labels alone"][1]


def test_missed_and_invented_cells_are_corrected():
    rng = np.random.default_rng(0)
    true = np.tile((1.0, 1.0), (80, 1))
    # Half of the cells of the first type are missed, and are in the labels.
    called = np.stack([rng.permutation([0.0, 1.0] * 40), np.ones(80)], axis=1)
    found = estimate.estimate_by_sample(sample_of(true, called))
    assert found.shares[0] == pytest.approx(0.5, abs=0.01)


def test_differences_between_units_widen_the_interval():
    true = [(1, 1)] * 50
    alone = estimate.estimate_by_sample(sample_of(true, true))
    draws = np.random.default_rng(0).beta(10, 10, 4000)
    units = estimate.estimate_by_sample(
        sample_of(true, true), np.stack([draws, 1 - draws], axis=1)
    )
    assert np.ptp(units.interval()[:, 0]) > 3 * np.ptp(alone.interval()[:, 0])


def test_units_of_unequal_size_widen_the_interval_in_both_directions():
    """The mean of units, 0.3, is not the share among their cells if a unit is larger."""
    draws = np.random.default_rng(0).beta(30, 70, 4000)
    units = np.stack([draws, 1 - draws], axis=1)
    half = [(1, 1)] * 50
    low, high = estimate.estimate_by_sample(sample_of(half, half), units).interval()
    assert low[0] < 0.42
    assert high[0] > 0.58
    # Near 0, the interval is one of shares; a shift of all draws does not change it.
    rare = [(1, 3)] + [(0, 4)] * 49
    near, far = (
        estimate.estimate_by_sample(sample_of(rare, rare), units + shift).interval()
        for shift in (0, [0.1, -0.1])
    )
    np.testing.assert_allclose(near, far)


@pytest.mark.parametrize("share", [0.0, 0.02])
def test_a_rare_type_has_a_narrow_interval(share):
    kind = spot_check.Kind("rare", share=share)
    found = spot_check.coverage(kind, 20, 0)
    assert found["spot check"][0] >= 0.9
    assert found["spot check"][1] < 0.12


@pytest.mark.parametrize("right", [(0.6, 0.97), (0.9, 0.9), (0.9, 0.85)])
def test_the_interval_of_a_rare_type_with_few_labels_contains_it(right):
    """Without a lower limit of the factor, 85 to 92 % contain it, and 6 to 9 % are below."""
    kind = spot_check.Kind(
        "few", share=0.05, labelled=50, right=right, units=1, windows=2000, icc=1e-4
    )
    inside, below = [], 0
    for share, _, sample in spot_check.cultures(kind, 200, 1):
        low, high = estimate.estimate_by_sample(sample).interval()[:, 0]
        inside.append(low <= share <= high)
        below += high < share
    assert np.mean(inside) >= 0.92
    assert below / 200 <= 0.02


@pytest.mark.parametrize(("cells", "tuning"), [(9, 0.5), (10, 0.0)])
def test_wrong_calls_count_half_if_few_cells_of_a_type_are_labelled(cells, tuning):
    # The calls of the rare type are all in other windows than its cells.
    first = np.arange(60) < cells
    true = np.stack([first, 3 - first], axis=1)
    found = estimate.estimate_by_sample(sample_of(true, true[::-1]))
    assert found.tuning == tuning


def test_a_stratum_of_one_window_is_refused():
    with pytest.raises(ValueError, match="two windows"):
        estimate.estimate_by_sample(sample_of([(1, 1)], [(1, 1)]))
