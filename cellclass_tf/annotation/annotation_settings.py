"""The settings of a study's last annotation, which the next one uses again."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

from cellclass_tf.core import remembered
from cellclass_tf.core.study import Study
from cellclass_tf.messages import logger
from cellclass_tf.storage.records import Record


@dataclasses.dataclass(frozen=True)
class AnnotationSettings(Record):
    """The settings that a study remembers; see `annotate.annotate`."""

    NAME: ClassVar[str] = "cellclass_tf annotation"
    EXPECTED: ClassVar[str] = "the settings of `cellclass annotate`"
    REMEDY: ClassVar[str] = (
        "Delete it, and give all flags of `cellclass annotate` again."
    )

    annotator: str = "cellpose"
    model: str = "cyto3"
    diameter: float = 0.0
    diameter_by: str = "group"
    flow_threshold: float = 0.4
    cellprob_threshold: float = 0.0
    bfloat16: bool = False


def settle(
    study: Study, given: Mapping[str, Any], *, images: int, change: bool
) -> AnnotationSettings:
    """Returns the settings of an annotation; those not given are as in the last one.

    Args:
      study: the study to annotate.
      given: settings by name; None keeps a setting as it was.
      images: number of images that have cells.
      change: whether settings may change although there are such images.

    Raises:
      InputError: if a setting would change and `change` is not set, or the record of the
        last annotation is broken.
    """
    if given.get("model") is not None and given.get("annotator") is None:
        # Only cellpose has models.
        given = {**given, "annotator": "cellpose"}
    # The record holds floats: 24 and 24.0 are the same setting.
    given = {
        name: float(value) if type(value) is int else value
        for name, value in given.items()
    }
    told = {name: value for name, value in given.items() if value is not None}
    path = _path(study)
    if not path.exists():
        return AnnotationSettings(**told)
    before = dataclasses.asdict(AnnotationSettings.read(path))
    remembered.check(before, told, images=images, change=change)
    kept = {
        name: value
        for name, value in before.items()
        if given.get(name) is None and value != getattr(AnnotationSettings, name)
    }
    if kept:
        shown = ", ".join(f"{name}={value}" for name, value in kept.items())
        logger.info("As at the last annotation: %s.", shown)
    return AnnotationSettings(**before | told)


def remember(study: Study, settings: AnnotationSettings) -> None:
    """Records the settings for the next annotation."""
    settings.write(_path(study))


def _path(study: Study) -> pathlib.Path:
    return study.journal("annotation_settings").with_suffix(".json")
