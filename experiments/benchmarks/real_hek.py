"""A real HEK field: what simulated cultures alone teach, and what half of the field adds.

    python -m experiments.benchmarks.real_hek --folder=/tmp/real_hek --study=STUDY \
        --training=TRAINING --hek=HEK.png --hek_labels=LABELS.png --weights=WEIGHTS

STUDY and TRAINING are those of a demo, WEIGHTS are cellpose's. HEK.png is a merged field of
844 px, LABELS.png its reference cells. Each half of the field in turn is annotated by
cellpose, uncorrected, and joins the simulated fields (as COPIES rows, that it is seen often
enough); training goes on from TRAINING. The other half is predicted and compared with the
reference, as it is by the network of simulated cultures alone and by cellpose. A cell that
the cut parts counts in both halves.
"""

from __future__ import annotations

import pathlib
import shutil

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

_FOLDER = flags.DEFINE_string("folder", None, "Where files are made.", required=True)
_STUDY = flags.DEFINE_string("study", None, "Of a demo.", required=True)
_TRAINING = flags.DEFINE_string("training", None, "Of a demo.", required=True)
_HEK = flags.DEFINE_string("hek", None, "Merged image of a real field.", required=True)
_LABELS = flags.DEFINE_string("hek_labels", None, "Its cells.", required=True)
_WEIGHTS = flags.DEFINE_string("weights", None, "Of cellpose 3.", required=True)
_STEPS = flags.DEFINE_integer("steps", 300, "After the simulated cultures.")
_COPIES = flags.DEFINE_integer("copies", 12, "Rows of the half that joins.")
_EXPERIMENT = "cellclass_maskrcnn_small"


def joined_study(root: pathlib.Path, image: np.ndarray, labels: np.ndarray) -> cc.Study:
    """Copies the simulated study, and adds the half of the field as HEK."""
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
    """Goes on from the simulated cultures, on the joined study."""
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


def row(name: str, true: np.ndarray, found: np.ndarray, types=()) -> str:
    """A line of the table; `types` are the found cells'."""
    pairs = len(match_cells(true, found).pairs)
    cells = int(found.max())
    score = pairs / (int(true.max()) + cells - pairs)
    others = sum(name != "HEK" for name in types)
    called = f"{others}" if cells and len(types) else "-"
    return f"| {name} | {true.max()} | {cells} | {pairs} | {score:.3f} | {called} |"


def main(_) -> None:
    """Prints a row for each half and each way to find its cells."""
    folder = pathlib.Path(_FOLDER.value)
    image = png.read_png(_HEK.value)
    reference = png.read_png(_LABELS.value)
    middle = image.shape[1] // 2
    halves = (np.s_[:, :middle], np.s_[:, middle:])
    annotator = CellposeAnnotator(_WEIGHTS.value)
    export.export(_EXPERIMENT, _TRAINING.value, folder / "simulated")
    simulated = cc.Predictor.load(folder / "simulated")
    print("| | cells | found | right | TP / (TP + FP + FN) at IoU 0.5 | called N2a |")
    print("|---" * 6 + "|")
    for number, (seen, unseen) in enumerate([halves, halves[::-1]], start=1):
        tested = np.ascontiguousarray(image[unseen])
        true = contiguous(np.ascontiguousarray(reference[unseen]))
        taught = np.ascontiguousarray(image[seen])
        place = folder / f"half_{number}"
        study = joined_study(place / "study", taught, annotator.annotate(taught).labels)
        joined = trained(place, study)
        ways = {"simulated alone": simulated, "and the other half": joined}
        for name, predictor in ways.items():
            cells = predictor.predict(tested, pixel_size_um=REAL_HEK_PIXEL_SIZE_UM)
            picture = place / f"{name.replace(' ', '_')}.png"
            png.write_png(picture, cc.draw_overlay(tested, cells))
            print(row(name, true, cells.labels, cells.cell_types), flush=True)
        print(row("cellpose", true, annotator.annotate(tested).labels), flush=True)


if __name__ == "__main__":
    app.run(main)
