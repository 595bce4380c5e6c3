"""Tests of cellclass_tf.analysis.methods_text."""

import dataclasses

from cellclass_tf.analysis.methods_text import ends_text, methods_text
from cellclass_tf.core.model_metadata import NamingRecord
from cellclass_tf.core.run_record import OutlinesRecord, RunRecord
from tests.metadata import model_metadata

RESULT = {
    "corrected": True,
    "spot_check": None,
    "level": 0.95,
    "conditions": [
        {
            "name": "control",
            "replicates": 3,
            "groups": 4,
            "scenes": 9,
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
            "test": "Welch's t-test",
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
        "corrected for wrong calls",
        "control: 3 replicates, 4 dishes, 9 fields, 500 cells, 2 fields rejected",
        "Welch's t-test",
        "+20.0 percentage points (10.0 to 30.0)",
        "2.50, 1.50 to 4.00; p = 0.0123",
    ):
        assert words in text
    assert "Holm" not in text


def test_groups_of_one_scene_each_are_not_called_dishes():
    lone = RESULT["conditions"][0] | {"scenes": 4}
    text = methods_text(RESULT | {"conditions": [lone]}, RunRecord())
    assert "control: 3 replicates, 9 fields, 500 cells" in text
    assert "dish" not in text


def test_the_text_says_what_outlined_the_cells():
    for source, words in (
        ("network", "Cells were outlined and classified with cellclass_tf"),
        ("files", "Cells were outlined by another program and classified with"),
        ("watershed:1", "Cells were outlined by watershed:1 and classified with"),
    ):
        record = RunRecord(outlines=OutlinesRecord(source))
        assert methods_text(RESULT, record).startswith(words)


def test_the_text_names_only_the_errors_that_were_corrected():
    metadata = model_metadata([[[45, 5], [10, 40]]])
    of_dataset = NamingRecord("dataset", 0.5, 1.0, metadata.calibration)
    metadata = dataclasses.replace(metadata, naming=(of_dataset,))
    by_network = RunRecord(model_metadata=metadata)
    words = "corrected for wrong calls, missed cells and false positives of the network"
    assert words in methods_text(RESULT, by_network)
    # In given outlines, missed cells are not known.
    by_files = RunRecord(model_metadata=metadata, outlines=OutlinesRecord("files"))
    text = methods_text(RESULT, by_files)
    assert "corrected for wrong calls of the network" in text


def test_the_text_says_which_conditions_were_paired():
    paired = RESULT["contrasts"][0] | {"test": "paired t-test"}
    text = methods_text(RESULT | {"contrasts": [paired]}, RunRecord())
    assert "a paired t-test" in text
    assert "Welch" not in text
    other = RESULT["contrasts"][0] | {"second": "sham"}
    text = methods_text(RESULT | {"contrasts": [paired, other]}, RunRecord())
    assert "sham and control by Welch's" in text
    assert "drug and control by a pair" in text
    none = paired | {"p_value": None, "test": "", "reason": "one replicate"}
    assert "t-test" not in methods_text(RESULT | {"contrasts": [none]}, RunRecord())


def test_spot_check_is_described_with_its_labels_estimator_and_sources():
    checked = {
        "reason": "",
        "types": {"HEK": {"share": 0.5, "low": 0.4, "high": 0.6}},
        "accuracy": 0.9,
        "accuracy_low": 0.8,
        "accuracy_high": 0.95,
        "windows": 44,
        "cells": 100,
        "labellers": ["Ana", "Ben"],
        "agreement": {"cells": 100, "differ": 4, "kappa": 0.91},
    }
    text = methods_text(RESULT | {"spot_check": checked}, RunRecord())
    for words in (
        "2 persons, blinded to the calls",
        "labelled 100 cells in 44 windows",
        "Cohen's kappa 0.91",
        "90.0 % (80.0 to 95.0 %)",
        "HEK 50.0 % (40.0 to 60.0 %)",
        "prediction-powered inference (Angelopoulos et al. 2023",
        "does not use the labels",
    ):
        assert words in text
    none = checked | {"reason": "too few windows"}
    assert "labelled" not in methods_text(RESULT | {"spot_check": none}, RunRecord())


def test_missing_intervals_are_left_out():
    assert ends_text(None, None) == ""
    assert ends_text(0.1, 0.25) == " (10.0 to 25.0 %)"
