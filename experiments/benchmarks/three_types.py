"""Three real cell types, masks drawn by hand: train on two fields a type, test on the third.

    python -m experiments.benchmarks.three_types --folder=/tmp/three_types --images=FOLDER \
        --steps=3000 --turns=0,1,2 --override='task.init_checkpoint=DIR'

IMAGES is a folder as `fields.drawn_by_hand` takes it. In turn i the i-th field of every
type is held out: the network never sees it, and nothing (steps, thresholds, the best
checkpoint) is chosen by it. What a killed run has done stays.
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
from cellclass_tf.core import cells as nouns
from cellclass_tf.core.manifest import ImageRow
from cellclass_tf.maskrcnn import export, postprocessing, training
from cellclass_tf.storage import csv_json, png
from experiments.benchmarks.fields import drawn_by_hand

_FOLDER = flags.DEFINE_string("folder", None, "Where files are made.", required=True)
_IMAGES = flags.DEFINE_string("images", None, "Fields by hand.", required=True)
_TURNS = flags.DEFINE_list("turns", ["0", "1", "2"], "Which field is held out.")
_STEPS = flags.DEFINE_integer("steps", 3000, "Training steps.")
_EXPERIMENT = flags.DEFINE_string("experiment", "cellclass_maskrcnn_small", "")
_OVERRIDE = flags.DEFINE_string("override", "", "Of the experiment's parameters.")
_NAME = flags.DEFINE_string("name", "run", "Of this run, beside others in the folder.")
_SCORES = ("AP", "AP50", "AP75", "type_accuracy", "average_precision_50")


def make_studies(root: pathlib.Path, turn: int) -> tuple[cc.Study, cc.Study]:
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
        study = studies[place == turn]
        split = "test" if place == turn else "train"
        row = ImageRow(f"{name}.png", cell_type, group=name, split=split)
        png.write_png(study.image_path(row), image)
        nouns.Cells.from_labels(true, types, cell_type).write(study.cells_path(row))
        study.update([row])
    return tuple(studies)


def run_turn(root: pathlib.Path, turn: int) -> dict:
    """Trains without a field of each type, and scores it on those."""
    train, test = make_studies(root / f"studies_{turn}", turn)
    place = root / f"{_NAME.value}_{turn}"
    tfds_builders.dataset(train, allow_no_validation=True)
    start = time.monotonic()
    training.train(
        _EXPERIMENT.value,
        place / "training",
        study=train.root,
        mode="train",
        steps=_STEPS.value,
        params_override=_OVERRIDE.value or None,
    )
    seconds = time.monotonic() - start
    export.export(_EXPERIMENT.value, place / "training", place / "model")
    shutil.rmtree(place / "predictions", ignore_errors=True)
    cc.predict(
        place / "model",
        test.root,
        place / "predictions",
        score_threshold=postprocessing.SCORE_THRESHOLD,
    )
    result = cc.evaluate(place / "predictions", test)
    kept = {key: result[key] for key in _SCORES} | {"train_s": round(seconds)}
    per_type = {name: scores["AP50"] for name, scores in result["per_type"].items()}
    csv_json.write_json(place / "scores.json", kept | {"AP50_per_type": per_type})
    return kept


def main(_) -> None:
    """Prints a row for each turn, and the mean."""
    root, rows = pathlib.Path(_FOLDER.value), []
    print("| held out |", " | ".join(_SCORES), "| training s |")
    print("|---" * (len(_SCORES) + 2) + "|")
    for turn in map(int, _TURNS.value):
        rows.append(list(run_turn(root, turn).values()))
        print(
            f"| field {turn + 1} | " + " | ".join(f"{v:.3f}" for v in rows[-1]) + " |"
        )
    print("| mean | " + " | ".join(f"{v:.3f}" for v in np.mean(rows, axis=0)) + " |")
    print(json.dumps({"steps": _STEPS.value, "override": _OVERRIDE.value}))


if __name__ == "__main__":
    app.run(main)
