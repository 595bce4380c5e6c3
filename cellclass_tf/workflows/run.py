"""One command from raw files to the proportions of mixed cultures."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cellclass_tf import batch, process_state
from cellclass_tf.analysis import shares_in_words
from cellclass_tf.annotation.annotators import by_name
from cellclass_tf.annotation.review import queue
from cellclass_tf.core.manifest import costs_of_rejection
from cellclass_tf.core.study import MIXED, Study
from cellclass_tf.errors import FOR_TRAINING, InputError, one_line, require
from cellclass_tf.microscopy.files import raw_files
from cellclass_tf.microscopy.readers import Projection
from cellclass_tf.storage import csv_json, digests, lock
from cellclass_tf.workflows import run_settings
from cellclass_tf.workflows.run_settings import RunSettings

EXPERIMENT = "cellclass_maskrcnn_small"
STEPS = (
    "convert",
    "annotate",
    "corrections",
    "dataset",
    "train",
    "export",
    "predict",
)
_SAYINGS = {
    "convert": "merge the channels of {raw} raw files, and judge their quality",
    "annotate": "outline the cells with {annotator}",
    "corrections": "read the cells that you corrected, from {corrections}",
    "dataset": "prepare the dataset",
    "train": "train the network",
    "export": "export and calibrate the network",
    "predict": "outline and name the cells of the mixed fields, and write the report",
}
# Minutes on two cores, for a field of a megapixel where they depend on fields.
_MINUTES = {"convert": 0.02, "cellpose": 0.5, "watershed": 0.03, "predict": 0.15}
_TRAINING_MINUTES, _EXPORT_MINUTES = 17.0, 3.0
# Bytes of a merged image, labels and pictures for a byte of a raw file.
_DISK = 1.5
_MODELS_BYTES = 150e6
# Failures that are named.
_MOST_FAILURES = 5


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """One step of a run.

    Attributes:
      name: one of STEPS.
      what: in words.
      minutes: that it takes, roughly, if all of it has to be done.
    """

    name: str
    what: str
    minutes: float


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run did.

    Attributes:
      plan: its steps.
      disk_bytes: that all of it takes, roughly.
      questions: what a person has to look at before the run goes on; empty if it is
        through.
      shares: {type: (share, low, high)} of the mixed fields, the best estimate that there
        is; None without one.
      lines: what else there is to tell, before the shares.
      next_step: what is most useful to do now.
      report: path of the report, None if the run did not come so far.
    """

    plan: tuple[PlannedStep, ...]
    disk_bytes: float
    questions: tuple[str, ...] = ()
    shares: shares_in_words.Shares | None = None
    lines: tuple[str, ...] = ()
    next_step: tuple[str, ...] = ()
    report: pathlib.Path | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing is left to be answered."""
        return not self.questions

    def __str__(self) -> str:
        if self.questions:
            asked = "\n".join(f"  {line}" for line in self.questions)
            return (
                f"The run stopped before training, since you should look at this:\n{asked}\n"
                "Then run it again; with --yes it goes on as things are."
            )
        told = list(self.lines)
        told += shares_in_words.lines(self.shares or {})
        if self.report:
            told.append(f"Report: {self.report}")
        told += self.next_step
        return "\n".join(told) or plan_in_words(self)


def plan_in_words(run: Run) -> str:
    """Says what a run would do."""
    lines = [
        f"{number}. {step.what}{_about(step.minutes)}"
        for number, step in enumerate(run.plan, start=1)
    ]
    total = sum(step.minutes for step in run.plan)
    lines.append(
        f"All of it takes about {total:.0f} minutes on two cores, and "
        f"{run.disk_bytes / 1e9:.1f} GB of disk space. What is done already takes none."
    )
    return "\n".join(lines)


@process_state.keep()
@lock.writes("output", creates=True)
def run(
    output: str | os.PathLike,
    *,
    input: str | os.PathLike | None = None,
    study: str | os.PathLike | None = None,
    group: str | None = None,
    nuclei: str | int | None = None,
    cytoplasm: str | int | None = None,
    projection: Projection | None = None,
    annotator: Literal["cellpose", "watershed"] | None = None,
    model: str | os.PathLike | None = None,
    diameter: float | None = None,
    corrections: str | os.PathLike | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int | None = None,
    namer: bool | None = None,
    outlines: str | None = None,
    answer_anyway: bool | None = None,
    plan: bool = False,
    yes: bool = False,
    processes: int = 1,
) -> Run:
    """Goes the whole way from raw files to the proportions of the mixed fields.

    Converts and annotates, reads corrections, prepares the dataset, trains, exports,
    predicts and reports; each step does what has changed since the last call. OUTPUT/run.yaml
    keeps the settings, so that the next call needs none; OUTPUT/training/VERSION holds the
    training on that version of the dataset, OUTPUT/model the model, OUTPUT/predictions the
    results. Before training it stops once where a person should look: files that could
    not be read, rejected fields, doubtful cells, and types with a single dish.

    The settings from `input` to `answer_anyway` are described in `RunSettings`. Those that
    are not given stay as run.yaml has them.

    Args:
      output: folder for all results and run.yaml; not the folder of the study.
      plan: print what would be done, and stop.
      yes: continue where the command would stop for a person to look.
      processes: number of worker processes for conversion and annotation.

    Returns:
      What was done, and found.

    Raises:
      InputError: if a setting makes no sense, a folder holds something else, or a step
        has nothing to work on.
    """
    output = pathlib.Path(output)
    given = {
        "input": input,
        "study": study,
        "group": group,
        "nuclei": nuclei,
        "cytoplasm": cytoplasm,
        "projection": projection,
        "annotator": annotator,
        "model": model,
        "diameter": diameter,
        "corrections": corrections,
        "minutes": minutes,
        "steps": steps,
        "seed": seed,
        "namer": namer,
        "outlines": outlines,
        "answer_anyway": answer_anyway,
    }
    settings = run_settings.settle(
        output,
        {
            k: os.fspath(v) if isinstance(v, os.PathLike) else v
            for k, v in given.items()
        },
    )
    _check_folders(settings, output)
    planned = _planned(settings)
    if plan:
        return planned
    outlining = ("cellpose",) if settings.annotator == "cellpose" else ()
    require("cellclass run", *FOR_TRAINING, *outlining)
    run_settings.write(output, settings)
    print(plan_in_words(planned), file=sys.stderr, flush=True)
    work = _Work(settings, output, planned, processes)
    asked = work.material()
    if asked and not yes:
        return dataclasses.replace(planned, questions=tuple(asked))
    work.train()
    return work.predict()


def _check_folders(settings: RunSettings, output: pathlib.Path) -> None:
    if not os.path.exists(settings.input):
        raise InputError(f"{settings.input} does not exist: expected raw files there.")
    if os.path.abspath(output) == os.path.abspath(settings.study):
        raise InputError(
            f"{output}: the results need a folder of their own, not that of the study."
        )


def _planned(settings: RunSettings) -> Run:
    found = raw_files.find(
        pathlib.Path(settings.input), None, settings.group, None, allow_lossy=False
    )
    raws = found[0]
    mixed = sum(raw.cell_type == MIXED for raw in raws)
    size = sum(_bytes_of(raw.path) for raw in raws)
    training = settings.minutes or _TRAINING_MINUTES
    minutes = {
        "convert": len(raws) * _MINUTES["convert"],
        "annotate": len(raws) * _MINUTES.get(settings.annotator, 0.1),
        "corrections": 0.0,
        "dataset": 0.5,
        "train": training,
        "export": _EXPORT_MINUTES,
        "predict": mixed * _MINUTES["predict"],
    }
    names = [n for n in STEPS if n != "corrections" or settings.corrections]
    told = {"raw": len(raws)} | dataclasses.asdict(settings)
    return Run(
        tuple(PlannedStep(n, _SAYINGS[n].format(**told), minutes[n]) for n in names),
        size * _DISK + _MODELS_BYTES,
    )


def _bytes_of(path: pathlib.Path) -> int:
    """Of a file, or of all in a folder such as OME-Zarr's."""
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    files = (p for p in path.rglob("*") if p.is_file())
    return sum(p.stat().st_size for p in files)


