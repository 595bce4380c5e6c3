"""Tests of cellclass_tf.maskrcnn.planning."""

import dataclasses

import pytest

from cellclass_tf.maskrcnn import config, hardware, parameters, planning
from tests.maskrcnn.facts import facts


def chosen(mixed_fields=None, **changes):
    choices = planning.plan(dataclasses.replace(facts(), **changes), mixed_fields)
    return {choice.name: choice for choice in choices}


@pytest.mark.parametrize(("native", "shown"), [(55.0, 24.0), (20.0, 20.0), (3.0, 16.0)])
def test_cells_keep_their_size_in_the_network_within_limits(native, shown):
    found = chosen(cell_diameter_px=native)
    assert found["task.model_diameter_px"].value == shown


def test_few_cells_get_more_steps_larger_crops_and_more_augmentation():
    few, many = chosen(cells_by_type=(90, 30)), chosen(cells_by_type=(900, 300))
    name = "task.train_data.parser.aug_scale_min"
    assert (few[name].value, many[name].value) == (0.7, 0.8)
    assert few["trainer.train_steps"].value > many["trainer.train_steps"].value
    crops = [found["task.model.input_size"].value for found in (few, many)]
    assert crops == [[160, 160, 3], [128, 128, 3]]


@pytest.mark.parametrize(
    ("mixed", "share", "said"),
    [(None, 0.6, "is unknown"), (4, 0.6, "study: 4"), (0, 0.1, "study: 0")],
)
def test_more_cells_are_pasted_if_the_study_has_mixed_fields(mixed, share, said):
    choice = chosen(mixed)["task.train_data.composed_share"]
    assert choice.value == share
    assert said in choice.reason


@pytest.mark.parametrize(
    ("name", "of_few", "of_many"),
    [("task.views", 8, 1), ("task.export_size_px", 256, 512)],
)
def test_with_few_cells_the_model_uses_small_tiles_and_all_views(name, of_few, of_many):
    few, many = chosen(cells_by_type=(90, 30)), chosen(cells_by_type=(900, 300))
    assert (few[name].value, many[name].value) == (of_few, of_many)


def test_fields_without_types_are_sampled_in_proportion_up_to_a_limit():
    name = "task.train_data.untyped_share"
    assert name not in chosen()
    for untyped, share in ((1, 0.1), (100, 0.33)):
        found = chosen(fields=9, untyped_fields=untyped)[name]
        assert found.value == share
        assert f"outlines but without types: {untyped}; with both: 9" in found.reason


def test_every_choice_is_applied_and_described_with_its_reason():
    params = config.cellclass_maskrcnn_small()
    choices = planning.plan(facts(), 0)
    planning.apply(params, choices)
    params.override({"task": {"model_diameter_px": 28.0}})
    lines = planning.describe(params, choices)
    assert lines[0] == "task.model_diameter_px = 28.0: set by the user"
    assert (
        "task.train_data.composed_share = 0.1: mixed fields in the study: 0"
        in lines[-1]
    )


def test_settings_that_depend_on_an_override_follow_it(prepared):
    def parsed(override):
        settings = parameters.Settings(
            config.SMALL, study=prepared, params_override=override
        )
        return parameters.parse(settings, hardware.Hardware((), "float32")).task

    own, wide = parsed(None), parsed("task.model_diameter_px=16")
    assert own.model_diameter_px > 16
    assert wide.model_diameter_px == 16
    for task in (own, wide):
        shown = task.scale * task.cell_diameter_px
        assert shown == pytest.approx(task.model_diameter_px, rel=1e-3)
    assert wide.model.anchor.anchor_size < own.model.anchor.anchor_size
    assert parsed("task.scale=0.5").scale == 0.5
