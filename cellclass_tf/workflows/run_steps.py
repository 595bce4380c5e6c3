"""The steps of `cellclass run`; each does what has changed since it was last done."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from cellclass_tf import batch
from cellclass_tf.analysis import shares_in_words
from cellclass_tf.annotation.annotators import by_name
from cellclass_tf.annotation.review import queue
from cellclass_tf.core.manifest import costs_of_rejection
from cellclass_tf.core.run_record import BY_NETWORK
from cellclass_tf.core.study import MIXED, Study
from cellclass_tf.errors import InputError, one_line
from cellclass_tf.interchange import cellpose_gui, masks
from cellclass_tf.maskrcnn import hardware
from cellclass_tf.storage import csv_json, digests
from cellclass_tf.workflows.run_settings import RunSettings

EXPERIMENT = "cellclass_maskrcnn_small"
# Kinds of questions: about doubtful cells, and (followed by the type) about a single dish.
_DOUBTS = "doubtful cells"
_ONE_DISH = "one dish of"
# Number of failures that are listed.
_MOST_FAILURES = 5


@dataclasses.dataclass(frozen=True)
class Predicted:
    """What the last step of a run found.

    Attributes:
      lines: what to tell a person before the shares.
      shares: {type: (share, low, high)} of the mixed fields, the best estimate that there
        is; None without one.
      next_step: what is most useful to do now.
      report: path of the report; None if there are no mixed fields.
    """

    lines: tuple[str, ...]
    shares: shares_in_words.Shares | None = None
    next_step: tuple[str, ...] = ()
    report: pathlib.Path | None = None


class Stages:
    """Prints which stage of a long job begins, and measures how long each one takes.

    Attributes:
      seconds: wall time of each stage that has ended, by name.
    """

    def __init__(self, described: Mapping[str, str]) -> None:
        """Sets up the stages: a description of each by its name, in their order."""
        self._described = dict(described)
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Announces a stage on the standard error, and measures the block's time."""
        number = list(self._described).index(name) + 1
        text = f"[{number}/{len(self._described)}] {self._described[name]}"
        print(text, file=sys.stderr, flush=True)
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start