@dataclasses.dataclass(frozen=True)
class _Work:
    """The steps of a run."""

    settings: RunSettings
    output: pathlib.Path
    planned: Run
    processes: int

    @property
    def study(self) -> Study:
        return Study.open(self.settings.study)

    @property
    def model(self) -> pathlib.Path:
        return self.output / "model"

    def material(self) -> list[str]:
        """Converts and annotates; returns what a person should look at."""
        import cellclass_tf as cc

        settings = self.settings
        self._begin("convert")
        converted = cc.convert(
            settings.input,
            settings.study,
            group=settings.group,
            nuclei=settings.nuclei,
            cytoplasm=settings.cytoplasm,
            projection=settings.projection,
            # run.yaml is where settings are changed.
            change_settings=True,
            processes=self.processes,
        )
        if not converted.results:
            raise InputError(_all_failed(converted, "could be converted"))
        self._begin("annotate")
        annotated = cc.annotate(
            settings.study,
            annotator=settings.annotator,
            model=settings.model,
            diameter=settings.diameter or 0.0,
            change_settings=True,
            processes=self.processes,
        )
        failures = converted.failures | annotated.failures
        if settings.corrections and os.path.isdir(settings.corrections):
            self._begin("corrections")
            failures |= cc.import_cellpose(
                settings.study, settings.corrections
            ).failures
        return [*_told_of_failures(failures), *_told_of_study(self.study)]

    def train(self) -> None:
        """Trains and exports, unless that was done with these data and settings."""
        import tfds_builders
        from cellclass_tf.maskrcnn import export, training

        settings = self.settings
        self._begin("dataset")
        prepared = tfds_builders.dataset(settings.study, processes=self.processes)
        version = str(prepared.info.version)
        folder = self.output / "training" / version
        names = ("minutes", "steps", "seed", "namer")
        key = digests.fingerprint(
            version, {name: getattr(settings, name) for name in names}
        )
        self._begin("train")
        if self._done("train") != key:
            if folder.exists() and self._done("begun") not in (key, None):
                raise InputError(
                    f"{folder} holds a training with other settings on the same dataset. "
                    "Move it away to train anew, or give the former settings."
                )
            self._note("begun", key)
            training.train(
                EXPERIMENT,
                folder,
                study=settings.study,
                steps=settings.steps,
                minutes=settings.minutes,
                seed=settings.seed,
                namer=settings.namer,
            )
            self._note("train", key)
        self._begin("export")
        exported = digests.fingerprint(key, settings.outlines, settings.model)
        if self._done("export") != exported or not self.model.exists():
            annotators = []
            if settings.outlines != "network":
                of = by_name.Settings(settings.model, settings.diameter)
                annotators.append(by_name.make_annotator(settings.outlines, of))
            export.export(EXPERIMENT, folder, self.model, annotators=annotators)
            self._note("export", exported)

    def predict(self) -> Run:
        """Predicts the mixed fields, if there are any."""
        import cellclass_tf as cc

        settings = self.settings
        if not any(row.cell_type == MIXED for row in self.study.accepted_rows()):
            return dataclasses.replace(
                self.planned,
                lines=(
                    (
                        f"There are no mixed fields in {settings.input}/mixed. The model is in "
                        f"{self.model}; `cellclass predict` names cells with it."
                    ),
                ),
            )
        self._begin("predict")
        predictions = self.output / "predictions"
        outcome = cc.predict(
            self.model,
            settings.study,
            predictions,
            cell_type=MIXED,
            outlines=settings.outlines,
            weights=settings.model,
            diameter=settings.diameter,
            answer_anyway=settings.answer_anyway,
        )
        if not outcome.results:
            raise InputError(_all_failed(outcome, "could be predicted"))
        mixture = json.loads((predictions / "mixture.json").read_text("utf-8"))
        shares, heading = shares_in_words.best_shares(mixture)
        return dataclasses.replace(
            self.planned,
            shares=shares,
            lines=(
                *_told_of_failures(outcome.failures),
                *outcome.notes,
                heading,
            ),
            next_step=tuple(_next_step(self.study, mixture, predictions)),
            report=predictions / "report.html",
        )

    def _begin(self, name: str) -> None:
        names = [step.name for step in self.planned.plan]
        step = self.planned.plan[names.index(name)]
        print(
            f"[{names.index(name) + 1}/{len(names)}] {step.what}",
            file=sys.stderr,
            flush=True,
        )

    @property
    def _notes(self) -> pathlib.Path:
        return self.output / ".journal" / "run.json"

    def _done(self, name: str) -> str | None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            return json.loads(self._notes.read_text("utf-8")).get(name)
        return None

    def _note(self, name: str, key: str) -> None:
        known: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):
            known = dict(json.loads(self._notes.read_text("utf-8")))
        csv_json.write_json(self._notes, known | {name: key})


