"""Measures accuracy on simulated mixed fields after training on pure ones.

    cellclass demo --output=/tmp/demo          # makes the study
    python -m experiments.benchmarks.accuracy --study=/tmp/demo/study --folder=/tmp/accuracy \
        --steps=600 --seeds=0,1,2 --stardist=-1

The training time includes reading the data and building the network. StarDist with classes
(Schmidt et al. 2018; `pip install stardist==0.9.2`, not a dependency of this package) can be
trained in the same run on the same fields, for as many seconds as the slowest of our networks,
with its own defaults and with flips, rotations and changes of brightness.
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
from cellclass_tf.core.study import MIXED
from cellclass_tf.labels.coco_ap import AveragePrecision
from cellclass_tf.labels.matching import match_cells
from experiments.benchmarks import stardist_classes

_STUDY = flags.DEFINE_string("study", None, "Study of the demo.", required=True)
_FOLDER = flags.DEFINE_string("folder", None, "Working folder.", required=True)
_STEPS = flags.DEFINE_integer("steps", 600, "Number of training steps.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Random seeds, one per run.")
_STARDIST = flags.DEFINE_float(
    "stardist",
    0,
    "Seconds to train StarDist; -1 for as long as the slowest of our networks; 0 for not at all.",
)
_OVERRIDE = flags.DEFINE_string(
    "override", "", "Overrides of the experiment's parameters."
)
_EXPERIMENT = "cellclass_maskrcnn_small"
_COLUMNS = {
    "AP": "AP",
    "AP50": "AP50",
    "AP75": "AP75",
    "type_accuracy": "type accuracy",
    "seconds": "training s",
}


def ours(seed: int) -> dict[str, float]:
    """Trains and tests one network of this package."""
    from cellclass_tf.maskrcnn import export, postprocessing, training

    folder = pathlib.Path(_FOLDER.value) / f"seed_{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    start = time.monotonic()
    training.train(
        _EXPERIMENT,
        folder / "training",
        study=_STUDY.value,
        mode="train",
        steps=_STEPS.value,
        seed=seed,
        params_override=_OVERRIDE.value or None,
    )
    seconds = time.monotonic() - start
    export.export(_EXPERIMENT, folder / "training", folder / "model")
    predictor = cc.Predictor.load(folder / "model")
    least = postprocessing.SCORE_THRESHOLD
    found = scores(lambda image: predictor.predict(image, score_threshold=least))
    return found | {"seconds": seconds}


def scores(predict: stardist_classes.Predict) -> dict[str, float]:
    """Scores a function from images to cells on the mixed fields."""
    study = cc.Study.open(_STUDY.value)
    typed, right, matched = AveragePrecision(len(study.cell_types)), 0, 0
    for row in study.rows():
        if row.cell_type != MIXED:
            continue
        true, found = study.read_cells(row), predict(study.read_image(row))
        typed.add(true, found, use_types=True)
        i, j = (match_cells(true.labels, found.labels).pairs - 1).T
        matched, right = (
            matched + len(i),
            right + (true.type_ids[i] == found.type_ids[j]).sum(),
        )
    means = {name: value or 0.0 for name, value in typed.scores().mean().items()}
    return means | {"type_accuracy": float(right / max(matched, 1))}


def main(_) -> None:
    """Prints a table with a row for each run."""
    tfds_builders.dataset(_STUDY.value)
    keys = tuple(_COLUMNS)
    heads = " | ".join(_COLUMNS.values())
    print(f"| run | {heads} |\n" + "|---" * (len(keys) + 1) + "|")
    rows = []
    for seed in map(int, _SEEDS.value):
        found = ours(seed)
        rows.append([found[key] for key in keys])
        print(
            f"| seed {seed} |",
            " | ".join(f"{v:.3f}" for v in rows[-1]),
            "|",
            flush=True,
        )
    if rows:
        summed = {"mean": np.mean(rows, axis=0), "spread": np.ptp(rows, axis=0)}
        for name, values in summed.items():
            print(
                f"| {name} |", " | ".join(f"{v:.3f}" for v in values), "|", flush=True
            )
    if _STARDIST.value:
        wanted = _STARDIST.value
        wanted = wanted if wanted > 0 else max(row[-1] for row in rows)
        predict, seconds = stardist_classes.train(_STUDY.value, _FOLDER.value, wanted)
        found = scores(predict) | {"seconds": seconds}
        print(
            "| StarDist with classes |",
            " | ".join(f"{found[key]:.3f}" for key in keys),
            "|",
        )
    if _STARDIST.value and rows:
        print(
            json.dumps({"AP divided by StarDist's": np.mean(rows, 0)[0] / found["AP"]})
        )


if __name__ == "__main__":
    app.run(main)
