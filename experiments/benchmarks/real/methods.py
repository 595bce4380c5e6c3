"""Methods to outline and classify cells: those of this package, and others."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

import cellclass_tf as cc
import tfds_builders
from cellclass_tf.analysis import cell_table
from cellclass_tf.annotation.annotators import by_name
from cellclass_tf.annotation.annotators.protocol import Annotator
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.manifest import MIXED, ImageRow
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.maskrcnn import export, training
from cellclass_tf.storage import csv_json
from experiments.benchmarks import stardist_classes
from experiments.benchmarks.real.tasks import Task


@dataclasses.dataclass(frozen=True)
class Options:
    """How methods are run.

    Attributes:
      weights: weights of cellpose.
      experiment: experiment of this package.
      steps: number of our training steps; None for the experiment's own.
      seeds: random seeds of our trainings; their networks form one model.
      override: overrides of the experiment's parameters.
      init: starting weights; None for the experiment's own.
    """

    weights: str
    experiment: str = "cellclass_maskrcnn_small"
    steps: int | None = None
    seeds: Sequence[int] = (0,)
    override: str = ""
    init: str | None = None


@dataclasses.dataclass(frozen=True)
class Found:
    """The result of a method.

    Attributes:
      cells: cells of each field, by image.
      training_s: seconds of training.
      prediction_s: seconds of prediction for all fields, including loading.
      notes: remarks of the method about its result.
    """

    cells: Mapping[str, Cells]
    training_s: float
    prediction_s: float
    notes: Sequence[str] = ()


def network(task: Task, place: pathlib.Path, options: Options) -> Found:
    """Ours: the network outlines and classifies the cells."""
    return _predicted(task, _trained(task.train, place, options), "network", options)


def given_outlines(task: Task, place: pathlib.Path, options: Options) -> Found:
    """Ours: cellpose outlines the cells, and the same network classifies them."""
    return _predicted(task, _trained(task.train, place, options), "cellpose", options)


def learned_outlines(task: Task, place: pathlib.Path, options: Options) -> Found:
    """Ours: as `network`, but also trained on cellpose's outlines of the mixed fields.

    The types of these cells are not given.
    """
    root = place / "study_outlined"
    if not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(
            task.train.root, root, ignore=shutil.ignore_patterns("tfds", "made")
        )
        study = cc.Study.open(root)
        annotator = _cellpose(options)
        for row in study.accepted_rows():
            if row.cell_type == MIXED:
                outlines = annotator.annotate(study.read_image(row)).labels
                cells = Cells.from_labels(outlines, study.cell_types)
                cells.write(study.cells_path(row), types_csv=True)
        (root / "made").touch()
    study = cc.Study.open(root)
    return _predicted(
        task, _trained(study, place / "outlined", options), "network", options
    )


def _trained(study: cc.Study, place: pathlib.Path, options: Options) -> pathlib.Path:
    """Trains and exports the network, unless that was done before."""
    model, told = place / "model", place / "training.json"
    runs = [place / f"training_{seed}" for seed in options.seeds]
    if not told.exists():
        tfds_builders.dataset(study, allow_no_validation=True)
        start = time.monotonic()
        for seed, run in zip(options.seeds, runs, strict=True):
            training.train(
                options.experiment,
                run,
                study=study.root,
                steps=options.steps,
                init=options.init,
                seed=seed,
                params_override=options.override or None,
            )
        csv_json.write_json(told, {"training_s": time.monotonic() - start})
    if not model.exists():
        weights = _cellpose(options).encoder_weights()
        export.export(options.experiment, runs, model, encoder_weights=weights)
    return model


def _predicted(
    task: Task, model: pathlib.Path, outlines: str, options: Options
) -> Found:
    out = model.parent / outlines
    shutil.rmtree(out, ignore_errors=True)
    start = time.monotonic()
    outcome = cc.predict(
        model,
        task.test.root,
        out,
        cell_type=task.cell_type,
        outlines=outlines,
        weights=options.weights,
        # A low threshold for AP, which ranks cells by their scores; the model's own
        # threshold for mixed fields, as a user would count.
        score_threshold=0.1
        if outlines == "network" and task.cell_type is None
        else None,
    )
    seconds = time.monotonic() - start
    found = Predictions(out)
    cells = {row.image: found.read(row.stem) for row in task.rows()}
    told = json.loads((model.parent / "training.json").read_text())
    return Found(cells, told["training_s"], seconds, outcome.notes)


def stardist(task: Task, place: pathlib.Path, options: Options) -> Found:
    """StarDist with classes, trained for as long as our network."""
    told = json.loads((place / "training.json").read_text())
    folder = place / "stardist"
    if (folder / "done.json").exists():
        spent = json.loads((folder / "done.json").read_text())["training_s"]
        predict = stardist_classes.load(folder, task.train.cell_types)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        predict, spent = stardist_classes.train(
            task.train.root, folder, told["training_s"]
        )
        csv_json.write_json(folder / "done.json", {"training_s": spent})
    start = time.monotonic()
    cells = {row.image: predict(task.test.read_image(row)) for row in task.rows()}
    return Found(cells, spent, time.monotonic() - start)


def forest(task: Task, place: pathlib.Path, options: Options) -> Found:
    """Cellpose's outlines, classified by a random forest on measurements of the cells."""
    return _forest(task, options, relative=False)


