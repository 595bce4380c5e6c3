"""Chooses those settings of the small experiment that depend on the data, with reasons.

As in nnU-Net (Isensee et al. 2021, Nature Methods 18, 203), a few rules derive settings from
properties of the dataset, and all other settings are fixed. A setting given by the user
takes precedence.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from official.core import config_definitions as cfg

from cellclass_tf.core.model_metadata import MOST_VIEWS
from cellclass_tf.maskrcnn.data_facts import DataFacts

# Range of the diameter of a median cell in the network's input; cells are never enlarged.
# With larger cells, the network sees fewer of them in the same time: on three real types,
# type accuracy was lower at 32 px.
_DIAMETERS_PX = (16.0, 24.0)
# With fewer training cells, a step uses more of them, there are more steps, and the scale of
# crops varies more.
_FEW_CELLS = 600
# Largest fraction of crops from fields without types; types are learned from the others.
_MOST_UNTYPED = 0.33

_RATE = "trainer.optimizer_config.learning_rate.cosine.initial_learning_rate"


@dataclasses.dataclass(frozen=True)
class Choice:
    """One setting that depends on the data.

    Attributes:
      name: name of the parameter, with dots.
      value: chosen value.
      reason: reason for the value, in words.
    """

    name: str
    value: Any
    reason: str


def plan(facts: DataFacts, mixed_fields: int | None) -> tuple[Choice, ...]:
    """Returns the settings of `cellclass_maskrcnn_small` that depend on the data.

    Args:
      facts: properties of the dataset.
      mixed_fields: number of mixed fields in its study; None if unknown.
    """
    native, cells = facts.cell_diameter_px, sum(facts.cells_by_type)
    least, most = _DIAMETERS_PX
    diameter = round(min(max(native, least), most), 1)
    few = cells < _FEW_CELLS
    crop = 160 if few else 128
    scales = (0.7, 1.4) if few else (0.8, 1.25)
    said = f"{cells} training cells"
    if few:
        said += f" (fewer than {_FEW_CELLS})"
    return (
        Choice(
            "task.model_diameter_px",
            diameter,
            f"the median cell is {native:.0f} px wide in the images; the network needs "
            f"{least:.0f} to {most:.0f} px",
        ),
        Choice(
            "task.model.input_size",
            [crop, crop, 3],
            f"{said}; a crop is about {crop / diameter:.0f} cells wide",
        ),
        Choice("task.model.mask_sampler.num_sampled_masks", 12 if few else 8, said),
        Choice("trainer.train_steps", 1200 if few else 600, said),
        Choice(_RATE, 0.005 if few else 0.007, said),
        Choice("task.views", MOST_VIEWS if few else 1, said),
        # Studies with few cells often have small fields. In a wide tile, the area around
        # such a field is black, unlike training crops, and cells near it are missed.
        Choice("task.export_size_px", 256 if few else 512, said),
        Choice("task.train_data.parser.aug_scale_min", scales[0], said),
        Choice("task.train_data.parser.aug_scale_max", scales[1], said),
        Choice(
            "task.train_data.composed_share",
            0.1 if mixed_fields == 0 else 0.6,
            "the number of mixed fields is unknown"
            if mixed_fields is None
            else f"mixed fields in the study: {mixed_fields}",
        ),
        *_untyped(facts),
    )


def _untyped(facts: DataFacts) -> tuple[Choice, ...]:
    """Chooses the fraction of crops from fields without types, if there are such fields."""
    if not facts.untyped_fields:
        return ()
    share = facts.untyped_fields / (facts.fields + facts.untyped_fields)
    return (
        Choice(
            "task.train_data.untyped_share",
            round(min(share, _MOST_UNTYPED), 2),
            f"fields with outlines but without types: {facts.untyped_fields}; with both: "
            f"{facts.fields}",
        ),
    )


def apply(params: cfg.ExperimentConfig, choices: tuple[Choice, ...]) -> None:
    """Sets the chosen values in an experiment's parameters."""
    for choice in choices:
        params.override(_nested(choice.name, choice.value), is_strict=True)


def describe(params: cfg.ExperimentConfig, choices: tuple[Choice, ...]) -> list[str]:
    """Returns a line per setting: its value and the reason, or that it was set by the user."""
    lines = []
    for choice in choices:
        value = params
        for part in choice.name.split("."):
            value = getattr(value, part)
        reason = choice.reason if _same(value, choice.value) else "set by the user"
        lines.append(f"{choice.name} = {value}: {reason}")
    return lines


def _nested(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def _same(found: Any, chosen: Any) -> bool:
    return list(found) == chosen if isinstance(chosen, list) else found == chosen
