"""Tests of cellclass_tf.analysis.spot_check.result."""

import numpy as np
import pytest

import cellclass_tf as cc
from cellclass_tf.analysis.spot_check import result
from cellclass_tf.analysis.spot_check.labels import (
    CANNOT_TELL,
    NOT_A_CELL,
    LabelledWindow,
)
from cellclass_tf.analysis.spot_check.sample import Sample, Window
from tests.spot_check import (
    TYPES,
    checked_predictions,
    mark_repeated,
    rows_of,
    write_table,
)


def sample_of(count, empty=4, called=("HEK", "N2a")):
    """Returns windows of 2 cells, and empty ones, drawn from ten times as many."""
    cells = dict(enumerate(called, start=1))
    windows = [Window("a", (0, 0, 9, 9), cells)] * count
    windows += [Window("a", (0, 0, 9, 9), {})] * empty
    totals = {name: 10 * count * called.count(name) for name in TYPES}
    return Sample(
        "0", TYPES, 0, 2 * count, tuple(windows), 10 * count, 10 * empty, totals
    )


def said(drawn, *cells, missed=()):
    return {
        number: LabelledWindow(
            {} if window.is_empty else dict(enumerate(cells, start=1)),
            () if window.is_empty else missed,
        )
        for number, window in enumerate(drawn.windows)
    }


def test_labels_that_agree_with_the_calls_give_their_shares():
    drawn = sample_of(20)
    found = result.estimate_of(drawn, {"Ana": said(drawn, ("HEK",), ("N2a",))}, None, 0)
    assert found["types"]["HEK"]["share"] == 0.5
    assert found["accuracy"] == 1
    assert found["confusion"]["HEK"] == {"HEK": 20, "N2a": 0, "unknown": 0, "missed": 0}
    assert found["cells"] == 40
    assert not found["of_units"]
    assert not found["warnings"]


def test_missed_merged_and_invented_cells_change_the_shares():
    drawn = sample_of(20)
    one = {"Ana": said(drawn, ("HEK",), ("N2a",), missed=("HEK",))}
    found = result.estimate_of(drawn, one, None, 0)
    assert found["types"]["HEK"]["share"] == pytest.approx(2 / 3)
    assert found["confusion"]["HEK"]["missed"] == 20
    assert found["accuracy"] == 1
    two = {"Ana": said(drawn, ("HEK", "N2a"), ("N2a",))}
    found = result.estimate_of(drawn, two, None, 0)
    assert found["types"]["HEK"]["share"] == pytest.approx(1 / 3)
    assert found["confusion"]["N2a"] == {
        "HEK": 0,
        "N2a": 20,
        "unknown": 0,
        "missed": 20,
    }
    none = {"Ana": said(drawn, (NOT_A_CELL,), ("N2a",))}
    found = result.estimate_of(drawn, none, None, 0)
    assert found["types"]["HEK"]["share"] < 0.01
    assert found["confusion"][NOT_A_CELL] == {"HEK": 20, "N2a": 0, "unknown": 0}


def test_cells_labelled_cannot_tell_are_treated_like_the_others_with_a_warning():
    drawn = sample_of(20)
    windows = said(drawn, ("HEK",), ("N2a",))
    for number in range(6):
        windows[number] = LabelledWindow({1: (CANNOT_TELL,), 2: (CANNOT_TELL,)}, ())
    found = result.estimate_of(drawn, {"Ana": windows}, None, 0)
    assert found["types"]["HEK"]["share"] == pytest.approx(0.5)
    assert "12 of 40 cells of the spot check were labelled" in found["warnings"][0]


def test_labels_of_two_people_are_averaged_with_a_warning():
    drawn = sample_of(20)
    people = {
        "Ana": said(drawn, ("HEK",), ("N2a",)),
        "Ben": said(drawn, ("N2a",), ("N2a",)),
    }
    found = result.estimate_of(drawn, people, None, 0)
    assert found["types"]["HEK"]["share"] == pytest.approx(0.25, abs=0.01)
    assert found["agreement"]["differ"] == 20
    assert found["accuracy"] == 0.75
    assert "agree on that first" in " ".join(found["warnings"])


