"""Makes annotators from their names and settings."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping

from cellclass_tf.annotation.annotators.protocol import Annotator
from cellclass_tf.annotation.annotators.watershed import WatershedAnnotator
from cellclass_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of an annotator; see `annotate.annotate`."""

    model: str | os.PathLike = "cyto3"
    diameter: float | None = None
    flow_threshold: float = 0.4
    cellprob_threshold: float = 0.0
    device: str = "auto"
    bfloat16: bool = False


def make_annotator(name: str, settings: Settings) -> Annotator:
    """Makes the annotator 'cellpose' or 'watershed'.

    Raises:
      InputError: if there is no such annotator, or its settings or weights are not valid.
    """
    if name not in _ANNOTATORS:
        known = ", ".join(_ANNOTATORS)
        raise InputError(f"Unknown annotator {name!r}; known are {known}.")
    return _ANNOTATORS[name](settings)


def _cellpose(settings: Settings) -> Annotator:
    # Imported here, since it imports PyTorch.
    from cellclass_tf.annotation.annotators.cellpose import CellposeAnnotator

    return CellposeAnnotator(
        settings.model,
        settings.diameter,
        settings.flow_threshold,
        settings.cellprob_threshold,
        device=settings.device,
        bfloat16=settings.bfloat16,
    )


_ANNOTATORS: Mapping[str, Callable[[Settings], Annotator]] = {
    "cellpose": _cellpose,
    "watershed": lambda settings: WatershedAnnotator(settings.diameter),
}
NAMES = tuple(_ANNOTATORS)
