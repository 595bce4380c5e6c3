"""Tests of cellclass_tf.workflows.simulated_cultures."""

import numpy as np
import pytest

from cellclass_tf.workflows import simulated_cultures
from cellclass_tf.workflows.simulated_cultures import SimulatedCultures

SMALL = SimulatedCultures(images_per_type=4, mixed=2, size=224, dishes=2)


def test_units_are_dishes_and_for_composed_fields_pairs_of_held_out_dishes():
    cultures = SimulatedCultures(images_per_type=40, mixed=8, size=64, dishes=10)
    units = cultures.units()
    dishes = [unit for split in units if split != "composed" for unit in units[split]]
    assert len(dishes) == len(set(dishes)) == 28
    assert {len(units["mixed"]), len(units["validation"])} == {8, 2}
    held_out = {dish for unit in units["validation"] for dish in unit}
    for one, other in units["composed"]:
        assert {one, other} <= held_out
        assert one[0] != other[0]


def test_fields_of_a_dish_do_not_depend_on_other_dishes():
    (unit,) = [u for u in SMALL.units()["validation"] if u[0][0] == "HEK"]
    once = dict(simulated_cultures.examples_of_unit(SMALL, unit))
    other = SimulatedCultures(images_per_type=4, mixed=0, size=224, dishes=2)
    again = dict(simulated_cultures.examples_of_unit(other, unit))
    assert list(once) == list(again)
    assert len(once) == 2
    for name, example in once.items():
        assert example["image"].getvalue() == again[name]["image"].getvalue()
        assert example["group"] == f"HEK_dish{unit[0][1]}"


def test_a_pair_of_dishes_gives_mixed_fields():
    (unit, *_) = SMALL.units()["composed"]
    for _, example in simulated_cultures.examples_of_unit(SMALL, unit):
        assert len(example["sources"]) == 2
        assert {cell["type"] for cell in example["cells"]} <= {"HEK", "N2a"}
        assert np.sum([cell["area_px"] for cell in example["cells"]]) > 0


def test_a_failed_field_raises_an_error(monkeypatch):
    from cellclass_tf import batch
    from cellclass_tf.datasets import simulation

    failed = batch.Outcome(failures={"HEK/a": "the disk is full"})
    monkeypatch.setattr(simulation, "simulate", lambda *_, **__: failed)
    monkeypatch.setattr(
        simulated_cultures.conversion, "convert", lambda *_, **__: batch.Outcome()
    )
    monkeypatch.setattr(
        simulated_cultures.masks, "import_masks", lambda *_, **__: batch.Outcome()
    )
    with pytest.raises(RuntimeError, match="disk is full"):
        list(simulated_cultures.examples_of_unit(SMALL, (("HEK", 1),)))
