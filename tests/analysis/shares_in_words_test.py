"""Tests of cellclass_tf.analysis.shares_in_words."""

import copy

from cellclass_tf.analysis import shares_in_words
from tests.workflows.run_test import SHARES


def changed(**values):
    found = copy.deepcopy(SHARES)
    found["estimates"][0] |= values
    return found


def test_the_best_available_estimate_is_printed():
    shares, heading = shares_in_words.best_shares(SHARES)
    assert heading == "Proportions (corrected) of 4 dishes:"
    assert shares_in_words.lines(shares) == [
        "  HEK: 40.0 % (30.0 to 50.0)",
        "  N2a: 60.0 % (50.0 to 70.0)",
    ]
    checked = {"reason": "", "types": {"HEK": {"share": 0.2, "low": 0.1, "high": 0.3}}}
    shares, heading = shares_in_words.best_shares(SHARES | {"spot_check": checked})
    assert shares == {"HEK": (0.2, 0.1, 0.3)}
    assert "spot check" in heading
    shares, heading = shares_in_words.best_shares(
        SHARES | {"spot_check": {"reason": "too few"}}
    )
    assert shares["HEK"][0] == 0.4


def test_withheld_proportions_and_missing_intervals_are_printed_as_such():
    shares, heading = shares_in_words.best_shares(changed(withheld="they look unlike"))
    assert shares is None
    assert heading == "Proportions are withheld: they look unlike."
    counted = {
        "HEK": {"share": 0.25, "low": None, "high": None},
        "N2a": {"share": None},
    }
    shares, heading = shares_in_words.best_shares(
        changed(
            corrected_reason="not measured",
            interval_reason="one field shows no differences",
            units=1,
            unit="field",
            types=counted,
        )
    )
    assert heading == (
        "Proportions (as counted) of 1 field; no interval, because one field shows no "
        "differences:"
    )
    assert shares_in_words.lines(shares) == ["  HEK: 25.0 % (no interval)"]
