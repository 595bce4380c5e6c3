"""A real co-culture: train on the pure dishes, name the cells of the mixed one.

    python -m experiments.benchmarks.coculture --folder=/tmp/coculture --images=FOLDER \
        --weights=WEIGHTS --contrast=field

IMAGES has pure/TYPE/NAME.ome.tif (channels DAPI and Phase) with NAME_cells.tif, cells drawn by
hand, and mixed/NAME.ome.tif with NAME_nuclei.tif, a label image of nuclei, and NAME_nuclei.csv,
their types (columns nucleus and cell_type). A nucleus is called as the cell that covers most of
it. Nothing is trained, or chosen, by the types of the mixed field. Of several fields of a type
the one named in --held_out is for validation.
"""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import shutil

import numpy as np
from absl import app, flags

import cellclass_tf as cc
import tfds_builders
from cellclass_tf.core import cells as nouns
from cellclass_tf.core.manifest import SPLIT
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.study import MIXED
from cellclass_tf.maskrcnn import export, training
from cellclass_tf.storage import csv_json

_FOLDER = flags.DEFINE_string("folder", None, "Where files are made.", required=True)
_IMAGES = flags.DEFINE_string("images", None, "The dishes.", required=True)
_WEIGHTS = flags.DEFINE_string("weights", None, "Of cellpose; None to do without.")
_CONTRAST = flags.DEFINE_string("contrast", "field", "Of convert: group or field.")
_HELD_OUT = flags.DEFINE_list("held_out", ["3T3/set1", "MCF10A/crop500"], "TYPE/NAME.")
_LEFT_OUT = flags.DEFINE_list("left_out", ["3T3/crop500"], "A piece of another field.")
_STEPS = flags.DEFINE_integer("steps", None, "Training steps; else the experiment's.")
_OVERRIDE = flags.DEFINE_string("override", "", "Of the experiment's parameters.")
_NAME = flags.DEFINE_string("name", "run", "Of this run, beside others in the folder.")


def make_study(root: pathlib.Path, source: pathlib.Path) -> cc.Study:
    """Makes the study of pure and mixed dishes, the cells of the pure ones known."""
    if (root / "made").exists():
        return cc.Study.open(root)
    shutil.rmtree(root, ignore_errors=True)
    pure = sorted((source / "pure").glob("*/*.ome.tif"))
    study = cc.Study.create(root, sorted({path.parent.name for path in pure}))
    options = {"nuclei": "DAPI", "cytoplasm": "Phase", "contrast": _CONTRAST.value}
    for path in [*pure, *sorted((source / "mixed").glob("*.ome.tif"))]:
        cell_type, name = path.parent.name, path.name.removesuffix(".ome.tif")
        if f"{cell_type}/{name}" in _LEFT_OUT.value:
            continue
        cc.convert(path, study, cell_type=cell_type, **options)
        stems = {row.stem: row for row in study.rows()}
        labels = path.with_name(f"{name}_cells.tif")
        if labels.exists():
            types = nouns.Cells.from_labels(
                nouns.read_labels(labels), study.cell_types, cell_type
            )
            types.write(study.cells_path(stems[f"{cell_type}/{name}"]))
    (root / "made").touch()
    return study


def nuclei_of(source: pathlib.Path) -> tuple[np.ndarray, dict[int, str]]:
    """The nuclei of the mixed field, (H, W), and the type of each that is sure."""
    (labels,) = (source / "mixed").glob("*_nuclei.tif")
    with open(labels.with_suffix(".csv"), newline="") as file:
        known = {int(r["nucleus"]): r["cell_type"] for r in csv.DictReader(file)}
    return nouns.read_labels(labels), known


def scored(cells: nouns.Cells, nuclei: np.ndarray, known: dict[int, str]) -> dict:
    """How the nuclei are called, each as the cell that covers most of it."""
    right, called, true = [], [], []
    probabilities = []
    for number, cell_type in known.items():
        if cell_type not in cells.type_names:
            continue
        inside = cells.labels[nuclei == number]
        counts = np.bincount(inside[inside > 0], minlength=len(cells) + 1)
        if not counts.sum():
            continue
        index = int(counts.argmax()) - 1
        called.append(cells.cell_types[index])
        true.append(cell_type)
        right.append(called[-1] == cell_type)
        probabilities.append(cells.probabilities[index])
    first = np.array(probabilities)[:, 0]
    is_first = np.array(true) == cells.type_names[0]
    wins = first[is_first][:, np.newaxis] > first[~is_first]
    return {
        "nuclei": len(right),
        "accuracy": float(np.mean(right)),
        "AUC": float(wins.mean()),
        "share": float(np.mean([name == cells.type_names[1] for name in called])),
        "true_share": float(np.mean([name == cells.type_names[1] for name in true])),
        "share_of_cells": float(np.mean(cells.type_ids == 2)),
    }


def main(_) -> None:
    """Prints a row for each kind of outlines."""
    source, root = pathlib.Path(_IMAGES.value), pathlib.Path(_FOLDER.value)
    study = make_study(root / f"study_{_CONTRAST.value}", source)
    place = root / _NAME.value
    parted = [
        dataclasses.replace(
            row, split="validation" if row.stem in _HELD_OUT.value else "train"
        )
        for row in study.rows()
        if row.cell_type != MIXED
    ]
    study.update(parted, SPLIT)
    tfds_builders.dataset(study, allow_no_validation=True)
    training.train(
        "cellclass_maskrcnn_small",
        place / "training",
        study=study.root,
        steps=_STEPS.value,
        params_override=_OVERRIDE.value or None,
    )
    export.export("cellclass_maskrcnn_small", place / "training", place / "model")
    nuclei, known = nuclei_of(source)
    kinds = ["network", *(["cellpose"] if _WEIGHTS.value else [])]
    print("| outlines | nuclei | accuracy | AUC | share | true share | of all cells |")
    print("|---" * 7 + "|")
    for kind in kinds:
        out = place / kind
        shutil.rmtree(out, ignore_errors=True)
        outcome = cc.predict(
            place / "model",
            study.root,
            out,
            cell_type="mixed",
            outlines=kind,
            weights=_WEIGHTS.value or "cyto3",
        )
        (stem,) = Predictions(out).stems
        found = scored(Predictions(out).read(stem), nuclei, known)
        csv_json.write_json(place / f"{kind}.json", found)
        values = " | ".join(f"{value:.3f}" for value in found.values())
        print(f"| {kind} | {values} |", *outcome.notes, sep="\n", flush=True)


if __name__ == "__main__":
    app.run(main)
