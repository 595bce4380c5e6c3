"""Tests of cellclass_tf.analysis.shares."""

import numpy as np
import pytest

from cellclass_tf.analysis import shares
from experiments.benchmarks import coverage

# 90 % of type 1 and 80 % of type 2 are called right, measured on many cells.
CONFUSIONS = np.tile([[90, 10], [20, 80]], (20, 1, 1))


def test_the_correction_is_rogan_and_gladens():
    raw = shares.estimate_shares(np.array([[40, 60], [42, 58], [38, 62]]))
    found = shares.correct_shares(raw, CONFUSIONS)
    # (share + specificity - 1) / (sensitivity + specificity - 1)
    assert found.shares[0] == pytest.approx((0.4 + 0.8 - 1) / (0.9 + 0.8 - 1))
    low, high = found.interval()
    assert (low < found.shares).all() and (found.shares < high).all()
    # What the confusion leaves open comes on top of a wider spread.
    assert np.diff([low, high], axis=0)[0, 0] > np.diff(raw.interval(), axis=0)[0, 0]


def test_three_types_are_corrected_together():
    rates = np.array([[0.8, 0.15, 0.05], [0.1, 0.9, 0.0], [0.2, 0.1, 0.7]])
    true = np.array([0.5, 0.2, 0.3])
    np.testing.assert_allclose(
        shares.solve_shares((true @ rates)[None], rates[None]), [true], atol=1e-12
    )


def test_no_corrected_share_leaves_0_to_1():
    # Fewer are called type 1 than are called so by mistake.
    raw = shares.estimate_shares(np.array([[5, 95], [8, 92], [2, 98]]))
    found = shares.correct_shares(raw, CONFUSIONS)
    assert found.shares.tolist() == [0, 1]
    assert found.draws.min() == 0 and found.draws.max() == 1
    np.testing.assert_allclose(found.draws.sum(axis=1), 1)


def test_fields_that_differ_give_wider_intervals_than_their_cells_alone():
    alike = shares.estimate_shares(np.array([[20, 20]] * 10))
    apart = shares.estimate_shares(np.array([[36, 4], [4, 36]] * 5))
    widths = [np.ptp(found.interval()[:, 0]) for found in (alike, apart)]
    assert widths[1] > 2 * widths[0]
    # 200 of 400 independent cells.
    assert widths[0] == pytest.approx(2 * 1.96 * 0.025, rel=0.05)
    assert alike.design_effect == 0 and apart.design_effect > 10


def test_pure_fields_do_not_make_us_certain():
    found = shares.estimate_shares(np.array([[30, 0], [40, 0], [30, 0]]))
    low, high = found.interval()
    assert found.shares[0] == 1 and 0.94 < low[0] < 0.99 and high[0] <= 1


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([[0, 0], [0, 0]], "no cells"),
        (np.zeros((0, 2)), "no cells"),
        ([[3, 4]], "one field"),
    ],
)
def test_where_there_is_no_interval_the_reason_is_told(counts, reason):
    found = shares.estimate_shares(np.array(counts))
    assert found.interval() is None and reason in found.reason
    assert found.p_values(np.array([0.5, 0.5])) is None
    assert np.isnan(shares.fields_for(found, 0.1)).all()
    better = shares.correct_shares(found, CONFUSIONS)
    assert better.interval() is None and reason in better.reason


def test_one_field_is_corrected_without_an_interval():
    found = shares.correct_shares(
        shares.estimate_shares(np.array([[40, 60]])), CONFUSIONS
    )
    assert found.shares[0] == pytest.approx(2 / 7)


@pytest.mark.parametrize(
    ("confusions", "reason"),
    [
        ([[[5, 5], [0, 0]]], "no held-out cells"),
        ([[[50, 50], [50, 50]]], "not tell"),
    ],
)
def test_a_confusion_that_cannot_correct_is_not_used(confusions, reason):
    raw = shares.estimate_shares(np.array([[40, 60], [42, 58]]))
    found = shares.correct_shares(raw, np.array(confusions))
    assert reason in found.reason and np.isnan(found.shares).all()
    assert raw.interval() is not None


def test_the_test_against_an_expected_share_agrees_with_the_interval():
    found = shares.estimate_shares(
        np.array([[12, 20], [15, 22], [9, 18], [14, 19], [11, 25]])
    )
    low, high = found.interval()[:, 0]
    for expected in np.linspace(low - 0.02, high + 0.02, 9):
        p = found.p_values(np.array([expected, 1 - expected]))[0]
        assert (p >= 0.05) == (low <= expected <= high)


def test_so_many_fields_as_are_told_give_the_width():
    rng = np.random.default_rng(0)
    few = rng.multinomial(40, [0.3, 0.7], 8)
    needed = shares.fields_for(shares.estimate_shares(few), 0.08)[0]
    assert 8 < needed < 40
    many = rng.multinomial(40, [0.3, 0.7], int(needed))
    assert np.ptp(shares.estimate_shares(many).interval()[:, 0]) == pytest.approx(
        0.08, rel=0.3
    )
    # Of a confusion of 30 cells no number of fields makes up for.
    poor = shares.correct_shares(
        shares.estimate_shares(few), np.array([[[12, 3], [3, 12]]])
    )
    assert np.isinf(shares.fields_for(poor, 0.08)).all()


@pytest.mark.parametrize("types", [2, 3])
def test_corrected_intervals_hold_the_truth_and_raw_ones_do_not(types):
    found = coverage.coverage(coverage.mixtures(150, types, 8, seed=1))
    assert 0.91 <= found["corrected"][0] <= 0.99
    assert found["raw"][0] < 0.88
