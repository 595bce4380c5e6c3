"""Settings of the small experiment that follow from the data, each with its reason.

As nnU-Net does (Isensee et al. 2021, Nature Methods 18, 203), what suits a dataset is
derived from its facts by a few rules, and everything else is fixed. Whatever a person sets
goes before the plan.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from official.core import config_definitions as cfg

from cellclass_tf.core.model_metadata import MOST_VIEWS
from cellclass_tf.maskrcnn.data_facts import DataFacts

# Cells are never shown larger than they are, nor so small that nothing of them is left. In
# the same time larger cells are fewer: three real types were named worse at 32 px.
_DIAMETERS_PX = (16.0, 24.0)
# Of fewer training cells, a step sees more of them, there are more steps, and crops vary
# more in size.
_FEW_CELLS = 600


# The types are learned from the other fields.
_MOST_UNTYPED = 0.33

_RATE = "trainer.optimizer_config.learning_rate.cosine.initial_learning_rate"


@dataclasses.dataclass(frozen=True)
class Choice:
    """One setting that the data decide.

    Attributes:
      name: of the parameter, with dots.
      value: of the parameter.
      reason: why, in words.
    """

    name: str
    value: Any
    reason: str


def plan(facts: DataFacts, mixed_fields: int | None) -> tuple[Choice, ...]:
    """Returns what the data suggest for `cellclass_maskrcnn_small`.

    Args:
      facts: of the dataset.
      mixed_fields: number of mixed fields in its study; None if it is not known.
    """
    native, cells = facts.cell_diameter_px, sum(facts.cells_by_type)
    least, most = _DIAMETERS_PX
    diameter = round(min(max(native, least), most), 1)
    few = cells < _FEW_CELLS
    crop = 160 if few else 128
    scales = (0.7, 1.4) if few else (0.8, 1.25)
    said = f"{cells} training cells" + (", which are few" if few else "")
    return (
        Choice(
            "task.model_diameter_px",
            diameter,
            f"a median cell is {native:.0f} px wide, and at most {most:.0f} are needed",
        ),
        Choice(
            "task.model.input_size",
            [crop, crop, 3],
            f"{said}: a crop shows about {crop / diameter:.0f} side by side",
        ),
        Choice("task.model.mask_sampler.num_sampled_masks", 12 if few else 8, said),
        Choice("trainer.train_steps", 1200 if few else 600, said),
        Choice(_RATE, 0.005 if few else 0.007, said),
        Choice("task.views", MOST_VIEWS if few else 1, said),
        # In wide tiles fields of few cells are often small: what lies around them is black,
        # which training crops have nowhere, and cells near it are missed.
        Choice("task.export_size_px", 256 if few else 512, said),
        Choice("task.train_data.parser.aug_scale_min", scales[0], said),
        Choice("task.train_data.parser.aug_scale_max", scales[1], said),
        Choice(
            "task.train_data.composed_share",
            0.1 if mixed_fields == 0 else 0.6,
            "whether there are mixed fields is not known"
            if mixed_fields is None
            else f"the study has {mixed_fields or 'no'} mixed fields",
        ),
        *_untyped(facts),
    )


def _untyped(facts: DataFacts) -> tuple[Choice, ...]:
    """How often fields with cells of unknown type are seen, where there are any."""
    if not facts.untyped_fields:
        return ()
    share = facts.untyped_fields / (facts.fields + facts.untyped_fields)
    return (
        Choice(
            "task.train_data.untyped_share",
            round(min(share, _MOST_UNTYPED), 2),
            f"of {facts.untyped_fields} fields only the outlines are learned, of "
            f"{facts.fields} the types too",
        ),
    )


def apply(params: cfg.ExperimentConfig, choices: tuple[Choice, ...]) -> None:
    """Puts the choices into an experiment's parameters."""
    for choice in choices:
        params.override(_nested(choice.name, choice.value), is_strict=True)


def describe(params: cfg.ExperimentConfig, choices: tuple[Choice, ...]) -> list[str]:
    """Returns a line a setting: its value, and the reason or that a person gave it."""
    lines = []
    for choice in choices:
        value = params
        for part in choice.name.split("."):
            value = getattr(value, part)
        reason = choice.reason if _same(value, choice.value) else "as given"
        lines.append(f"{choice.name} = {value}: {reason}")
    return lines


def _nested(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def _same(found: Any, chosen: Any) -> bool:
    return list(found) == chosen if isinstance(chosen, list) else found == chosen
