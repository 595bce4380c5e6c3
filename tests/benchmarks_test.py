"""Tests of the benchmarks' helpers, statistics and tables."""

import re
import subprocess
import sys

import numpy as np
import pytest

from cellclass_tf.core.cells import Cells
from experiments.benchmarks import __main__ as by_name
from experiments.benchmarks import conditions, tables
from experiments.benchmarks.real import page, tasks
from tests.code_blocks import ROOT


def test_benchmarks_are_found_by_name():
    assert {"accuracy", "coverage", "real"} <= set(by_name.names())
    no_benchmarks = {"fields", "processes", "stardist_classes", "tables", "__main__"}
    assert not no_benchmarks & set(by_name.names())
    found = subprocess.run(
        [sys.executable, "-m", "experiments.benchmarks", "nothing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1
    assert "real" in found.stderr
    assert found.stderr.endswith("got nothing.\n")


def test_the_page_of_evidence_lists_each_benchmark():
    page_of_evidence = ROOT / "docs/evidence.md"
    listed = set(re.findall(r"`(\w+)`", page_of_evidence.read_text(encoding="utf-8")))
    assert set(by_name.names()) <= listed


def test_testing_cells_finds_false_differences_and_testing_dishes_does_not():
    equal = conditions.found((0.3, 0.3), 6, 0.1, 150, 0)
    assert equal[0] < 0.1
    assert min(equal[1:]) > 0.25
    assert conditions.found((0.2, 0.6), 6, 0.02, 20, 0)[0] == 1


def test_the_paired_test_has_more_power_and_keeps_its_error_rate():
    equal = conditions.found_in_pairs((0.3, 0.3), 6, 0.02, 200, 0)
    paired, welch = conditions.found_in_pairs((0.3, 0.45), 6, 0.02, 60, 0)
    assert 0 < equal[0] < 0.1
    assert paired > 0.6 > welch + 0.2


def test_welchs_test_is_conservative_with_three_dishes_with_any_correction():
    true, called, corrected, student = conditions.found_in_few(3, (0.05, 0.05), 6000, 0)
    assert max(true, called, corrected) < 0.045 < student
    assert conditions.found_in_few(3, (0.02, 0.2), 6000, 0)[3] > 0.06


def test_coverage_is_computed_and_tables_are_printed(capsys):
    narrow, wide = np.array([[0.3], [0.4]]), np.array([[0.1], [0.9]])
    found = tables.coverage_of(
        [({"a": narrow, "b": wide}, 0.5), ({"a": None, "b": wide}, 0.95)]
    )
    assert found["a"].tolist() == pytest.approx([0.5, 0.55])
    assert found["b"].tolist() == pytest.approx([0.5, 0.8])
    tables.print_table(("kind", "n", "held"), [("x", 3, found["a"][1])])
    assert (
        capsys.readouterr().out
        == "| kind | n | held |\n|---|---|---|\n| x | 3 | 0.550 |\n"
    )


OURS = {"AP": 0.5, "proportion_error_points": 3.0, "training_s": 600}
OTHER = {"AP": 0.6, "proportion_error_points": 4.0, "training_s": 8}


def test_the_page_lists_where_another_method_is_better():
    better = page.better_than_ours({"network": OURS, "forest": OTHER})
    assert len(better) == 2
    assert "AP 0.600 (0.500 for ours" in better[0]
    assert "training s 8" in better[1]
    assert not page.better_than_ours({"network": OURS, "stardist": OURS})
    # The best of ours counts.
    both = {"network": OURS, "given_outlines": {"AP": 0.7}, "forest": OTHER}
    assert "AP" not in page.better_than_ours(both)[0]


def test_the_page_has_the_mean_of_folds_and_a_table_per_task():
    folds = {"fold_0": {"network": OURS}, "fold_1": {"network": OTHER}}
    results = folds | {"field": {"forest": {"AP": 0.25, "notes": ["withheld."]}}}
    titles = {"fold_0": "three types", "fold_1": "three types", "field": "a field"}
    text = page.page(
        results, titles, {"fold_0": "a.png"}, seeds=1, note="One cloudy day."
    )
    assert text.index("One cloudy day.") < text.index("Where another")
    first, second = text.index("Where another"), text.index("## Three types")
    assert first < second < text.index("## A field")
    assert "| mean of 2 |" in text
    assert "| ours, its own outlines | 0.550 |" in text
    assert "(a.png)" in text
    assert "raw: withheld." in text


def test_a_nucleus_gets_the_type_of_the_cell_that_covers_most_of_it():
    nuclei = np.zeros((10, 30), np.int32)
    for number, left in enumerate((2, 12, 22), start=1):
        nuclei[2:8, left : left + 6] = number
    cells = np.zeros_like(nuclei)
    cells[:, 0:9], cells[:, 9:20] = 1, 2
    types = ("A", "B")
    found = tasks.scored_nuclei(
        Cells.from_labels(cells, types, ["A", "B"]),
        Cells.from_labels(nuclei, types, ["A", "A", "B"]),
    )
    # The third lies in no cell.
    assert found["nuclei_in_cells"] == 2
    assert found["type_accuracy"] == 0.5
    assert found["proportion_error_points"] == pytest.approx(100 / 6)
