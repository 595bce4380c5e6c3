"""Tests of cellclass_tf.analysis.replicates."""

import numpy as np
import pytest
from scipy import special, stats

from cellclass_tf.analysis import contrasts, replicates
from cellclass_tf.analysis.conditions import Assignment
from cellclass_tf.core.run_record import RunRecord
from cellclass_tf.errors import InputError

KNOWN = {
    "a": Assignment("control", "day 1"),
    "b": Assignment("control", "day 1"),
    "c": Assignment("drug", "day 1"),
    "d": Assignment("drug", "day 2"),
}


def row(group, first, second, time=0):
    name = f"mixed/{group}_{first}_{time}"
    return {"image": name, "group": group, "time": time, "n_x": first, "n_y": second}


def test_dishes_of_a_replicate_are_added_up_and_times_are_kept_apart():
    rows = [row("a", 10, 30), row("b", 0, 0), row("b", 30, 30, time=2), row("c", 5, 5)]
    found, empty = replicates.replicates_of(
        [*rows, row("d", 0, 0), row("other", 9, 9)], "xy", KNOWN, None, RunRecord()
    )
    control, drug = found
    assert (control.condition, control.replicate, control.groups) == (
        "control",
        "day 1",
        ("a", "b"),
    )
    assert (control.scenes, control.fields, control.cells) == (2, 2, 100)
    np.testing.assert_allclose(control.shares, [0.4, 0.6])
    np.testing.assert_allclose(control.by_time[0], [0.25, 0.75])
    np.testing.assert_allclose(control.by_time[2], [0.5, 0.5])
    assert not drug.by_time
    assert empty == ["drug, day 2"]
    logits = replicates.logits_by_condition(found, 0)
    assert logits["drug"] == {"day 1": 0}
    assert special.expit(logits["control"]["day 1"]) == pytest.approx(0.4)


def test_an_absent_type_does_not_differ_if_dishes_differ_in_size():
    cells = {"a": 310, "b": 280, "c": 1010, "d": 950}
    known = {
        name: Assignment("control" if name in "ab" else "drug", name) for name in cells
    }
    rows = [row(name, 0, count) for name, count in cells.items()]
    found, _ = replicates.replicates_of(rows, "xy", known, None, RunRecord())
    logits = replicates.logits_by_condition(found, 0)
    told, _ = replicates.compare(logits["control"], logits["drug"])
    assert told.odds_ratio == 1
    assert told.p_value is None
    assert "do not differ" in told.reason


@pytest.mark.parametrize("share", [0.001, 0.003])
def test_a_rare_type_differs_at_most_at_the_nominal_rate_if_dishes_differ_in_size(
    share,
):
    """With 300 and 1000 cells per dish, a half cell of each dish would differ in 20 to 60 %."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        found = [
            replicates.Replicate(
                condition, str(number), (), 1, 1, int(cells), shares, {}
            )
            for condition, mean in (("control", 300), ("drug", 1000))
            for number, cells in enumerate(rng.poisson(mean, 4))
            for shares in (rng.multinomial(cells, [share, 1 - share]) / cells,)
        ]
        logits = replicates.logits_by_condition(found, 0)
        told = contrasts.contrast(
            *(np.array(list(of.values())) for of in logits.values())
        )
        wrong += told.p_value is not None and told.p_value < 0.05
    assert wrong / 200 <= 0.05


def test_replicates_of_both_conditions_are_paired_by_their_names():
    first = {"mouse 1": -1.0, "mouse 2": 0.2, "mouse 3": 1.4}
    second = {"mouse 3": 1.9, "mouse 1": -0.6, "mouse 2": 0.6}
    told, why = replicates.compare(first, second)
    wanted = stats.ttest_rel([-0.6, 0.6, 1.9], [-1.0, 0.2, 1.4]).pvalue
    assert told.p_value == pytest.approx(wanted)
    assert wanted < 0.01
    assert told.test == contrasts.PAIRED
    assert why.startswith("all 3 replicates are in both")
    other, why = replicates.compare(first, {f"{k} b": v for k, v in second.items()})
    assert other.test == contrasts.WELCH
    assert other.p_value > 0.5
    assert why == "no replicate is in both conditions"


def test_partly_paired_replicates_are_not_tested():
    told, why = replicates.compare({"a": 0.1, "b": 0.4, "c": 0.5}, {"b": 1, "d": 2})
    assert told.p_value is None
    assert not told.test
    assert not why
    assert "b are in both conditions, but a, c, d only in one" in told.reason
    assert told.odds_ratio > 1
    assert told.odds_ratio_ends is None


def test_replicates_without_any_typed_cell_are_refused():
    with pytest.raises(InputError, match="None of the replicates has typed cells"):
        replicates.replicates_of([row("a", 0, 0)], "xy", KNOWN, None, RunRecord())
