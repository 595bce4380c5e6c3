"""Compares training with and without half of a real HEK field, tested on the other half.

    python -m experiments.benchmarks.real_hek --folder=/tmp/real_hek --study=STUDY \
        --training=TRAINING --hek=HEK.png --hek_labels=LABELS.png --weights=WEIGHTS

STUDY and TRAINING are those of a demo, WEIGHTS are cellpose's. HEK.png is a merged field of 844
px, and LABELS.png has its reference cells. Each half of the field in turn is annotated by
cellpose, not corrected, and added to the simulated fields (in --copies rows, so that it is sampled
often enough). Training continues from TRAINING. The other half is predicted and compared with the
reference. It is also predicted by the network of simulated cultures alone and by cellpose. A cell
that is cut in two counts in both halves.
"""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Sequence

import numpy as np
from absl import app, flags

import cellclass_tf as cc
import tfds_builders
from cellclass_tf.annotation.annotators.cellpose import CellposeAnnotator
from cellclass_tf.core.manifest import ImageRow
from cellclass_tf.labels.matching import match_cells
from cellclass_tf.maskrcnn import export, training
from cellclass_tf.storage import png
from experiments.benchmarks.fields import REAL_HEK_PIXEL_SIZE_UM, contiguous

_FOLDER = flags.DEFINE_string("folder", None, "Working folder.", required=True)
_STUDY = flags.DEFINE_string("study", None, "Study of a demo.", required=True)
_TRAINING = flags.DEFINE_string(
    "training", None, "Training run of a demo.", required=True
)
_HEK = flags.DEFINE_string("hek", None, "Merged image of a real field.", required=True)
_LABELS = flags.DEFINE_string(
    "hek_labels", None, "Label image of its reference cells.", required=True
)
_WEIGHTS = flags.DEFINE_string("weights", None, "Weights of cellpose 3.", required=True)
_STEPS = flags.DEFINE_integer(
    "steps", 300, "Number of training steps after those on simulated cultures."
)
_COPIES = flags.DEFINE_integer("copies", 12, "Number of rows of the added half.")
_EXPERIMENT = "cellclass_maskrcnn_small"


def joined_study(root: pathlib.Path, image: np.ndarray, labels: np.ndarray) -> cc.Study:
    """Copies the simulated study and adds half of the field as HEK."""
    skipped = shutil.ignore_patterns("tfds", "raw", "truth")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(_STUDY.value, root, ignore=skipped)
    study = cc.Study.open(root)
    cells = cc.Cells.from_labels(labels, study.cell_types, "HEK")
    for number in range(_COPIES.value):
        row = ImageRow(
            f"HEK/real_{number:02d}.png",
            "HEK",
            group="real",
            split="train",
            pixel_size_um=REAL_HEK_PIXEL_SIZE_UM,
        )
        png.write_png(study.image_path(row), image)
        cells.write(study.cells_path(row))
        study.update([row])
    return study


def trained(place: pathlib.Path, study: cc.Study) -> cc.Predictor:
    """Continues the training of the simulated cultures on the joined study."""
    tfds_builders.dataset(study)
    training.train(
        _EXPERIMENT,
        place / "training",
        study=study.root,
        mode="train",
        steps=_STEPS.value,
        init=_TRAINING.value,
        params_override="trainer.optimizer_config.learning_rate.cosine."
        "initial_learning_rate=0.003",
    )
    export.export(_EXPERIMENT, place / "training", place / "model")
    return cc.Predictor.load(place / "model")


def row(
    tested: str,
    trained_on: str,
    true: np.ndarray,
    found: np.ndarray,
    types: Sequence[str] = (),
) -> str:
    """Returns a row of the table; `types` are those of the found cells."""
    pairs = len(match_cells(true, found).pairs)
    cells, count = int(found.max()), int(true.max())
    score = pairs / (count + cells - pairs)
    others = str(sum(name != "HEK" for name in types)) if types else ""
    return (
        f"| {tested} | {trained_on} | {cells} of {count} | {pairs} | {score:.3f} | "
        f"{others} |"
    )


def main(_) -> None:
    """Prints a table with a row for each half and each method."""
    folder = pathlib.Path(_FOLDER.value)
    image = png.read_png(_HEK.value)
    reference = png.read_png(_LABELS.value)
    middle = image.shape[1] // 2
    halves = (np.s_[:, :middle], np.s_[:, middle:])
    annotator = CellposeAnnotator(_WEIGHTS.value)
    export.export(_EXPERIMENT, _TRAINING.value, folder / "simulated")
    simulated = cc.Predictor.load(folder / "simulated")
    print(
        "| tested on | trained on | cells found, of true cells | matched "
        "| TP / (TP + FP + FN) at IoU 0.5 | called N2a |"
    )
    print("|---" * 6 + "|")
    names = ("left half", "right half")
    for number, (seen, unseen) in enumerate([halves, halves[::-1]], start=1):
        tested_on, seen_name = names[number % 2], names[number - 1]
        tested = np.ascontiguousarray(image[unseen])
        true = contiguous(np.ascontiguousarray(reference[unseen]))
        taught = np.ascontiguousarray(image[seen])
        place = folder / f"half_{number}"
        study = joined_study(place / "study", taught, annotator.annotate(taught).labels)
        joined = trained(place, study)
        ways = {
            "simulated cultures alone": simulated,
            f"simulated cultures and the {seen_name}": joined,
        }
        for name, predictor in ways.items():
            cells = predictor.predict(tested, pixel_size_um=REAL_HEK_PIXEL_SIZE_UM)
            picture = place / f"{name.replace(' ', '_')}.png"
            png.write_png(picture, cc.draw_overlay(tested, cells))
            line = row(tested_on, name, true, cells.labels, cells.cell_types)
            print(line, flush=True)
        found = annotator.annotate(tested).labels
        print(row(tested_on, "cellpose, with its own weights", true, found), flush=True)


if __name__ == "__main__":
    app.run(main)
