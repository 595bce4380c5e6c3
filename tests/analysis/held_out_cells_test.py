"""Tests of cellclass_tf.analysis.held_out_cells."""

import dataclasses

import pytest

from cellclass_tf import errors
from cellclass_tf.analysis import held_out_cells
from cellclass_tf.core.run_record import PredictedImage, RunRecord
from tests.metadata import model_metadata

TYPES = ("HEK", "N2a")
CONFUSIONS = [[[45, 5], [10, 40]]] * 4


def record(**changes):
    """Returns the record of a run; all held-out fields of its model are changed as given."""
    metadata = model_metadata(CONFUSIONS)
    fields = tuple(
        dataclasses.replace(field, **changes) for field in metadata.calibration.held_out
    )
    calibration = dataclasses.replace(metadata.calibration, held_out=fields)
    return RunRecord(model_metadata=model_metadata(calibration=calibration))


def summary(of):
    return held_out_cells.summary(held_out_cells.held_out_of(of, TYPES), of, TYPES)


def test_held_out_cells_are_added_up_by_type_and_dish():
    found = summary(record(missed=(5, 0), invented=(0, 2)))
    assert found["confusion"] == {
        "HEK": {"HEK": 180, "N2a": 20, "missed": 20},
        "N2a": {"HEK": 40, "N2a": 160, "missed": 0},
        "invented": {"HEK": 0, "N2a": 8},
    }
    assert found["confusion_dishes"] == {"HEK": 4, "N2a": 4}
    assert not found["warnings"]
    assert found["right_by_dish"]["N2a"] == {f"dish {n}": 0.8 for n in range(4)}


def test_held_out_cells_from_one_dish_give_a_warning():
    warnings = summary(record(group="a"))["warnings"]
    assert [w.split(" come from one dish")[0] for w in warnings] == [
        "The held-out cells of HEK",
        "The held-out cells of N2a",
    ]


def test_missed_cells_are_not_corrected_for_at_another_score_threshold():
    measured = record(missed=(5, 0), invented=(0, 2))
    threshold = measured.model_metadata.score_threshold
    for used, expected in ((threshold, [20, 0]), (threshold + 0.2, [0, 0])):
        of = dataclasses.replace(measured, settings={"score_threshold": used})
        found = held_out_cells.held_out_of(of, TYPES)
        assert found.missed.sum(axis=0).tolist() == expected
        assert found.confusions.sum() == 400
        (*told,) = summary(of)["warnings"]
        assert len(told) == int(used != threshold)
    assert "have scores of at least" in told[0]
    assert "missed" not in summary(of)["confusion"]["HEK"]


def test_unknown_dishes_give_no_warning():
    found = summary(record(group=""))
    assert found["confusion_dishes"] == {"HEK": 0, "N2a": 0}
    assert not found["warnings"]


def test_summary_without_held_out_fields_is_empty():
    found = summary(RunRecord())
    assert found["confusion"] is None
    assert found["confusion_fields"] == 0


def test_held_out_cells_of_other_types_are_refused():
    with pytest.raises(errors.InputError, match="held-out cells of 3 types, got 2"):
        held_out_cells.held_out_of(record(), ("a", "b", "c"))


def test_areas_are_those_of_the_training_images():
    metadata = model_metadata(pixel_size_um=0.5)
    images = (PredictedImage("a", "a.png", pixel_size_um=1.0),)
    of = RunRecord(model_metadata=metadata, images=images)
    rows = [
        {"image": "a", "area_px": "640"},
        {"image": "b", "area_px": "640"},
        {"image": "c"},
    ]
    # A median cell is 8 px wide.
    assert held_out_cells.areas_of(rows, of) == {"a": 40.0, "b": 10.0, "c": 0.0}
    assert held_out_cells.areas_of(rows, RunRecord())["a"] == 0
