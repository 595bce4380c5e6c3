"""Tests of cellclass_tf.analysis.methods_text."""

from cellclass_tf.analysis.methods_text import ends_text, methods_text
from cellclass_tf.core.run_record import OutlinesRecord, RunRecord

RESULT = {
    "corrected": True,
    "level": 0.95,
    "conditions": [
        {
            "name": "control",
            "replicates": 3,
            "groups": 4,
            "fields": 9,
            "cells": 500,
            "rejected": 2,
        }
    ],
    "contrasts": [
        {
            "first": "control",
            "second": "drug",
            "type": "HEK",
            "difference": 0.2,
            "difference_low": 0.1,
            "difference_high": 0.3,
            "odds_ratio": 2.5,
            "odds_ratio_low": 1.5,
            "odds_ratio_high": 4.0,
            "p_value": 0.0123,
            "p_adjusted": 0.0123,
            "reason": "",
        }
    ],
}


def test_the_text_names_unit_test_and_numbers():
    record = RunRecord(outlines=OutlinesRecord("cellpose"))
    text = methods_text(RESULT, record)
    for words in (
        "outlined by cellpose",
        "corrected for cells",
        "control: 3 replicates, 4 dishes, 9 fields, 500 cells, 2 fields rejected",
        "Welch's t-test",
        "+20.0 percentage points (10.0 to 30.0)",
        "2.50, 1.50 to 4.00; p = 0.0123",
    ):
        assert words in text
    assert "Holm" not in text


def test_ends_that_are_not_known_are_left_out():
    assert ends_text(None, None) == ""
    assert ends_text(0.1, 0.25) == " (10.0 to 25.0 %)"