def relative_forest(task: Task, place: pathlib.Path, options: Options) -> Found:
    """As `forest`, with grey levels divided by the field's mean."""
    return _forest(task, options, relative=True)


METHODS: Mapping[str, Callable[[Task, pathlib.Path, Options], Found]] = {
    "network": network,
    "given_outlines": given_outlines,
    "learned_outlines": learned_outlines,
    "stardist": stardist,
    "forest": forest,
    "relative_forest": relative_forest,
}
OURS = ("network", "given_outlines", "learned_outlines")


def methods_of(task: Task) -> list[str]:
    """Returns the names of the methods for a task."""
    only_mixed = () if task.cell_type == MIXED else ("learned_outlines",)
    return [name for name in METHODS if name not in only_mixed]


def _forest(task: Task, options: Options, *, relative: bool) -> Found:
    from sklearn import ensemble

    start = time.monotonic()
    known: list[list[float]] = []
    types: list[str] = []
    for row, cells in _annotated(task.train):
        known += measured(cells, task.train.read_image(row), relative=relative)
        types += cells.cell_types
    model = ensemble.RandomForestClassifier(500, random_state=0).fit(known, types)
    seconds, start, found = time.monotonic() - start, time.monotonic(), {}
    annotator = _cellpose(options)
    names = task.train.cell_types
    for row in task.rows():
        image = task.test.read_image(row)
        outlines = annotator.annotate(image)
        numbers = measured(
            Cells.from_labels(outlines.labels, names), image, relative=relative
        )
        votes = model.predict_proba(numbers)
        # scikit-learn sorts classes by name; a study's types may have another order.
        votes = votes[:, [list(model.classes_).index(name) for name in names]]
        cells = Cells.from_labels(
            outlines.labels, names, [names[i] for i in votes.argmax(axis=1)]
        )
        sure = (
            cells.scores if outlines.probabilities is None else outlines.probabilities
        )
        found[row.image] = dataclasses.replace(
            cells, scores=sure, probabilities=votes.astype(np.float32)
        )
    return Found(found, seconds, time.monotonic() - start)


def _cellpose(options: Options) -> Annotator:
    return by_name.make_annotator("cellpose", by_name.Settings(options.weights))


def _annotated(study: cc.Study) -> Iterator[tuple[ImageRow, Cells]]:
    for row in study.accepted_rows():
        if study.has_cells(row) and row.split == "train":
            yield row, study.read_cells(row)


# Columns of cells.csv with the position or the predicted type of a cell.
_NOT_MEASURED = ("image", "cell", "call", "probability", "score", "group", "on_border")
_OF_PLACE = ("centroid", "nearest", "neighbours")


def measured(
    cells: Cells, image: np.ndarray, *, relative: bool = False
) -> list[list[float]]:
    """Returns the numbers of cells.csv without position and type; -1 if missing.

    Args:
      cells: N cells.
      image: (H, W, 3) uint8.
      relative: whether grey levels are divided by the channel's mean over the field.
    """
    wanted = [
        name
        for name in cell_table.columns(())
        if name not in _NOT_MEASURED
        and not name.endswith(("_type", "_um", "_um2"))
        and not name.startswith(_OF_PLACE)
    ]
    _, cytoplasm, nuclei = np.maximum(image.reshape(-1, 3).mean(axis=0), 1e-6)
    units = dict.fromkeys(wanted, 1.0)
    for name in wanted if relative else ():
        if name.endswith("_grey"):
            units[name] = cytoplasm if name.startswith("mean_cytoplasm") else nuclei
    return [
        [
            -1.0 if row[name] in ("", None) else float(row[name]) / units[name]
            for name in wanted
        ]
        for row in cell_table.cell_table(cells, image, name="")
    ]
