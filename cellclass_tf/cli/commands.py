"""Lists the commands, and makes their flags from the public functions that they call."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import cellclass_tf
from cellclass_tf import process_state
from cellclass_tf.cli import calls, signatures


@dataclasses.dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
      help: description of the command on one line.
      function: name of the public function whose parameters become the flags; empty if
        `execute` is that function.
      execute: function that is called with the values of the flags; None for `function`.
      also: names of public functions whose optional parameters become flags too, and whose
        docstrings describe parameters that the function's own docstring does not.
      described_by: MODULE:CLASS in this package whose docstring describes parameters.
      leave_out: parameters that do not become flags.
      required: flags that must be given although the parameter has a default.
      defaults: defaults of flags that differ from those of the function.
      former: names that flags had in earlier versions.
      argument: parameter that is given without the name of a flag.
    """

    help: str
    function: str = ""
    execute: Callable[..., Any] | None = None
    also: tuple[str, ...] = ()
    described_by: str = ""
    leave_out: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    former: Mapping[str, str] = dataclasses.field(default_factory=dict)
    argument: str = ""

    @functools.cached_property
    def flags(self) -> tuple[signatures.Flag, ...]:
        """The flags; required flags come first."""
        others = [getattr(cellclass_tf, name) for name in self.also]
        described_by = list(others)
        if self.described_by:
            path, name = self.described_by.split(":")
            module = importlib.import_module(f"cellclass_tf.{path}")
            described_by.append(getattr(module, name))
        own = signatures.flags_of(
            self._public() if self.function or not self.execute else self.execute,
            leave_out=(*self.leave_out, self.argument),
            described_by=described_by,
            defaults=self.defaults,
            former=self.former,
        )
        found = {
            flag.name: dataclasses.replace(flag, required=True)
            if flag.name in self.required
            else flag
            for flag in own
        }
        for function in others:
            for flag in signatures.flags_of(function, leave_out=self.leave_out):
                if not flag.required:
                    found.setdefault(flag.name, flag)
        return tuple(sorted(found.values(), key=lambda flag: not flag.required))

    def __call__(self, **values: Any) -> Any:
        """Runs the command."""
        return (self.execute or self._public())(**values)

    def _public(self) -> Callable[..., Any]:
        return getattr(cellclass_tf, self.function)


# A damaged file may crash its reader, so the command line uses worker processes.
_WORKERS = {"processes": max(2, process_state.processors())}

COMMANDS = {
    "demo": Command(
        "Runs the whole pipeline on simulated cultures, without any download.",
        "demo",
        defaults=_WORKERS,
    ),
    "run": Command(
        "Runs the whole pipeline on your raw files; repeats only what has changed.",
        "run",
        described_by="workflows.run_settings:RunSettings",
        defaults=_WORKERS,
    ),
    "simulate": Command(
        "Simulates cultures as microscope files, with the true cells.",
        "simulate",
        leave_out=("tied", "only"),
        former={"confounded": "tied"},
        defaults=_WORKERS,
    ),
    "convert": Command(
        "Converts microscope files to merged images, and judges their quality.",
        "convert",
        defaults=_WORKERS,
    ),
    "annotate": Command("Outlines the cells of a study's images.", "annotate"),
    "import": Command(
        "Imports cells that were outlined, corrected or labelled in another program.",
        execute=calls.import_,
        also=("import_masks", "import_coco", "import_spotcheck"),
    ),
    "export": Command(
        "Exports cells to ImageJ, QuPath, OME, SpatialData, COCO, or cellpose.",
        execute=calls.export,
        also=("export_coco", "export_cellpose"),
    ),
    "finetune": Command(
        "Trains cellpose further on corrected fields, and measures whether it helped.",
        "finetune",
    ),
    "dataset": Command(
        "Prepares the TFDS dataset of a study.",
        "dataset",
        calls.dataset,
        defaults=_WORKERS,
    ),
    "check": Command(
        "Looks for leaks between the splits of a prepared dataset.",
        execute=calls.check,
    ),
    "train": Command(
        "Trains a network on the dataset of a study.", "train", calls.train
    ),
    "export-model": Command(
        "Writes and calibrates the model of one or several training runs.",
        "export_model",
        calls.export_model,
    ),
    "figure": Command(
        "Draws outlined cells, or proportions, for a paper, as SVG, PDF or PNG.",
        "figure",
    ),
    "package-model": Command(
        "Packs an exported model for the BioImage Model Zoo.", "package_model"
    ),
    "predict": Command(
        "Outlines the cells of new images, and classifies them.",
        "predict",
        required=("output",),
    ),
    "evaluate": Command(
        "Scores predictions against the true cells of a study.",
        "evaluate",
        calls.evaluate,
    ),
    "compare": Command(
        "Compares two runs, or a run and the ground truth, cell by cell.", "compare"
    ),
    "spotcheck": Command(
        "Draws a random sample of cells, and writes a page on which you label them.",
        "spotcheck",
    ),
    "conditions": Command(
        "Writes conditions.csv, in which you enter how each dish was treated.",
        "conditions",
        calls.conditions,
    ),
    "compare-conditions": Command(
        "Tests whether conditions differ in the proportions of cell types.",
        "compare_conditions",
    ),
    "report": Command(
        "Writes the report of predictions again.", "report", calls.report
    ),
    "schemas": Command(
        "Writes JSON Schemas of run.json, mixture.json and evaluation.json.",
        "write_schemas",
        calls.schemas,
    ),
    "trace": Command(
        "Traces an image or a cell back to its raw file, and checks every step.",
        "trace",
        argument="image",
    ),
    "restore": Command(
        "Lists files that were set aside, or brings one of them back.",
        "restore",
        calls.restore,
    ),
}