def _about(minutes: float) -> str:
    return f" (about {minutes:.0f} min)" if minutes >= 1 else ""


def _all_failed(outcome: batch.Outcome, what: str) -> str:
    first = next(iter(outcome.failures.items()), ("", "there was none"))
    return f"No file {what}. The first: {one_line(first[0])}: {one_line(first[1])}"


def _told_of_failures(failures: Mapping[str, str]) -> list[str]:
    shown = [
        f"failed: {one_line(reason if name in reason else f'{name}: {reason}')}"
        for name, reason in sorted(failures.items())[:_MOST_FAILURES]
    ]
    more = len(failures) - len(shown)
    return [*shown, f"and {more} more that failed"] if more > 0 else shown


def _told_of_study(study: Study) -> list[str]:
    """What a person should look at in a study that is annotated."""
    rows, told = study.rows(), []
    costs = costs_of_rejection(rows)
    if costs:
        reasons = ", ".join(f"{cost.fields} {why}" for why, cost in costs.items())
        told.append(
            f"rejected fields: {reasons}. See {study.root / 'quality'}; write accepted into "
            f"the column verdict of {study.manifest_path.name} to keep one."
        )
    groups: dict[str, set[str]] = {}
    for row in study.accepted_rows():
        if row.cell_type != MIXED:
            groups.setdefault(row.cell_type, set()).add(row.group)
    told += [
        f"{name}: there is one dish only ({min(found)}), and one has to be held out. Add "
        "another, or tell dishes apart with --group."
        for name, found in sorted(groups.items())
        if len(found) == 1
    ]
    doubtful = queue.worth_correcting(study)
    if doubtful:
        told.append(f"{doubtful} Then give --corrections=gui.")
    return told


def _next_step(
    study: Study, mixture: Mapping[str, Any], predictions: pathlib.Path
) -> Sequence[str]:
    if not mixture["spot_check"]:
        labels = mixture["estimates"][0]["labels_for_width"]["as_held_out"] or 100
        return (
            (
                "Most useful next: see how often the model errs in these very cultures; label "
                f"about {min(labels, 200)} cells (`cellclass spotcheck --predictions="
                f"{predictions}`)."
            ),
        )
    return tuple(filter(None, [queue.worth_correcting(study)]))