@dataclasses.dataclass(frozen=True)
class Steps:
    """The steps of a run, each of which does what has changed since it was last done.

    Attributes:
      settings: settings of the run.
      output: folder of the results.
      stages: announces the steps; it knows the names in `run_plan.STEPS`.
      processes: number of worker processes for conversion, annotation and the dataset.
      mode: mode of `maskrcnn.training.train`.
    """

    settings: RunSettings
    output: pathlib.Path
    stages: Stages
    processes: int = 1
    mode: str = "train_and_eval"

    @property
    def study(self) -> Study:
        """The study that the settings name."""
        return Study.open(self.settings.study)

    @property
    def model(self) -> pathlib.Path:
        """Folder of the exported model."""
        return self.output / "model"

    def convert(self) -> batch.Outcome:
        """Merges the channels of the raw files, and judges their quality.

        Raises:
          InputError: if no file could be converted.
        """
        import cellclass_tf as cc

        settings = self.settings
        with self.stages("convert"):
            outcome = cc.convert(
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
        if not outcome.results:
            raise InputError(_all_failed(outcome, "could be converted"))
        return outcome

    def annotate(self) -> batch.Outcome:
        """Outlines the cells of the fields that have no outlines yet."""
        import cellclass_tf as cc

        settings = self.settings
        with self.stages("annotate"):
            return cc.annotate(
                settings.study,
                annotator=settings.annotator,
                model=settings.model,
                diameter=settings.diameter or 0.0,
                change_settings=True,
                processes=self.processes,
            )

    def correct(self) -> batch.Outcome:
        """Reads corrected cells: files of the cellpose GUI, or label images."""
        import cellclass_tf as cc

        settings = self.settings
        if not settings.corrections:
            return batch.Outcome()
        folder = pathlib.Path(settings.corrections)
        of_cellpose = any(folder.rglob(f"*{cellpose_gui.ENDING}"))
        read = cc.import_cellpose if of_cellpose else cc.import_masks
        with self.stages("corrections"):
            outcome = read(settings.study, folder)
        return outcome.merge(batch.Outcome(failures=_not_read(folder, of_cellpose)))

    def questions(self, failures: Mapping[str, str]) -> list[str]:
        """Returns what a person should look at before training.

        Args:
          failures: reasons of the files that failed, by name.

        Returns:
          The questions; none if they are those of the last call, which a person has seen.
        """
        about = _questions_about(self.study)
        asked = {f"failed: {name}": reason for name, reason in failures.items()} | about
        before = self._recorded().get("asked", {})
        # Correcting some of the doubtful cells makes their number another one.
        is_new = any(
            kind not in before or (text != before[kind] and kind != _DOUBTS)
            for kind, text in asked.items()
        )
        self._record("asked", asked)
        return [*failure_lines(failures), *about.values()] if is_new else []

    def train(self) -> None:
        """Trains and exports, unless that was done with these data and settings."""
        import cellclass_tf as cc
        from cellclass_tf.maskrcnn import export

        settings = self.settings
        with self.stages("dataset"):
            prepared = cc.dataset(
                settings.study,
                # Whoever continues after the question accepts this.
                allow_no_validation=any(
                    kind.startswith(_ONE_DISH)
                    for kind in self._recorded().get("asked", {})
                ),
                processes=self.processes,
            )
        folder = self._training_folder(prepared.info)
        key = digests.fingerprint(folder.name, _training_settings(settings))
        with self.stages("train"):
            if self._recorded().get("train") != key:
                self._train(folder, key)
        with self.stages("export"):
            exported = digests.fingerprint(key, _export_settings(settings))
            if self._recorded().get("export") != exported or not self.model.exists():
                options = by_name.Settings(settings.model, settings.diameter)
                annotator = by_name.make_annotator(settings.annotator, options)
                is_network = settings.outlines == BY_NETWORK
                export.export(
                    EXPERIMENT,
                    folder,
                    self.model,
                    annotators=[] if is_network else [annotator],
                    encoder_weights=annotator.encoder_weights(),
                )
                self._record("export", exported)

    def _training_folder(self, dataset: Any) -> pathlib.Path:
        """Returns the folder of the training on a dataset, given by its DatasetInfo.

        Versions are counted anew if the datasets of a study were removed, or in another
        study, so that an older training may have the same version.
        """
        version, fingerprint = str(dataset.version), dataset.metadata["fingerprint"]
        folder = self.output / "training" / version
        if _dataset_of(folder) in ("", fingerprint):
            return folder
        return folder.with_name(f"{version}_{fingerprint[:8]}")

    def _train(self, folder: pathlib.Path, key: str) -> None:
        from cellclass_tf.maskrcnn import training

        if folder.exists() and self._recorded().get("begun") not in (key, None):
            raise InputError(
                f"{folder} holds a training with other settings on the same dataset. "
                "Move it away to train anew, or give the former settings."
            )
        self._record("begun", key)
        training.train(
            EXPERIMENT,
            folder,
            study=self.settings.study,
            mode=self.mode,
            **_training_settings(self.settings),
        )
        self._record("train", key)

    def predict(self) -> Predicted:
        """Predicts the mixed fields, if there are any, and writes the report.

        Raises:
          InputError: if no field could be predicted.
        """
        import cellclass_tf as cc

        settings = self.settings
        if not any(row.cell_type == MIXED for row in self.study.accepted_rows()):
            line = (
                f"There are no mixed fields in {settings.input}/{MIXED}. The model is in "
                f"{self.model}; `cellclass predict` classifies cells with it."
            )
            return Predicted((line,))
        predictions = self.output / "predictions"
        with self.stages("predict"):
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
        return Predicted(
            (*failure_lines(outcome.failures), *outcome.notes, heading),
            shares,
            _next_step(self.study, mixture, predictions),
            predictions / "report.html",
        )

    @property
    def _record_path(self) -> pathlib.Path:
        return self.output / ".journal" / "run.json"

    def _recorded(self) -> dict[str, Any]:
        """Returns what earlier calls recorded, by name."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return dict(json.loads(self._record_path.read_text("utf-8")))
        return {}

    def _record(self, name: str, value: Any) -> None:
        """Records a fingerprint of data and settings, or what a person was asked."""
        csv_json.write_json(self._record_path, self._recorded() | {name: value})


def _training_settings(settings: RunSettings) -> dict[str, Any]:
    """Returns the settings that a training depends on."""
    names = ["minutes", "steps", "seed", "namer"]
    # Runs of earlier versions had no other precision, and stay valid.
    if settings.precision != hardware.AUTO:
        names.append("precision")
    return {name: getattr(settings, name) for name in names}


def _export_settings(settings: RunSettings) -> list[Any]:
    """Returns what the export of a training depends on."""
    weights = pathlib.Path(settings.model or "")
    return [
        settings.outlines,
        settings.annotator,
        settings.diameter,
        settings.model,
        digests.sha256_of_file(weights) if weights.is_file() else "",
    ]


def _dataset_of(folder: pathlib.Path) -> str:
    """Returns the fingerprint of the dataset of a training; '' if there is none yet."""
    from cellclass_tf.maskrcnn import runs

    path = folder / runs.RECORD_FILE
    return runs.TrainingRecord.read(path).dataset_fingerprint if path.exists() else ""


def _all_failed(outcome: batch.Outcome, what: str) -> str:
    first = next(iter(outcome.failures.items()), ("", "there was none"))
    return f"No file {what}. The first: {one_line(first[0])}: {one_line(first[1])}"


def failure_lines(failures: Mapping[str, str]) -> list[str]:
    """Returns a line for each of the first failures, and the number of the others."""
    shown = [
        f"failed: {one_line(reason if name in reason else f'{name}: {reason}')}"
        for name, reason in sorted(failures.items())[:_MOST_FAILURES]
    ]
    more = len(failures) - len(shown)
    return [*shown, f"and {more} more that failed"] if more > 0 else shown


def _not_read(folder: pathlib.Path, of_cellpose: bool) -> dict[str, str]:
    """Returns the label images beside files of cellpose, which are read alone, and why."""
    if not of_cellpose:
        return {}
    lone = [
        path
        for path, name in masks.named_as_labels(folder)
        if not path.with_name(name + cellpose_gui.ENDING).exists()
    ]
    reason = (
        f"not read, since {folder} has files of cellpose (…{cellpose_gui.ENDING}), and "
        "`run` reads one kind of file. Move it to another folder, and import it with "
        "`cellclass import --format=masks`."
    )
    return {os.fspath(path): reason for path in lone}


def _questions_about(study: Study) -> dict[str, str]:
    """Returns what a person should look at in an annotated study, by kind."""
    rows, questions = study.rows(), {}
    costs = costs_of_rejection(rows)
    if costs:
        reasons = ", ".join(f"{cost.fields} {why}" for why, cost in costs.items())
        questions["rejected"] = (
            f"rejected fields: {reasons}. See {study.root / 'quality'}; write accepted into "
            f"the column verdict of {study.manifest_path.name} to keep one."
        )
    groups: dict[str, set[str]] = {}
    for row in study.accepted_rows():
        if row.cell_type != MIXED:
            groups.setdefault(row.cell_type, set()).add(row.group)
    questions |= {
        f"{_ONE_DISH} {name}": (
            f"{name}: there is one dish only ({min(found)}), and one has to be held out. "
            "Add another, or tell dishes apart with --group. Without, it is not known how "
            f"often the model is wrong about {name}, and proportions are not corrected."
        )
        for name, found in sorted(groups.items())
        if len(found) == 1
    }
    to_correct = queue.worth_correcting(study)
    if to_correct:
        questions[_DOUBTS] = f"{to_correct} Then run again with --corrections=gui."
    return questions


def _next_step(
    study: Study, mixture: Mapping[str, Any], predictions: pathlib.Path
) -> tuple[str, ...]:
    """Returns what is most useful to do after the report; empty if nothing is left."""
    if not mixture["spot_check"]:
        labels = mixture["estimates"][0]["labels_for_width"]["as_held_out"] or 100
        step = (
            "Most useful next: see how often the model errs in these very cultures; label "
            f"about {min(labels, 200)} cells (`cellclass spotcheck --predictions="
            f"{predictions}`)."
        )
        return (step,)
    return tuple(filter(None, [queue.worth_correcting(study)]))
