"""Three real cell types, masks drawn by hand: train on two fields a type, test on the third.

    python -m experiments.benchmarks.three_types --folder=/tmp/three_types --images=FOLDER \
        --weights=WEIGHTS --folds=0,1,2

IMAGES is a folder as `fields.drawn_by_hand` takes it, WEIGHTS are cellpose's. In fold i the
i-th field of every type is held out: the network never sees it, and nothing (steps,
thresholds, the best checkpoint) is chosen by it. The held-out fields are outlined by the
network, and by cellpose with the diameter that its size model estimates; the network names
the cells of both, and so does a random forest on the shape and brightness of cellpose's,
trained on the cells drawn by hand. What a killed run has done stays.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import time

import numpy as np
from absl import app, flags

import cellclass_tf as cc
import tfds_builders
from cellclass_tf.analysis import cell_table, metrics
from cellclass_tf.core import cells as nouns
from cellclass_tf.core.manifest import ImageRow
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.maskrcnn import export, training
from cellclass_tf.storage import csv_json, png
from experiments.benchmarks.fields import drawn_by_hand

_FOLDER = flags.DEFINE_string("folder", None, "Where files are made.", required=True)
_IMAGES = flags.DEFINE_string("images", None, "Fields by hand.", required=True)
_WEIGHTS = flags.DEFINE_string("weights", None, "Of cellpose; None to do without.")
_FOLDS = flags.DEFINE_list("folds", ["0", "1", "2"], "Which fields are held out.")
_STEPS = flags.DEFINE_integer("steps", None, "Training steps; else the experiment's.")
_SEEDS = flags.DEFINE_list(
    "seeds", ["0"], "Of the trainings, whose networks name together."
)
_EXPERIMENT = flags.DEFINE_string("experiment", "cellclass_maskrcnn_small", "")
_OVERRIDE = flags.DEFINE_string("override", "", "Of the experiment's parameters.")
_INIT = flags.DEFINE_string("init", None, "Starting weights; else the experiment's.")
_NAME = flags.DEFINE_string("name", "run", "Of this run, beside others in the folder.")
_SCORES = ("AP", "AP50", "AP75", "type_accuracy", "training_s", "prediction_s")
# Columns of cells.csv that say where a cell lies, or what it was called.
_NOT_MEASURED = ("image", "cell", "call", "probability", "score", "group", "on_border")


def make_studies(root: pathlib.Path, fold: int) -> tuple[cc.Study, cc.Study]:
    """Makes the study to train on and the one to test on."""
    fields = list(drawn_by_hand(pathlib.Path(_IMAGES.value)))
    types = sorted({name.split("/")[0] for name, *_ in fields})
    if (root / "test").exists():
        return cc.Study.open(root / "train"), cc.Study.open(root / "test")
    shutil.rmtree(root, ignore_errors=True)
    studies = [cc.Study.create(root / part, types) for part in ("train", "test")]
    seen: dict[str, int] = {}
    for name, image, true in fields:
        cell_type = name.split("/")[0]
        place = seen[cell_type] = seen.get(cell_type, -1) + 1
        study = studies[place == fold]
        split = "test" if place == fold else "train"
        row = ImageRow(f"{name}.png", cell_type, group=name, split=split)
        png.write_png(study.image_path(row), image)
        nouns.Cells.from_labels(true, types, cell_type).write(study.cells_path(row))
        study.update([row])
    return tuple(studies)


def run_fold(root: pathlib.Path, fold: int) -> dict[str, dict]:
    """Trains without a field of each type; returns the scores on those by method."""
    train, test = make_studies(root / f"studies_{fold}", fold)
    place = root / f"{_NAME.value}_{fold}"
    tfds_builders.dataset(train, allow_no_validation=True)
    start, runs = time.monotonic(), []
    for seed in map(int, _SEEDS.value):
        runs.append(place / f"training_{seed}")
        training.train(
            _EXPERIMENT.value,
            runs[-1],
            study=train.root,
            mode="train",
            steps=_STEPS.value,
            init=_INIT.value,
            seed=seed,
            params_override=_OVERRIDE.value or None,
        )
    seconds = time.monotonic() - start
    export.export(_EXPERIMENT.value, runs, place / "model")
    results = {"network": predicted(place, test, "network", seconds)}
    if _WEIGHTS.value:
        results["cellpose, network"] = predicted(place, test, "cellpose", seconds)
        results["cellpose, forest"] = forest(place, train, test)
    csv_json.write_json(place / "scores.json", results)
    return results


def predicted(place: pathlib.Path, test: cc.Study, outlines: str, seconds: float):
    """Scores the held-out fields, in outlines of one kind."""
    out = place / outlines
    shutil.rmtree(out, ignore_errors=True)
    start = time.monotonic()
    cc.predict(
        place / "model",
        test.root,
        out,
        outlines=outlines,
        weights=_WEIGHTS.value or "cyto3",
        # All that is found, since AP weighs it by its score.
        score_threshold=0.1 if outlines == "network" else None,
    )
    spent = time.monotonic() - start
    return kept(cc.evaluate(out, test), seconds, spent)


def forest(place: pathlib.Path, train: cc.Study, test: cc.Study) -> dict:
    """Scores a random forest on what can be measured of cellpose's cells."""
    from sklearn import ensemble

    known, types, start = [], [], time.monotonic()
    for row in train.rows():
        cells = train.read_cells(row)
        known += measured(cells, train.read_image(row))
        types += cells.cell_types
    model = ensemble.RandomForestClassifier(500, random_state=0).fit(known, types)
    seconds, start = time.monotonic() - start, time.monotonic()
    found, scored = Predictions(place / "cellpose"), metrics.Metrics(test.cell_types)
    for row in test.rows():
        outlined = found.read(row.stem)
        called = model.predict(measured(outlined, test.read_image(row)))
        cells = nouns.Cells.from_labels(
            outlined.labels, test.cell_types, called.tolist()
        )
        true = test.read_cells(row).with_types(test.cell_types)
        scored.add(true, cells)
    return kept(scored.result(), seconds, time.monotonic() - start)


