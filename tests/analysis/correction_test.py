"""Tests of cellclass_tf.analysis.correction."""

import numpy as np
import pytest

from cellclass_tf.analysis import correction, shares
from experiments.benchmarks import coverage

# 90 % of type 1 and 80 % of type 2 are called right, measured on many cells.
CONFUSIONS = np.tile([[90, 10], [20, 80]], (20, 1, 1))


def matched(confusions):
    """Held-out fields (V, K, K), each a unit, without a cell missed or invented."""
    confusions = np.asarray(confusions)
    fields, types = confusions.shape[:2]
    none = np.zeros((fields, types), int)
    names = [str(number) for number in range(fields)]
    return correction.HeldOut(confusions, none, none, np.zeros(fields), names)


HELD_OUT = matched(CONFUSIONS)


def held_out(rows, invented=(0, 0), fields=10):
    """Pure fields whose cells become what `rows` (K, K + 1) say; the last are missed."""
    rows = np.asarray(rows)
    types = len(rows)
    confusions = np.zeros((types * fields, types, types), int)
    missed = np.zeros((types * fields, types), int)
    for number in range(types * fields):
        i = number % types
        confusions[number, i], missed[number, i] = rows[i, :-1], rows[i, -1]
    return correction.HeldOut(
        confusions,
        missed,
        np.tile(invented, (types * fields, 1)),
        np.ones(types * fields),
        [str(number) for number in range(types * fields)],
    )


def test_the_correction_of_two_types_is_rogan_and_gladens():
    raw = shares.estimate_shares(np.array([[40, 60], [42, 58], [38, 62]]))
    found = correction.correct_shares(raw, HELD_OUT)
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
        correction.solve_shares((true @ rates)[None], rates[None]), [true], atol=1e-12
    )


def test_cells_that_are_missed_and_invented_are_corrected_for():
    """200 and 100 cells, of which half and all are found, beside 10 and 30 that are none."""
    known = held_out([[50, 0, 50], [0, 100, 0]], invented=(1, 3))
    raw = shares.estimate_shares(np.array([[22, 26]] * 5))
    found = correction.correct_shares(raw, known, area=10.0)
    # 110 calls of the first type, of which 10 are none, of 200 cells.
    np.testing.assert_allclose(found.shares, [2 / 3, 1 / 3], atol=1e-9)
    low, high = found.interval()[:, 0]
    assert low < 2 / 3 < high


def test_corrected_shares_stay_between_0_and_1():
    # Fewer cells are called type 1 than are expected to be called so by mistake.
    raw = shares.estimate_shares(np.array([[5, 95], [8, 92], [2, 98]]))
    found = correction.correct_shares(raw, HELD_OUT)
    assert found.shares.tolist() == [0, 1]
    assert found.draws.min() == 0
    assert found.draws.max() == 1
    np.testing.assert_allclose(found.draws.sum(axis=1), 1)
    # Nor if there are fewer calls than expected inventions.
    raw = shares.estimate_shares(np.array([[1, 2], [2, 1]]))
    many = held_out([[100, 0, 0], [0, 100, 0]], invented=(5, 5))
    found = correction.correct_shares(raw, many, area=50.0)
    assert np.isfinite(found.draws).all()
    assert found.draws.min() >= 0


def test_one_field_is_corrected_without_an_interval():
    found = correction.correct_shares(
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
    found = correction.correct_shares(raw, matched(confusions))
    assert reason in found.reason
    assert np.isnan(found.shares).all()
    assert raw.interval() is not None


def test_an_estimate_without_an_interval_has_none_after_the_correction_either():
    for counts, reason in (
        ([[0, 0]], "no cell has a type"),
        ([[3, 4]], "single field"),
    ):
        raw = shares.estimate_shares(np.array(counts))
        found = correction.correct_shares(raw, HELD_OUT)
        assert found.interval() is None
        assert reason in found.reason


def test_no_number_of_units_makes_up_for_a_confusion_matrix_of_30_cells():
    few = np.random.default_rng(0).multinomial(40, [0.3, 0.7], 8)
    raw = shares.estimate_shares(few)
    assert np.isfinite(shares.units_for(raw, 0.08)).all()
    poor = correction.correct_shares(raw, matched([[[12, 3], [3, 12]]]))
    assert np.isinf(shares.units_for(poor, 0.08)).all()


def test_a_type_whose_cells_are_all_missed_is_reported():
    raw = shares.estimate_shares(np.array([[40, 60], [42, 58]]))
    found = correction.correct_shares(raw, held_out([[0, 0, 50], [5, 45, 0]]))
    assert "no held-out cells" in found.reason


def test_units_of_error_rates_are_dishes_or_fields_if_there_is_one_dish():
    confusions = np.tile([[9, 1], [0, 0]], (4, 1, 1))
    none = np.zeros((4, 2), int)
    for names, units in ((list("aabb"), 2), (list("aaaa"), 4)):
        known = correction.HeldOut(confusions, none + 1, none, np.ones(4), names)
        rows = known.rows(0)
        assert len(rows) == units
        assert rows.sum() == 44
    assert len(known.rows(1)) == 4
    assert known.rows(1)[:, :-1].sum() == 0


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
