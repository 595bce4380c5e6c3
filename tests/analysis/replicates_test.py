"""Tests of cellclass_tf.analysis.replicates."""

import numpy as np
import pytest
from scipy import special

from cellclass_tf.analysis import replicates
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
    assert (control.fields, control.cells) == (2, 100)
    np.testing.assert_allclose(control.shares, [0.4, 0.6])
    np.testing.assert_allclose(control.by_time[0], [0.25, 0.75])
    np.testing.assert_allclose(control.by_time[2], [0.5, 0.5])
    assert not drug.by_time and empty == ["drug, day 2"]
    logits = replicates.logits_by_condition(found, 0)
    assert logits["drug"].tolist() == [0]
    assert special.expit(logits["control"]).tolist() == pytest.approx([0.4])


def test_replicates_without_a_cell_at_all_are_refused():
    with pytest.raises(InputError, match="None of the replicates has a cell"):
        replicates.replicates_of([row("a", 0, 0)], "xy", KNOWN, None, RunRecord())
