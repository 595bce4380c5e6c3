"""Measures whether fine-tuning on corrected fields helps, and with which hand weight.

    python -m experiments.benchmarks.finetuning --folder=/tmp/finetuning \
        --weights=WEIGHTS --images=FOLDER --hand_weights=1,3

The folder of images is described at `fields.drawn_by_hand`. Every training field is annotated by
cellpose and corrected as a person would do it: cells with an IoU below 0.5 with every hand-drawn
cell are removed, those with an IoU below --good_enough are redrawn, missing cells are added, and
the others keep cellpose's outline. Held-out fields have hand-drawn outlines; with --all_by_hand,
training fields have, too.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import time

import numpy as np
from absl import app, flags

import cellclass_tf as cc
from cellclass_tf.annotation import changes
from cellclass_tf.core import cells as nouns
from cellclass_tf.core.manifest import ImageRow
from cellclass_tf.labels import matching, sizes
from cellclass_tf.storage import png
from experiments.benchmarks.fields import drawn_by_hand

_FOLDER = flags.DEFINE_string("folder", None, "Working folder.", required=True)
_WEIGHTS = flags.DEFINE_string("weights", None, "Weights of cellpose 3.", required=True)
_IMAGES = flags.DEFINE_string(
    "images", None, "Folder of fields with hand-drawn masks.", required=True
)
_WEIGHTS_OF_HAND = flags.DEFINE_list(
    "hand_weights", ["1", "3"], "Hand weights to compare."
)
_EPOCHS = flags.DEFINE_integer("epochs", 60, "Number of epochs of each fine-tuning.")
_GOOD_ENOUGH = flags.DEFINE_float(
    "good_enough", 0.75, "IoU from which a cell is not redrawn."
)
_ALL_BY_HAND = flags.DEFINE_bool(
    "all_by_hand", False, "Train on hand-drawn outlines alone."
)


def make_study(root: pathlib.Path) -> cc.Study:
    """Makes the study of corrected fields: two per type for training, one held out."""
    fields = list(drawn_by_hand(pathlib.Path(_IMAGES.value)))
    types = sorted({name.split("/")[0] for name, *_ in fields})
    study = cc.Study.create(root, types)
    finder = cc.CellposeAnnotator(_WEIGHTS.value)
    seen: dict[str, int] = {}
    for name, image, true in fields:
        cell_type = name.split("/")[0]
        seen[cell_type] = seen.get(cell_type, 0) + 1
        held_out = seen[cell_type] == 3
        row = ImageRow(f"{name}.png", cell_type, group=name, corrected=True)
        row = dataclasses.replace(row, split="validation" if held_out else "train")
        png.write_png(study.image_path(row), image)
        labels = true
        if not held_out and not _ALL_BY_HAND.value:
            diameter = float(np.mean(sizes.diameters_of(sizes.areas_of(true))))
            labels, drawn = corrected(true, finder.annotate(image, diameter).labels)
            row = dataclasses.replace(row, by_hand=changes.text_of(drawn))
        cells = nouns.Cells.from_labels(labels, types, cell_type)
        cells.write(study.cells_path(row))
        study.update([row])
    return study


def corrected(true: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Returns labels as corrected by a person, and which of them the person drew."""
    matches = matching.match_cells(true, found, 0.5)
    good = matches.ious >= _GOOD_ENOUGH.value
    labels = np.zeros(true.shape, np.int32)
    for number, (_, label) in enumerate(matches.pairs[good].tolist(), start=1):
        labels[found == label] = number
    count = int(good.sum())
    for label in np.setdiff1d(np.arange(1, true.max() + 1), matches.pairs[good, 0]):
        count += 1
        labels[(true == label) & (labels == 0)] = count
    cells = nouns.Cells.from_labels(labels, ("cell",))
    return cells.labels, list(range(int(good.sum()) + 1, len(cells) + 1))


def main(_) -> None:
    """Prints a table with a row for each hand weight."""
    root = pathlib.Path(_FOLDER.value)
    shutil.rmtree(root / "study", ignore_errors=True)
    study = make_study(root / "study")
    drawn = [len(changes.labels_of(row.by_hand, 10_000)) for row in study.rows()]
    print(f"Hand-drawn cells in each field: {drawn}")
    print(
        "| hand weight | scores of base weights | scores of fine-tuned weights "
        "| gain at IoU 0.5, 95 % | score after each round | s |"
    )
    print("|---|---|---|---|---|---|")
    for weight in _WEIGHTS_OF_HAND.value:
        start = time.perf_counter()
        result = cc.finetune(
            study,
            root / f"tuned_{weight}",
            model=_WEIGHTS.value,
            epochs=_EPOCHS.value,
            hand_weight=float(weight),
        )
        seconds = time.perf_counter() - start
        scores = result.verdict.fields
        means = [
            np.mean([getattr(f, w) for f in scores], axis=0) for w in ("base", "tuned")
        ]
        shown = [" ".join(f"{x:.3f}" for x in mean) for mean in means]
        print(
            f"| {weight} | {shown[0]} | {shown[1]} | {result.verdict.gain:+.3f}, "
            f"{json.dumps(np.round(result.verdict.interval, 3).tolist())} | "
            f"{' '.join(f'{s:.3f}' for s in result.scores)} | {seconds:.0f} |",
            flush=True,
        )
        print(result.verdict.text, flush=True)


if __name__ == "__main__":
    app.run(main)
