"""Reads and writes run.yaml, the settings of `cellclass run`."""

from __future__ import annotations

import dataclasses
import difflib
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

from cellclass_tf.core.run_record import BY_NETWORK
from cellclass_tf.errors import InputError
from cellclass_tf.storage import ledger, paths, safe_yaml
from cellclass_tf.storage.records import Record

RUN_SETTINGS_FILE = "run.yaml"
_HEAD = """\
# What `cellclass run` was asked for. Change a value here, or give its flag the next time.
# Steps whose settings have not changed are not done again.
"""


@dataclasses.dataclass(frozen=True)
class RunSettings(Record):
    """The settings of a whole run.

    Attributes:
      input: folder of the raw files, with a sub-folder for each cell type and one called
        `mixed`.
      study: folder of the study; it is made if it does not exist.
      group: regular expression that finds the name of the dish or slide in a file's path.
        If not given, the folder names the dish of files that lie in TYPE/DISH/FILE.
      nuclei: name or index of the channel with the nuclei; found by its name if not given.
      cytoplasm: name or index of the channel with the cytoplasm; found by its name if not
        given.
      projection: how a Z stack becomes one plane: 'max' takes the brightest value at each
        pixel, 'best' the sharpest plane, 'none' refuses stacks.
      annotator: program that outlines the cells; 'watershed' needs no weights.
      model: name of a cellpose model, or path to its weights.
      diameter: diameter of a typical cell in pixels; estimated if not given.
      corrections: folder with corrected cells: files of the cellpose GUI (_seg.npy), or
        label images as `cellclass import --format=masks` reads them.
      minutes: time for training; the number of steps follows from it.
      steps: number of training steps. Without steps and minutes, 600 or 1,200 by the number
        of training cells.
      seed: seed of the training.
      namer: also train a second network, which classifies cells by crops around their
        nuclei.
      precision: number format in which the network computes during training; 'auto' takes
        the fastest that the machine multiplies in hardware.
      outlines: what outlines the mixed fields: 'network', or the annotator's name.
      answer_anyway: report proportions also for fields that do not resemble the training
        fields.
    """

    NAME: ClassVar[str] = "cellclass_tf run"
    EXPECTED: ClassVar[str] = "the settings of `cellclass run`"
    REMEDY: ClassVar[str] = "Correct it, or delete it and give the flags again."

    input: str
    study: str
    group: str | None = None
    nuclei: str | int | None = None
    cytoplasm: str | int | None = None
    projection: str | None = None
    annotator: str = "cellpose"
    model: str = "cyto3"
    diameter: float | None = None
    corrections: str | None = None
    minutes: float | None = None
    steps: int | None = None
    seed: int | None = None
    namer: bool = True
    precision: str = "auto"
    outlines: str = BY_NETWORK
    answer_anyway: bool = False


def settle(output: pathlib.Path, given: Mapping[str, Any]) -> RunSettings:
    """Returns the settings of a run in a folder: those given, and else those in run.yaml.

    Args:
      output: folder of the results.
      given: settings by name; None leaves one as it is.

    Raises:
      InputError: if run.yaml is broken or holds an unknown setting, or if neither says
        where input and study are.
    """
    path = output / RUN_SETTINGS_FILE
    known = {field.name for field in dataclasses.fields(RunSettings)}
    before: dict[str, Any] = {}
    if path.exists():
        content = safe_yaml.read_yaml(path)
        if not isinstance(content, Mapping):
            raise InputError(
                f"{path}: expected settings, one `name: value` per line. "
                f"{RunSettings.REMEDY}"
            )
        before = dict(content)
        for name in before:
            if name not in ("format", *known):
                near = difflib.get_close_matches(str(name), known, 1)
                meant = f"Did you mean {near[0]}?" if near else "Remove it."
                raise InputError(f"{path}: unknown setting {name!r}. {meant}")
    given = {name: value for name, value in given.items() if value is not None}
    # A new limit of the training replaces the former one, of either kind.
    if {"steps", "minutes"} & given.keys():
        before = {k: v for k, v in before.items() if k not in ("steps", "minutes")}
    settings = before | given
    for name in ("input", "study"):
        if not settings.get(name):
            raise InputError(
                f"--{name} is missing, and there is no {path} from an earlier run."
            )
    for name in ("input", "study", "corrections"):
        if settings.get(name):
            settings[name] = paths.recorded_path(settings[name])
    found = RunSettings.parse(settings, path, strict=False)
    if found.steps is not None and found.minutes is not None:
        raise InputError(
            f"Expected either steps or minutes of training; got {found.steps} steps and "
            f"{found.minutes:g} minutes."
        )
    if found.outlines not in (BY_NETWORK, found.annotator):
        raise InputError(
            f"outlines={found.outlines!r}: expected {BY_NETWORK!r}, or {found.annotator!r}, "
            "which outlines the pure fields, too."
        )
    return found


def write(output: pathlib.Path, settings: RunSettings) -> None:
    """Writes run.yaml, unless it has these settings; a person may have commented on them."""
    import yaml

    path, content = output / RUN_SETTINGS_FILE, settings.as_content()
    if path.exists() and safe_yaml.read_yaml(path) == content:
        return
    text = _HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    ledger.write_text(output, path, text)