def measured(cells: nouns.Cells, image: np.ndarray) -> list[list[float]]:
    """The numbers of cells.csv for each cell, but its place and type; missing ones are -1."""
    rows = cell_table.cell_table(cells, image, name="")
    wanted = [
        name
        for name in cell_table.columns(())
        if name not in _NOT_MEASURED
        and not name.endswith(("_type", "_um", "_um2"))
        and not name.startswith(("centroid", "nearest", "neighbours"))
    ]
    return [
        [-1.0 if row[name] in ("", None) else float(row[name]) for name in wanted]
        for row in rows
    ]


def kept(result: dict, training_s: float, prediction_s: float) -> dict:
    """The scores that are told."""
    scores = {key: result[key] for key in _SCORES if key in result}
    return scores | {
        "training_s": round(training_s),
        "prediction_s": round(prediction_s, 1),
    }


def main(_) -> None:
    """Prints a row for each fold and method, and the means."""
    root, rows = pathlib.Path(_FOLDER.value), {}
    print("| outlines, types | fold |", " | ".join(_SCORES), "|")
    print("|---" * (len(_SCORES) + 2) + "|")
    for fold in map(int, _FOLDS.value):
        for method, scores in run_fold(root, fold).items():
            values = [scores[key] for key in _SCORES]
            rows.setdefault(method, []).append(values)
            print(_row(method, str(fold + 1), values), flush=True)
    for method, values in rows.items():
        print(_row(method, "mean", np.mean(values, axis=0)))
    print(json.dumps({"steps": _STEPS.value, "override": _OVERRIDE.value}))


def _row(method: str, fold: str, values) -> str:
    return f"| {method} | {fold} | " + " | ".join(f"{v:.3f}" for v in values) + " |"


if __name__ == "__main__":
    app.run(main)
