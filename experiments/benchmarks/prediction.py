"""Measures the time of prediction, compared with other programs, and the memory it needs.

    python -m experiments.benchmarks.prediction --model=MODEL --weights=WEIGHTS \
        --stardist=FOLDER

MODEL was trained on simulated cultures and exported, WEIGHTS are cellpose's, and FOLDER is where
`accuracy` trained StarDist. One field of 1104 x 1104 px with some 60 cells is predicted, from its
pixels to `Cells` by our model, and to masks by cellpose's `eval` at the true diameter. Our model
also classifies the cells in given outlines. The methods take turns in one process; the first turn
of each is not counted. The peak memory is that of a new process that predicts a field of --size px,
which is made of copies of the first field. Finally, `cellclass predict` with all its files is
compared with the network alone, by the processor time of each additional field: for fields of a
study, and for image files, which are also converted.
"""

from __future__ import annotations

import json
import pathlib
import tempfile
import time

import numpy as np
from absl import app, flags

import cellclass_tf as cc
from cellclass_tf.labels import sizes
from experiments.benchmarks import processes

_MODEL = flags.DEFINE_string("model", None, "Exported model.", required=True)
_WEIGHTS = flags.DEFINE_string(
    "weights", "", "Weights of cellpose 3; '' to leave cellpose out."
)
_STARDIST = flags.DEFINE_string(
    "stardist",
    "",
    "Working folder of `accuracy` with a StarDist network; '' to leave StarDist out.",
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Number of counted turns per method.")
_SIZE = flags.DEFINE_integer("size", 10_000, "Width of the large field in px.")
_TASK = flags.DEFINE_bool(
    "task", False, "For internal use: predict the large field in this process."
)
_PIXEL_SIZE_UM = 0.325
# Numbers of fields of the two runs whose times are compared, and of cells per field.
_FEW, _MANY = 2, 10
_CELLS = 110


def field() -> tuple[np.ndarray, np.ndarray]:
    """Returns the image and the labels of the field."""
    from experiments.benchmarks.fields import merged_field

    return merged_field(
        "HEK", seed=1, cells=60, size_px=1104, pixel_size_um=_PIXEL_SIZE_UM
    )


def end_to_end(predictor: cc.Predictor) -> dict[str, dict[str, float]]:
    """Measures the processor time of an additional field, in s, of `predict` and the network.

    Returns:
      The measurements for fields of a study, and for image files, which are also converted.
    """
    from cellclass_tf.core.manifest import MIXED, ImageRow
    from cellclass_tf.storage import png
    from experiments.benchmarks.fields import merged_field

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        images = []
        for seed in range(_MANY):
            image, _ = merged_field("HEK", seed, cells=_CELLS, size_px=1104)
            images.append(image)
        parts = {"few": images[:_FEW], "many": images}
        for part, shown in parts.items():
            study = cc.Study.create(folder / f"study_{part}", predictor.type_names)
            for seed, image in enumerate(shown):
                row = ImageRow(f"{MIXED}/{seed}.png", MIXED, group=str(seed))
                png.write_png(study.image_path(row), image)
                study.update([row])
                png.write_png(folder / f"files_{part}" / f"{seed}.png", image)
        start = time.process_time()
        cells = [
            len(predictor.predict(image, pixel_size_um=_PIXEL_SIZE_UM))
            for image in images
        ]
        network = (time.process_time() - start) / _MANY
        found = {}
        for kind in ("study", "files"):
            seconds = {}
            for part in parts:
                start = time.process_time()
                cc.predict(
                    _MODEL.value,
                    folder / f"{kind}_{part}",
                    folder / f"predicted_{kind}_{part}",
                    pixel_size_um=_PIXEL_SIZE_UM,
                )
                seconds[part] = time.process_time() - start
            more = (seconds["many"] - seconds["few"]) / (_MANY - _FEW)
            found[kind] = {
                "cells per field": float(np.mean(cells)),
                "network and outlines": network,
                "`predict`": more,
                "ratio": more / network,
                "once per run": seconds["few"] - _FEW * more,
            }
    return found


def large() -> None:
    """Predicts a large field; prints its number of cells and the peak memory."""
    image, _ = field()
    repeats = -(-_SIZE.value // image.shape[0])
    whole = np.tile(image, (repeats, repeats, 1))[: _SIZE.value, : _SIZE.value]
    predictor = cc.Predictor.load(_MODEL.value)
    start = time.monotonic()
    cells = predictor.predict(np.ascontiguousarray(whole), pixel_size_um=_PIXEL_SIZE_UM)
    seconds = time.monotonic() - start
    print(json.dumps([len(cells), seconds, processes.peak_mb()]))


def main(_) -> None:
    """Prints three tables."""
    if _TASK.value:
        large()
        return
    image, labels = field()
    predictor = cc.Predictor.load(_MODEL.value)
    runs = {
        "ours": lambda: predictor.predict(image, pixel_size_um=_PIXEL_SIZE_UM),
        "ours, types of given outlines": lambda: predictor.name(
            image, labels, pixel_size_um=_PIXEL_SIZE_UM
        ),
    }
    if _WEIGHTS.value:
        from cellpose import models

        model = models.CellposeModel(gpu=False, pretrained_model=_WEIGHTS.value)
        diameter = float(np.median(sizes.diameters_of(sizes.areas_of(labels))))
        runs["cellpose `eval`"] = lambda: model.eval(
            image, channels=[2, 3], diameter=diameter, flow_threshold=0.4
        )
    if _STARDIST.value:
        from experiments.benchmarks import stardist_classes

        names = predictor.type_names
        small = stardist_classes.load(_STARDIST.value, names)
        whole = stardist_classes.load(_STARDIST.value, names, shrink=False)
        runs["StarDist, reduced as ours"] = lambda: small(image)
        runs["StarDist, at full size"] = lambda: whole(image)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_ROUNDS.value + 1):
        for name, run in runs.items():
            start = time.monotonic()
            run()
            seconds[name].append(time.monotonic() - start)
    medians = {name: float(np.median(times[1:])) for name, times in seconds.items()}
    print(f"One field with {labels.max()} cells:\n")
    print("| method | s | divided by ours |\n|---|---|---|")
    for name, value in medians.items():
        print(f"| {name} | {value:.2f} | {value / medians['ours']:.2f} |")
    print("\n| field | cells found | s | peak MB |\n|---|---|---|---|", flush=True)
    count, seconds_large, peak = processes.run_again(
        __spec__.name, task=True, model=_MODEL.value, size=_SIZE.value
    )
    print(
        f"| {_SIZE.value} x {_SIZE.value} px | {count} | {seconds_large:.0f} | {peak:.0f} |"
    )
    found = end_to_end(predictor)
    names = ("from", *found["study"])
    print(f"\n| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for kind, values in found.items():
        told = " | ".join(f"{value:.2f}" for value in values.values())
        print(f"| {kind} | {told} |")


if __name__ == "__main__":
    app.run(main)
