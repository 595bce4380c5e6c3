"""The settings of a study's conversions, which later conversions use again."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

from cellclass_tf.core import remembered
from cellclass_tf.messages import logger
from cellclass_tf.storage import paths
from cellclass_tf.storage.records import Record


@dataclasses.dataclass(frozen=True)
class ConversionSettings:
    """The settings of `conversion.convert` that a study remembers; None if not given."""

    nuclei: str | int | None = None
    cytoplasm: str | int | None = None
    projection: str | None = None
    group: str | None = None
    channel_files: str | None = None
    contrast: str | None = None


# Channels are not among them: another input may have other channels.
_OF_THE_STUDY = ("projection", "group", "channel_files", "contrast")

_AT_FIRST = {"projection": "max", "contrast": "group"}


@dataclasses.dataclass(frozen=True)
class _Memory(Record):
    """The settings of a study's conversions.

    Attributes:
      inputs: settings by the path of the input; the last conversion is last.
    """

    NAME: ClassVar[str] = "cellclass_tf conversions"
    EXPECTED: ClassVar[str] = "the settings of `cellclass convert`"
    REMEDY: ClassVar[str] = (
        "Delete it, and give all flags of `cellclass convert` again."
    )

    inputs: Mapping[str, ConversionSettings] = dataclasses.field(default_factory=dict)


def recall(
    root: pathlib.Path,
    source: str | os.PathLike,
    given: Mapping[str, Any],
    *,
    images: int = 0,
    change: bool = False,
) -> ConversionSettings:
    """Returns the settings of a conversion; those not given are as in earlier ones.

    Channels are as in the last conversion of the same input, or of a folder that contains
    it; other settings are as in the study's last conversion.

    Args:
      root: folder of the study.
      source: the input.
      given: settings by name; None keeps a setting as it was, '' clears it.
      images: number of the study's images.
      change: whether settings may change for images that exist.

    Raises:
      InputError: if the record of earlier conversions is broken, or a setting would change
        and `change` is not set.
    """
    inputs = _read(root).inputs
    place = pathlib.Path(source).resolve()
    around = [os.fspath(path) for path in (place, *place.parents)]
    before = next((inputs[name] for name in around if name in inputs), None)
    last = list(inputs.values())[-1:]
    found = {name: getattr(x, name) for x in last for name in _OF_THE_STUDY}
    found |= dataclasses.asdict(before) if before else {}
    told = {name: value for name, value in given.items() if value is not None}
    if told.get("contrast") != "anew":
        # Another input may have other file names and channels.
        names = [*found] if before else ["projection", "contrast"]
        earlier = {n: found.get(n) or _AT_FIRST.get(n) for n in names} if found else {}
        remembered.check(earlier, told, images=images, change=change)
    kept = {k: v for k, v in found.items() if v is not None and k not in told}
    if kept:
        shown = ", ".join(f"{name}={value}" for name, value in sorted(kept.items()))
        logger.info("As at the last conversion: %s.", shown)
    # An empty text clears a setting.
    settings = {k: None if v == "" else v for k, v in (found | told).items()}
    return ConversionSettings(**settings)


def remember(
    root: pathlib.Path, source: str | os.PathLike, settings: ConversionSettings
) -> None:
    """Records the settings for the next conversion."""
    place = paths.recorded_path(pathlib.Path(source).resolve())
    before = {k: v for k, v in _read(root).inputs.items() if k != place}
    if settings.contrast == "anew":
        # 'anew' is for one conversion only.
        settings = dataclasses.replace(settings, contrast="group")
    _Memory({**before, place: settings}).write(_path(root))


def _read(root: pathlib.Path) -> _Memory:
    return _Memory.read(_path(root)) if _path(root).exists() else _Memory()


def _path(root: pathlib.Path) -> pathlib.Path:
    return root / ".journal" / "conversions.json"
