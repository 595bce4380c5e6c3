"""run.yaml: what a whole run was asked for, and is asked for the next time."""

from __future__ import annotations

import dataclasses
import difflib
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic, paths, safe_yaml
from cellclass_tf.storage.records import Record

RUN_SETTINGS_FILE = "run.yaml"
_HEAD = """\
# What `cellclass run` was asked for. Change a value here, or give its flag the next time.
# Steps whose settings have not changed are not done again.
"""


@dataclasses.dataclass(frozen=True)
class RunSettings(Record):
    """What a whole run is asked for.

    Attributes:
      input: folder of the raw files, whose sub-folders name types, and `mixed`.
      study: folder of the study.
      group: see `convert`.
      nuclei, cytoplasm, projection: the same.
      annotator: 'cellpose' or 'watershed', see `annotate`.
      model: of cellpose.
      diameter: of a cell in pixels; None to estimate it.
      corrections: folder of cells that a person corrected in cellpose's window, see
        `import_cellpose`; it is read if it is there.
      minutes: that training may take, or `steps`; None for both for the experiment's own.
      steps: of the training.
      seed: of the training.
      namer: whether a second network is trained, see `training.train`.
      outlines: who outlines the mixed fields: 'network', or the annotator's name.
      answer_anyway: see `predict`.
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
    outlines: str = "network"
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
                f"{path}: expected settings, a line each; see {path.name}."
            )
        before = dict(content)
        for name in before:
            if name not in ("format", *known):
                near = difflib.get_close_matches(str(name), known, 1)
                meant = f"Did you mean {near[0]}?" if near else "Remove it."
                raise InputError(f"{path}: unknown setting {name!r}. {meant}")
    told = {name: value for name, value in given.items() if value is not None}
    settings = before | told
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
        raise InputError("Expected either steps or minutes of training, got both.")
    if found.outlines not in ("network", found.annotator):
        raise InputError(
            f"outlines={found.outlines!r}: expected 'network', or {found.annotator!r}, "
            "which outlines the pure fields, too."
        )
    return found


def write(output: pathlib.Path, settings: RunSettings) -> None:
    """Writes run.yaml."""
    import yaml

    text = _HEAD + yaml.safe_dump(
        settings.as_content(), sort_keys=False, allow_unicode=True
    )
    atomic.write_text(output / RUN_SETTINGS_FILE, text)
