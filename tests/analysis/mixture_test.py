"""Tests of cellclass_tf.analysis.mixture."""

import json

import numpy as np
import pytest

import cellclass_tf as cc
from cellclass_tf import errors
from cellclass_tf.analysis import cell_table, mixture
from cellclass_tf.core.run_record import RunRecord
from tests.metadata import model_metadata

TYPES = ("HEK", "N2a")
CONFUSIONS = np.tile([[45, 5], [10, 40]], (8, 1, 1))


def predictions(folder, counts, *, groups=None, confusions=CONFUSIONS):
    """A folder of `predict` without cells.csv's rows: counts and the record are enough."""
    cell_table.write_cells_csv(folder / "cells.csv", [], TYPES)
    rows = [
        {
            "image": f"mixed/{i}",
            "group": groups[i] if groups else "dish",
            "cells": sum(row),
            "n_HEK": row[0],
            "n_N2a": row[1],
            "unknown": 0,
            "uncertain": 1,
            "share_HEK": None,
            "share_N2a": None,
        }
        for i, row in enumerate(counts)
    ]
    cell_table.write_counts_csv(folder / "counts.csv", rows, TYPES)
    if confusions is not None:
        confusions = np.asarray(confusions).tolist()
    RunRecord(model_metadata=model_metadata(confusions)).write(folder / "run.json")
    return folder


def test_shares_of_all_fields_and_of_each_group(tmp_path):
    counts = [(20, 20), (22, 18), (18, 22), (30, 10), (28, 12), (31, 9)]
    folder = predictions(tmp_path, counts, groups=list("aaabbb"))
    found = cc.mixture(folder, expected="HEK=1,N2a=1")
    assert found == json.loads((folder / "mixture.json").read_text())
    names = [estimate["name"] for estimate in found["estimates"]]
    assert names == ["all fields", "a", "b"]
    whole, a, b = (estimate["types"]["HEK"] for estimate in found["estimates"])
    assert whole["cells"] == 149 and whole["share"] == pytest.approx(
        149 / 240, abs=1e-5
    )
    assert a["low"] < 0.5 < a["high"] and a["expected"] == 0.5
    # 0.5 called means (0.5 + 0.8 - 1) / (0.9 + 0.8 - 1).
    assert a["corrected"] == pytest.approx(3 / 7, abs=1e-5)
    assert a["p_value"] > 0.05 > b["p_value"]
    assert found["confusion"]["N2a"] == {"HEK": 80, "N2a": 320}
    assert found["confusion_fields"] == 8


def test_a_model_without_held_out_fields_gives_raw_shares_and_says_so(tmp_path):
    folder = predictions(tmp_path, [(20, 20), (22, 18)], confusions=None)
    (found,) = cc.mixture(folder)["estimates"]
    assert "held-out" in found["corrected_reason"] and not found["interval_reason"]
    hek = found["types"]["HEK"]
    assert hek["corrected"] is None and hek["low"] < hek["share"] < hek["high"]
    assert hek["fields_for_width"] >= 2


def test_no_cells_and_one_field_say_why_there_is_no_interval(tmp_path):
    for name, counts in (("none", [(0, 0)]), ("one", [(3, 4)])):
        folder = tmp_path / name
        (found,) = cc.mixture(predictions(folder, counts))["estimates"]
        assert found["interval_reason"]
        assert found["types"]["HEK"]["low"] is None
        # JSON has no NaN.
        json.loads((folder / "mixture.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "expected", ["HEK", "HEK=x,N2a=1", "HEK=0.5", "HEK=-1,N2a=2", "HEK=0,N2a=0"]
)
def test_expected_shares_that_do_not_fit_are_refused(tmp_path, expected):
    folder = predictions(tmp_path, [(3, 4)])
    with pytest.raises(errors.InputError, match="expected"):
        cc.mixture(folder, expected=expected)
    assert not (folder / mixture.MIXTURE_FILE).exists()


def test_what_is_no_count_is_named_with_its_line(tmp_path):
    folder = predictions(tmp_path, [(3, 4), (5, 6)])
    path = folder / "counts.csv"
    path.write_text(path.read_text().replace(",5,6,", ",5,many,"))
    with pytest.raises(errors.InputError, match="counts.csv, line 3"):
        cc.mixture(folder)
