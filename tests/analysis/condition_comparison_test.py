"""Tests of cellclass_tf.analysis.condition_comparison."""

import json

import numpy as np
import pytest

import cellclass_tf as cc
from cellclass_tf.analysis import table_files
from cellclass_tf.analysis.methods_text import methods_text
from cellclass_tf.analysis.spot_check.sample import Sample
from cellclass_tf.core.run_record import PredictedImage, RejectedImage, RunRecord
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json
from tests.metadata import model_metadata
from tests.spot_check import checked_predictions, rows_of, write_table

TYPES = ("HEK", "N2a")
CONFUSIONS = np.tile([[45, 5], [10, 40]], (8, 1, 1)).tolist()
# By dish: of the first two fields each.
DISHES = {"c1": 10, "c2": 12, "c3": 9, "t1": 20, "t2": 24, "t3": 22}


def predictions(folder, dishes, *, times=1, confusions=CONFUSIONS, **changes):
    """Writes two fields of 40 cells per dish, with the given numbers of HEK."""
    names = [(dish, field) for dish in dishes for field in range(2)]
    rows = [
        {
            "image": f"mixed/{dish}_{field}_{time}",
            "group": dish,
            "scene": f"{dish}/{field}",
            "time": time,
            "area_px": 640,
            "cells": 40,
            "n_HEK": dishes[dish] + time,
            "n_N2a": 40 - dishes[dish] - time,
            "unknown": 0,
            "uncertain": 0,
            "share_HEK": None,
            "share_N2a": None,
        }
        for dish, field in names
        for time in range(times)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    table_files.write_cells_csv(folder / "cells.csv", [], TYPES)
    table_files.write_counts_csv(folder / "counts.csv", rows, TYPES)
    record = RunRecord(model_metadata=model_metadata(confusions), **changes)
    record.write(folder / "run.json")
    return folder


def table(path, groups=DISHES):
    lines = [f"{name},{'control' if name[0] == 'c' else 'drug'},\n" for name in groups]
    path.write_text("group,condition,replicate\n" + "".join(lines))
    return path


def test_two_conditions_are_compared_by_their_dishes(tmp_path):
    folder, path = predictions(tmp_path / "p", DISHES), table(tmp_path / "c.csv")
    found = cc.compare_conditions(folder, tmp_path / "out", conditions=path)
    assert found.result == json.loads((tmp_path / "out/conditions.json").read_text())
    control, drug = found.result["conditions"]
    assert (control["name"], control["replicates"], control["cells"]) == (
        "control",
        3,
        240,
    )
    # 0.25 called HEK is corrected to (0.25 + 0.8 - 1) / (0.9 + 0.8 - 1).
    rows = csv_json.read_csv(tmp_path / "out/replicates.csv")
    assert float(rows[0]["share_HEK"]) == pytest.approx(0.05 / 0.7, abs=1e-5)
    (told,) = found.result["contrasts"]
    assert (told["first"], told["second"], told["type"]) == ("control", "drug", "HEK")
    assert told["p_value"] < 0.05
    assert told["difference_low"] > 0
    assert told["p_adjusted"] == told["p_value"]
    assert found.result["corrected"]
    assert drug["types"]["HEK"]["mean"] > control["types"]["HEK"]["high"]
    svg = (tmp_path / "out/conditions.svg").read_text()
    assert "control" in svg
    assert "HEK, % of the cells" in svg
    assert "p = 0.0" in svg
    assert (tmp_path / "out/conditions.pdf").read_bytes().startswith(b"%PDF")
    text = (tmp_path / "out/methods.txt").read_text()
    assert "Welch" in text
    assert "control: 3 replicates, 3 dishes, 6 fields, 240 cells" in text
    assert "odds ratio" in str(found)


def test_a_drawing_that_a_person_edited_is_kept_in_the_trash(tmp_path):
    folder, path = predictions(tmp_path / "p", DISHES), table(tmp_path / "c.csv")
    cc.compare_conditions(folder, tmp_path / "out", conditions=path)
    drawing = tmp_path / "out/conditions.svg"
    edited = drawing.read_text(encoding="utf-8").replace("control", "untreated")
    drawing.write_text(edited, encoding="utf-8")
    cc.compare_conditions(folder, tmp_path / "out", conditions=path)
    assert "control" in drawing.read_text(encoding="utf-8")
    (kept,) = (tmp_path / "out/.trash").rglob("conditions.svg")
    assert kept.read_text(encoding="utf-8") == edited


def test_dishes_of_one_replicate_are_one_observation(tmp_path):
    folder, path = predictions(tmp_path / "p", DISHES), tmp_path / "c.csv"
    path.write_text(
        "group,condition,replicate\nc1,control,mouse 1\nc2,control,mouse 1\n"
        "c3,control,mouse 2\nt1,drug,mouse 3\nt2,drug,mouse 3\n"
    )
    found = cc.compare_conditions(folder, tmp_path / "out", conditions=path)
    control, drug = found.result["conditions"]
    assert (control["replicates"], control["groups"], drug["replicates"]) == (2, 3, 1)
    (told,) = found.result["contrasts"]
    assert told["p_value"] is None
    assert "a single replicate" in told["reason"]
    assert drug["types"]["HEK"]["low"] is None
    (warning,) = found.result["warnings"]
    assert "1 groups have no condition and are left out: t3" in warning
    assert "not tested" in methods_text(found.result, RunRecord())
    assert "not tested" in str(found)


def test_replicates_in_both_conditions_are_compared_in_pairs(tmp_path):
    dishes = {"c1": 14, "c2": 18, "c3": 28, "t1": 16, "t2": 21, "t3": 30}
    folder, path = predictions(tmp_path / "p", dishes), tmp_path / "c.csv"
    lines = "".join(
        f"{name},{'control' if name[0] == 'c' else 'drug'},mouse {name[1]}\n"
        for name in dishes
    )
    path.write_text("group,condition,replicate\n" + lines)
    found = cc.compare_conditions(folder, tmp_path / "out", conditions=path)
    (told,) = found.result["contrasts"]
    assert told["test"] == "paired t-test"
    assert told["p_value"] < 0.05
    assert "all 3 replicates are in both" in told["test_reason"]
    assert "paired t-test: all 3" in str(found)
    assert "paired t-test" in (tmp_path / "out/methods.txt").read_text()
    joined = (tmp_path / "out/conditions.svg").read_text().count("stroke: #999999")
    assert joined == 3
    # Independent replicates with the same counts do not differ significantly.
    table(path, dishes)
    found = cc.compare_conditions(folder, tmp_path / "out", conditions=path)
    (told,) = found.result["contrasts"]
    assert told["test"] == "Welch's t-test"
    assert told["p_value"] > 0.3
    assert "#999999" not in (tmp_path / "out/conditions.svg").read_text()


def test_methods_text_describes_a_spot_check(tmp_path):
    folder = checked_predictions(tmp_path, fields=4)
    rows = csv_json.read_csv(folder / "counts.csv")
    for number, row in enumerate(rows):
        row["group"] = f"d{number}"
    table_files.write_counts_csv(folder / "counts.csv", rows, TYPES)
    cc.spotcheck(folder, cells=40)
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    cc.import_spotcheck(folder, write_table(tmp_path / "a.csv", rows_of(drawn)))
    path = tmp_path / "c.csv"
    path.write_text("group,condition\nd0,x\nd1,x\nd2,y\nd3,y\n")
    found = cc.compare_conditions(folder, tmp_path / "out", conditions=path).result
    assert found["spot_check"] == cc.mixture(folder)["spot_check"] | {
        "warnings": found["spot_check"]["warnings"]
    }
    text = (tmp_path / "out/methods.txt").read_text()
    assert (
        "one person, blinded to the calls of the network, labelled "
        f"{drawn.labelled_cells}" in text
    )


def test_three_conditions_are_compared_in_pairs(tmp_path):
    folder, path = predictions(tmp_path / "p", DISHES), tmp_path / "c.csv"
    lines = "".join(f"{name},{'abc'[i // 2]},\n" for i, name in enumerate(DISHES))
    path.write_text("group,condition,replicate\n" + lines)
    told = cc.compare_conditions(folder, tmp_path / "o", conditions=path).result
    pairs = [(one["first"], one["second"]) for one in told["contrasts"]]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    assert any(one["p_adjusted"] > one["p_value"] for one in told["contrasts"])
    assert "Holm" in (tmp_path / "o/methods.txt").read_text()


def test_time_points_are_added_up_and_have_a_table_of_their_own(tmp_path):
    path = table(tmp_path / "c.csv")
    several = predictions(tmp_path / "several", DISHES, times=3)
    found = cc.compare_conditions(several, tmp_path / "out", conditions=path)
    assert found.result["conditions"][0]["replicates"] == 3
    rows = csv_json.read_csv(tmp_path / "out/times.csv")
    assert len(rows) == 18
    assert {row["time"] for row in rows} == {"0", "1", "2"}
    assert "time point" in (tmp_path / "out/conditions.svg").read_text()
    # With one time point, the table of an earlier comparison is removed.
    one = predictions(tmp_path / "one", DISHES)
    cc.compare_conditions(one, tmp_path / "out", conditions=path)
    assert not (tmp_path / "out/times.csv").exists()


def test_the_table_of_the_study_is_the_default_and_rejected_fields_are_counted(
    tmp_path,
):
    study = Study.create(tmp_path / "study", TYPES)
    rows = [
        ImageRow(f"mixed/{dish}_{field}_0.png", "mixed", group=dish)
        for dish in DISHES
        for field in range(3)
    ]
    study.update(rows)
    rejected = (RejectedImage("mixed/t1_2_0.png", "blurred"),)
    folder = predictions(
        tmp_path / "p", DISHES, study=str(study.root), rejected=rejected
    )
    with pytest.raises(
        InputError, match=r"conditions.csv does not exist.*cellclass cond"
    ):
        cc.compare_conditions(folder, tmp_path / "out")
    table(cc.conditions(study))
    found = cc.compare_conditions(folder, tmp_path / "out").result
    assert [told["rejected"] for told in found["conditions"]] == [0, 1]


def test_without_held_out_cells_proportions_are_as_counted_with_a_warning(tmp_path):
    folder = predictions(tmp_path / "p", DISHES, confusions=None)
    path = table(tmp_path / "c.csv")
    found = cc.compare_conditions(folder, tmp_path / "out", conditions=path).result
    assert not found["corrected"]
    assert "as counted" in found["warnings"][0]
    rows = csv_json.read_csv(tmp_path / "out/replicates.csv")
    assert float(rows[0]["share_HEK"]) == 0.25


def test_conditions_of_fields_unlike_the_training_fields_are_not_compared(tmp_path):
    images = tuple(
        PredictedImage(f"mixed/{dish}_0_0", "x.png", compared=True, unlike=("bright",))
        for dish in DISHES
    )
    folder = predictions(tmp_path / "p", DISHES, images=images)
    path = table(tmp_path / "c.csv")
    with pytest.raises(InputError, match="do not resemble"):
        cc.compare_conditions(folder, tmp_path / "out", conditions=path)
    assert not (tmp_path / "out").exists()
    cc.compare_conditions(folder, tmp_path / "out", conditions=path, answer_anyway=True)


def test_replicates_of_a_single_field_each_give_a_warning(tmp_path):
    dishes = {f"c{n}": 10 + n for n in range(4)} | {f"t{n}": 20 + n for n in range(4)}
    folder = predictions(tmp_path / "p", dishes, times=2)
    rows = [r for r in csv_json.read_csv(folder / "counts.csv") if "_0_" in r["image"]]
    table_files.write_counts_csv(folder / "counts.csv", rows, TYPES)
    path = table(tmp_path / "c.csv", dishes)
    found = cc.compare_conditions(folder, tmp_path / "out", conditions=path).result
    (warning,) = found["warnings"]
    assert "Each replicate is a single field" in warning
    assert found["conditions"][0]["scenes"] == 4
    text = (tmp_path / "out/methods.txt").read_text()
    assert "control: 4 replicates, 8 fields, 320 cells" in text
    # If the table says which fields belong together, there is no warning.
    lines = [
        f"{name},{'control' if name[0] == 'c' else 'drug'},{name[0]}{int(name[1]) // 2}\n"
        for name in dishes
    ]
    path.write_text("group,condition,replicate\n" + "".join(lines))
    found = cc.compare_conditions(folder, tmp_path / "out", conditions=path).result
    assert found["conditions"][0]["replicates"] == 2
    assert not found["warnings"]


def test_a_small_replicate_that_hides_rare_types_is_named(tmp_path):
    folder, path = predictions(tmp_path / "p", DISHES), table(tmp_path / "c.csv")
    rows = csv_json.read_csv(folder / "counts.csv")
    for row in rows:
        small = row["group"] == "c3"
        row |= {"n_HEK": 1, "n_N2a": 4} if small else {"n_HEK": 2, "n_N2a": 98}
    table_files.write_counts_csv(folder / "counts.csv", rows, TYPES)
    record = RunRecord(model_metadata=model_metadata(None))
    record.write(folder / "run.json")
    found = cc.compare_conditions(folder, tmp_path / "out", conditions=path).result
    # Two fields of 5 cells: half a cell of 11 is 4.5 %.
    assert found["warnings"][0] == (
        "control, c3 has only 10 typed cells. In means and tests, proportions below 4.55 % "
        "are set to 4.55 %, and those above 95.45 % to 95.45 %. Remove its condition from "
        "the table if a rare type matters."
    )
    drug = found["conditions"][1]["types"]["HEK"]
    assert drug == {"mean": pytest.approx(0.5 / 11), "low": None, "high": None}


def test_a_condition_of_unlike_fields_is_left_out_with_a_warning(tmp_path):
    dishes = DISHES | {"x1": 20, "x2": 21}
    path = tmp_path / "c.csv"
    conditions = {"c": "control", "t": "drug", "x": ""}
    # A field of 6 of the drug, and two of 4 fields without a condition; each time the
    # fraction is more than a tenth, but the first is less than a tenth of all fields.
    for unlike, told in (
        (["t1_0"], ["control"]),
        (["x1_0", "x1_1"], ["control", "drug"]),
    ):
        images = tuple(
            PredictedImage(
                f"mixed/{dish}_{field}_0",
                "x.png",
                compared=True,
                unlike=("bright",) if f"{dish}_{field}" in unlike else (),
            )
            for dish in dishes
            for field in range(2)
        )
        folder = predictions(tmp_path / unlike[0], dishes, images=images)
        lines = [f"{name},{conditions[name[0]]},\n" for name in dishes]
        path.write_text("group,condition,replicate\n" + "".join(lines))
        found = cc.compare_conditions(folder, tmp_path / "out", conditions=path).result
        assert [one["name"] for one in found["conditions"]] == told
        warnings = [line for line in found["warnings"] if "not reliable" in line]
        assert len(warnings) == (told == ["control"])
        if warnings:
            assert "drug: 1 of 6 fields do not resemble" in warnings[0]
    both = cc.compare_conditions(
        tmp_path / "t1_0", tmp_path / "out", conditions=path, answer_anyway=True
    )
    assert len(both.result["conditions"]) == 2


def test_a_replicate_without_cells_is_left_out_with_a_warning(tmp_path):
    folder, path = predictions(tmp_path / "p", DISHES), table(tmp_path / "c.csv")
    rows = csv_json.read_csv(folder / "counts.csv")
    for row in rows:
        if row["group"] == "c1":
            row |= {"cells": 0, "n_HEK": 0, "n_N2a": 0}
    table_files.write_counts_csv(folder / "counts.csv", rows, TYPES)
    found = cc.compare_conditions(folder, tmp_path / "out", conditions=path).result
    assert found["conditions"][0]["replicates"] == 2
    assert found["warnings"] == [
        "Replicates without typed cells are left out: control, c1."
    ]
