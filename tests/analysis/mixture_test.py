"""Tests of cellclass_tf.analysis.mixture."""

import dataclasses
import json

import numpy as np
import pytest

import cellclass_tf as cc
from cellclass_tf import errors
from cellclass_tf.analysis import cell_table, mixture, shares, table_files
from cellclass_tf.analysis.spot_check.sample import Sample
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.run_record import RunRecord
from tests.metadata import model_metadata
from tests.predictions import write_predictions
from tests.spot_check import checked_predictions, rows_of, write_table

TYPES = ("HEK", "N2a")
CONFUSIONS = np.tile([[45, 5], [10, 40]], (8, 1, 1))


def predictions(
    folder, counts, *, groups=None, scenes=None, confusions=CONFUSIONS, **changes
):
    """Makes a folder of `predict` without rows in cells.csv, which are not needed."""
    table_files.write_cells_csv(folder / "cells.csv", [], TYPES)
    rows = [
        {
            "image": f"mixed/{i}",
            "group": groups[i] if groups else "dish",
            "scene": scenes[i] if scenes else "",
            "time": 0,
            "area_px": 640,
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
    table_files.write_counts_csv(folder / "counts.csv", rows, TYPES)
    if confusions is not None:
        confusions = np.asarray(confusions).tolist()
    record = RunRecord(model_metadata=model_metadata(confusions, **changes))
    record.write(folder / "run.json")
    return folder


def test_shares_of_all_fields_and_of_each_group(tmp_path):
    counts = [(20, 20), (22, 18), (18, 22), (30, 10), (28, 12), (31, 9)]
    folder = predictions(tmp_path, counts, groups=list("aaabbb"))
    found = cc.mixture(folder, expected="HEK=1,N2a=1")
    assert found == json.loads((folder / "mixture.json").read_text())
    names = [estimate["name"] for estimate in found["estimates"]]
    assert names == ["all fields", "a", "b"]
    whole, a, b = (estimate["types"]["HEK"] for estimate in found["estimates"])
    assert whole["cells"] == 149
    assert whole["share"] == pytest.approx(149 / 240, abs=1e-5)
    assert a["low"] < 0.5 < a["high"]
    assert a["expected"] == 0.5
    # 0.5 called means (0.5 + 0.8 - 1) / (0.9 + 0.8 - 1).
    assert a["corrected"] == pytest.approx(3 / 7, abs=1e-5)
    assert a["p_value"] > 0.05 > b["p_value"]
    assert found["confusion"]["N2a"] == {"HEK": 80, "N2a": 320, "missed": 0}
    assert found["confusion"]["invented"] == {"HEK": 0, "N2a": 0}
    assert found["confusion_fields"] == 8
    assert found["confusion_dishes"] == {"HEK": 8, "N2a": 8}
    assert found["right_by_dish"]["HEK"]["dish 3"] == 0.9
    assert not found["warnings"]


def test_without_held_out_fields_shares_are_not_corrected_and_the_reason_is_given(
    tmp_path,
):
    folder = predictions(tmp_path, [(20, 20), (22, 18)], confusions=None)
    (found,) = cc.mixture(folder)["estimates"]
    assert "held-out" in found["corrected_reason"]
    assert not found["interval_reason"]
    hek = found["types"]["HEK"]
    assert hek["corrected"] is None
    assert hek["low"] < hek["share"] < hek["high"]
    assert hek["units_for_width"] >= 2


def test_without_cells_or_with_one_field_the_reason_for_no_interval_is_given(tmp_path):
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


def test_an_invalid_count_is_reported_with_its_line(tmp_path):
    folder = predictions(tmp_path, [(3, 4), (5, 6)])
    path = folder / "counts.csv"
    path.write_text(path.read_text().replace(",5,6,", ",5,many,"))
    with pytest.raises(errors.InputError, match=r"counts.csv, line 3"):
        cc.mixture(folder)


def test_units_are_dishes_or_fields_if_there_is_one_dish(tmp_path):
    counts = [(20, 20), (22, 18), (30, 10), (31, 9), (0, 0)]
    folder = predictions(tmp_path, counts, groups=list("aabbc"))
    whole, a, _, c = cc.mixture(folder)["estimates"]
    # The third dish has no cells.
    assert (whole["unit"], whole["units"], whole["fields"]) == ("dish", 2, 4)
    assert (a["unit"], a["units"]) == ("field", 2)
    assert c["interval_reason"]
    told = whole["types"]["HEK"]
    assert whole["dominated_by_prior"]
    assert told["logit_t_low"] < told["share"]
    assert 0 < whole["icc"]["low"] < whole["icc"]["median"] < whole["icc"]["high"] < 1
    # Two different dishes give wider intervals than four fields of one dish.
    both = predictions(tmp_path / "one", counts)
    (of_fields,) = cc.mixture(both)["estimates"]
    assert of_fields["units"] == 4
    assert not of_fields["dominated_by_prior"]
    assert of_fields["types"]["HEK"]["logit_t_low"] is None
    widths = [
        e["types"]["HEK"]["high"] - e["types"]["HEK"]["low"] for e in (whole, of_fields)
    ]
    assert widths[0] > 1.3 * widths[1]


def test_times_of_one_scene_are_one_field(tmp_path):
    counts = [(20, 20), (20, 20), (30, 10), (30, 10)]
    folder = predictions(tmp_path, counts, scenes=["f/0", "f/0", "f/1", "f/1"])
    (found,) = cc.mixture(folder)["estimates"]
    assert (found["unit"], found["units"], found["fields"]) == ("field", 2, 4)
    apart = predictions(tmp_path / "apart", counts)
    assert cc.mixture(apart)["estimates"][0]["units"] == 4


def test_missed_cells_are_corrected_for_or_a_warning_says_why_not(tmp_path):
    metadata = model_metadata(CONFUSIONS.tolist())
    record = metadata.calibration
    fields = tuple(
        dataclasses.replace(field, missed=(50, 0)) for field in record.held_out
    )
    missing = dataclasses.replace(record, held_out=fields)
    counts = [(20, 20)] * 4
    told = []
    for name, calibration in (("found", record), ("missed", missing)):
        folder = predictions(tmp_path / name, counts, calibration=calibration)
        told.append(cc.mixture(folder)["estimates"][0]["types"]["HEK"]["corrected"])
    # Every second cell of HEK is missed: there are twice as many.
    odds = [share / (1 - share) for share in told]
    assert odds[1] / odds[0] == pytest.approx(2, rel=1e-3)
    unknown = tuple(dataclasses.replace(field, area=0.0) for field in record.held_out)
    old = dataclasses.replace(record, held_out=unknown)
    folder = predictions(tmp_path / "old", counts, calibration=old)
    (warning,) = cc.mixture(folder)["warnings"]
    assert "Missed and invented" in warning


def test_fields_that_are_groups_of_their_own_are_not_taken_for_dishes(tmp_path):
    counts = [(20, 20), (22, 18), (30, 10)]
    found = cc.mixture(predictions(tmp_path, counts, groups=list("abc")))
    assert (found["estimates"][0]["unit"], found["estimates"][0]["units"]) == (
        "field",
        3,
    )
    (warning,) = found["warnings"]
    assert "tell the dishes apart" in warning
    # Cells of the other dish may all be unknown.
    counts = [(20, 20), (22, 18), (0, 0)]
    one = predictions(tmp_path / "one", counts, groups=list("aab"))
    assert not cc.mixture(one)["warnings"]
    # Times of one scene do not make it a dish of several fields.
    again = predictions(
        tmp_path / "again", counts * 2, groups=list("abcabc"), scenes=list("abcabc")
    )
    assert cc.mixture(again)["estimates"][0]["unit"] == "field"


def test_shares_of_all_fields_are_sampled_only_once(tmp_path, monkeypatch):
    folder = checked_predictions(tmp_path)
    cc.spotcheck(folder, cells=30)
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    cc.import_spotcheck(folder, write_table(tmp_path / "a.csv", rows_of(drawn)))
    calls, real = [], shares.estimate_shares

    def counted(*arguments, **options):
        calls.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(shares, "estimate_shares", counted)
    found = cc.mixture(folder)
    assert not found["spot_check"]["reason"]
    assert found["spot_check"]["of_units"]
    assert len(calls) == len(found["estimates"]) == 1


def test_a_counting_frame_does_not_favour_the_larger_type(tmp_path):
    """There are as many cells of 10 px as of 40 px, in fields cut out of a large dish."""
    rng, fields = np.random.default_rng(0), {}
    for number in range(30):
        labels, types = np.zeros((120, 120), np.int32), []
        for place in rng.uniform(-40, 160, (40, 2)).round().astype(int):
            side = (10, 40)[rng.integers(2)]
            top, left = place
            box = (
                slice(max(0, top), max(0, top + side)),
                slice(max(0, left), max(0, left + side)),
            )
            # If cells overlap, the first one is kept.
            if labels[box].size and not labels[box].any():
                types.append(TYPES[side == 40])
                labels[box] = len(types)
        fields[f"mixed/{number}"] = Cells.from_labels(labels, TYPES, types)
    write_predictions(tmp_path, fields)
    of_all = cc.mixture(tmp_path)["estimates"][0]["types"]
    framed = cc.mixture(tmp_path, counting_frame=True)
    in_frame = framed["estimates"][0]["types"]
    assert framed["counting_frame"]
    cells = {name: told["cells"] for name, told in in_frame.items()}
    assert framed["estimates"][0]["cells"] == sum(cells.values())
    # In the frame, large cells are not over-represented; without it they are by a quarter.
    ratio = cells["N2a"] / cells["HEK"]
    assert of_all["N2a"]["cells"] / of_all["HEK"]["cells"] > 1.25 * ratio
    table = (tmp_path / "cells.csv").read_text().replace("in_frame", "framed")
    (tmp_path / "cells.csv").write_text(table)
    with pytest.raises(
        errors.InputError, match="which cells are in the counting frame"
    ):
        cc.mixture(tmp_path, counting_frame=True)


def test_probabilities_that_contradict_the_interval_give_a_warning(tmp_path):
    """The predicted types are half and half; by the probabilities nearly all are HEK."""
    folder = predictions(tmp_path, [(20, 20)] * 6)
    assert not cc.mixture(folder)["warnings"]
    cells = [
        dict.fromkeys(cell_table.columns(TYPES))
        | {"image": f"mixed/{n}", "cell": i, "cell_type": TYPES[i % 2], "score": 1}
        | {"p_HEK": 0.95 if i % 2 else 0.49, "p_N2a": 0.05 if i % 2 else 0.51}
        for n in range(6)
        for i in range(40)
    ]
    table_files.write_cells_csv(folder / "cells.csv", [cells], TYPES)
    found = cc.mixture(folder)
    told = found["estimates"][0]["types"]["HEK"]
    assert told["by_probability"] > told["corrected_high"]
    assert all("from the probabilities" in warning for warning in found["warnings"])