def test_too_few_windows_give_no_estimate():
    drawn = sample_of(20)
    windows = said(drawn, ("HEK",), ("N2a",))
    few = {number: windows[number] for number in range(4)}
    assert "at least 5" in result.estimate_of(drawn, {"Ana": few}, None, 0)["reason"]
    # If some windows are not labelled, there is a warning and the interval is wider.
    some = {number: of for number, of in windows.items() if number >= 8}
    found = result.estimate_of(drawn, {"Ana": some}, None, 0)
    assert "16 of 24 windows" in found["warnings"][0]
    whole = result.estimate_of(drawn, {"Ana": windows}, None, 0)
    widths = [
        np.subtract(*(of["types"]["HEK"][k] for k in ("high", "low")))
        for of in (found, whole)
    ]
    assert widths[0] > widths[1]


def test_the_report_begins_with_the_spot_check_and_warns_of_disagreement(tmp_path):
    folder = checked_predictions(tmp_path, fields=8)
    assert cc.mixture(folder)["spot_check"] is None
    cc.spotcheck(folder, cells=100)
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    # All are HEK, whatever they were called.
    rows = rows_of(drawn, "<i>Ana", label=lambda call: "HEK")
    cc.import_spotcheck(folder, write_table(tmp_path / "a.csv", rows))
    page = cc.report(folder).read_text(encoding="utf-8")
    found = cc.mixture(folder)
    checked, corrected = found["spot_check"], found["estimates"][0]["types"]["HEK"]
    assert checked["types"]["HEK"]["share"] > 0.95 > corrected["corrected"]
    assert "Rely on the spot check" in checked["warnings"][0]
    first, second = (
        f"{100 * s:.1f} %"
        for s in (checked["types"]["HEK"]["share"], corrected["corrected"])
    )
    assert -1 < page.index(first) < page.index(second)
    assert "&lt;i&gt;Ana" in page
    assert "Rely on the spot check" in page
    # Labels are for all cells, not for the cells in a counting frame.
    assert cc.mixture(folder, counting_frame=True)["spot_check"] is None


def test_labels_of_earlier_predictions_are_not_used(tmp_path):
    folder = checked_predictions(tmp_path)
    cc.spotcheck(folder, cells=30)
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    cc.import_spotcheck(folder, write_table(tmp_path / "a.csv", rows_of(drawn)))
    with open(folder / "cells.csv", "a", encoding="utf-8") as file:
        file.write((folder / "cells.csv").read_text().splitlines()[-1] + "\n")
    found = cc.mixture(folder)
    assert "other predictions" in found["spot_check"]["reason"]
    assert "No estimate from the spot check" in cc.report(folder).read_text()


def test_cells_that_count_in_another_field_are_left_out_of_labels_of_earlier_versions(
    tmp_path,
):
    folder = checked_predictions(tmp_path, fields=2)
    cc.spotcheck(folder, cells=40)
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    # All cells of the first field that are called HEK are labelled N2a.
    rows = rows_of(drawn)
    wrong = {
        cell
        for window in drawn.windows
        for cell, call in window.cells.items()
        if window.image == "mixed/0" and call == "HEK"
    }
    for row in rows:
        window = drawn.windows[row["window"] - 1]
        if window.image == "mixed/0" and row.get("cell") in wrong:
            row["label"] = "N2a"
    cc.import_spotcheck(folder, write_table(tmp_path / "a.csv", rows))
    assert cc.mixture(folder)["spot_check"]["accuracy"] < 1
    mark_repeated(folder, {"mixed/0": wrong})
    found = cc.mixture(folder)
    checked, counted = found["spot_check"], found["estimates"][0]["types"]
    assert checked["accuracy"] == 1
    assert checked["cells"] == 40 - len(wrong)
    assert (
        sum(sum(row.values()) for row in checked["confusion"].values())
        == (checked["cells"])
    )
    for name in TYPES:
        share = checked["types"][name]["share"]
        assert share == pytest.approx(counted[name]["share"], abs=1e-6)
