"""Tests of cellclass_tf.analysis.shares."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from cellclass_tf.analysis import shares
from experiments.benchmarks import coverage

# 90 % of type 1 and 80 % of type 2 are called right, measured on many cells.
CONFUSIONS = np.tile([[90, 10], [20, 80]], (20, 1, 1))


def matched(confusions):
    """Returns held-out fields (V, K, K), each a unit, without missed or invented cells."""
    confusions = np.asarray(confusions)
    fields, types = confusions.shape[:2]
    none = np.zeros((fields, types), int)
    names = [str(number) for number in range(fields)]
    return shares.HeldOut(confusions, none, none, np.zeros(fields), names)


HELD_OUT = matched(CONFUSIONS)


def held_out(rows, invented=(0, 0), fields=10):
    """Returns pure fields, classified as in `rows` (K, K + 1), of which the last are missed."""
    rows = np.asarray(rows)
    types = len(rows)
    confusions = np.zeros((types * fields, types, types), int)
    missed = np.zeros((types * fields, types), int)
    for number in range(types * fields):
        i = number % types
        confusions[number, i], missed[number, i] = rows[i, :-1], rows[i, -1]
    return shares.HeldOut(
        confusions,
        missed,
        np.tile(invented, (types * fields, 1)),
        np.ones(types * fields),
        [str(number) for number in range(types * fields)],
    )


def test_the_correction_of_two_types_is_rogan_and_gladens():
    raw = shares.estimate_shares(np.array([[40, 60], [42, 58], [38, 62]]))
    found = shares.correct_shares(raw, HELD_OUT)
    # (share + specificity - 1) / (sensitivity + specificity - 1)
    assert found.shares[0] == pytest.approx((0.4 + 0.8 - 1) / (0.9 + 0.8 - 1))
    low, high = found.interval()
    assert (low < found.shares).all()
    assert (found.shares < high).all()
    # The uncertainty of the rates adds to the wider spread of the corrected shares.
    assert np.diff([low, high], axis=0)[0, 0] > np.diff(raw.interval(), axis=0)[0, 0]


def test_three_types_are_corrected_together():
    rates = np.array([[0.8, 0.15, 0.05], [0.1, 0.9, 0.0], [0.2, 0.1, 0.7]])
    true = np.array([0.5, 0.2, 0.3])
    np.testing.assert_allclose(
        shares.solve_shares((true @ rates)[None], rates[None]), [true], atol=1e-12
    )


def test_cells_that_are_missed_and_invented_are_corrected_for():
    """Of 200 and 100 cells, half and all are found, beside 10 and 30 false positives."""
    known = held_out([[50, 0, 50], [0, 100, 0]], invented=(1, 3))
    raw = shares.estimate_shares(np.array([[22, 26]] * 5))
    found = shares.correct_shares(raw, known, area=10.0)
    # 110 calls of the first type, of which 10 are none, of 200 cells.
    np.testing.assert_allclose(found.shares, [2 / 3, 1 / 3], atol=1e-9)
    low, high = found.interval()[:, 0]
    assert low < 2 / 3 < high


def test_corrected_shares_stay_between_0_and_1():
    # Fewer cells are called type 1 than are expected to be called so by mistake.
    raw = shares.estimate_shares(np.array([[5, 95], [8, 92], [2, 98]]))
    found = shares.correct_shares(raw, HELD_OUT)
    assert found.shares.tolist() == [0, 1]
    assert found.draws.min() == 0
    assert found.draws.max() == 1
    np.testing.assert_allclose(found.draws.sum(axis=1), 1)
    # Nor if there are fewer calls than expected inventions.
    raw = shares.estimate_shares(np.array([[1, 2], [2, 1]]))
    many = held_out([[100, 0, 0], [0, 100, 0]], invented=(5, 5))
    found = shares.correct_shares(raw, many, area=50.0)
    assert np.isfinite(found.draws).all()
    assert found.draws.min() >= 0


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
    better = shares.correct_shares(found, HELD_OUT)
    assert better.interval() is None
    assert reason in better.reason


def test_one_field_is_corrected_without_an_interval():
    found = shares.correct_shares(
        shares.estimate_shares(np.array([[40, 60]])), HELD_OUT
    )
    assert found.shares[0] == pytest.approx(2 / 7)


@pytest.mark.parametrize(
    ("confusions", "reason"),
    [
        ([[[5, 5], [0, 0]]], "no held-out cells"),
        ([[[50, 50], [50, 50]]], "not tell"),
    ],
)
def test_an_unusable_confusion_matrix_is_not_used(confusions, reason):
    raw = shares.estimate_shares(np.array([[40, 60], [42, 58]]))
    found = shares.correct_shares(raw, matched(confusions))
    assert reason in found.reason
    assert np.isnan(found.shares).all()
    assert raw.interval() is not None


def test_a_type_whose_cells_are_all_missed_is_reported():
    raw = shares.estimate_shares(np.array([[40, 60], [42, 58]]))
    found = shares.correct_shares(raw, held_out([[0, 0, 50], [5, 45, 0]]))
    assert "no held-out cells" in found.reason


def test_units_of_error_rates_are_dishes_or_fields_if_there_is_one_dish():
    confusions = np.tile([[9, 1], [0, 0]], (4, 1, 1))
    none = np.zeros((4, 2), int)
    for names, units in ((list("aabb"), 2), (list("aaaa"), 4)):
        known = shares.HeldOut(confusions, none + 1, none, np.ones(4), names)
        rows = known.rows(0)
        assert len(rows) == units
        assert rows.sum() == 44
    assert len(known.rows(1)) == 4
    assert known.rows(1)[:, :-1].sum() == 0


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
    # No number of units makes up for a confusion matrix of 30 cells.
    poor = shares.correct_shares(
        shares.estimate_shares(few),
        matched([[[12, 3], [3, 12]]]),
    )
    assert np.isinf(shares.units_for(poor, 0.08)).all()


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


@pytest.mark.parametrize(
    "kind",
    [
        coverage.Kind("dishes differ"),
        coverage.Kind("one type is missed more", 0.5, recall=(0.95, 0.75)),
        coverage.Kind("cells are invented", 0.05, types=3, invented=1.5),
    ],
    ids=lambda kind: kind.name,
)
def test_corrected_intervals_contain_the_true_share(kind):
    found = coverage.coverage(kind, 40, seed=1)["corrected"]
    assert found[0] >= 0.9
    assert found[1] < 0.45


def test_memory_does_not_grow_with_the_number_of_units():
    rng, peaks = np.random.default_rng(0), []
    for units in (200, 800):
        counts = rng.multinomial(30, [0.4, 0.6], units)
        tracemalloc.start()
        shares.estimate_shares(counts)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] < 200e6
