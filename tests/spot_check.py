"""Makes predictions to draw a spot check from, and labels them as people do."""

import numpy as np

from cellclass_tf.analysis import cell_table, table_files
from cellclass_tf.analysis.spot_check import labels
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.run_record import PredictedImage, RunRecord
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.storage import csv_json, png
from tests.metadata import model_metadata
from tests.predictions import write_predictions

TYPES = ("HEK", "N2a")
SIZE = (100, 120)


def checked_predictions(folder, fields=3, cells=20):
    """Makes predictions of fields of square cells, and their images."""
    study = Study.create(folder / "study", TYPES)
    found, images = {}, {}
    for number in range(fields):
        stem = f"mixed/{number}"
        labels_of = np.zeros(SIZE, np.int32)
        for cell in range(cells):
            top, left = 4 + 20 * (cell // 5), 4 + 22 * (cell % 5)
            labels_of[top : top + 12, left : left + 12] = cell + 1
        ids = np.random.default_rng(number).integers(1, 3, cells).astype(np.int32)
        sure = np.eye(2, dtype=np.float32)[ids - 1]
        found[stem] = Cells(labels_of, TYPES, ids, np.ones(cells, np.float32), sure)
        image = np.zeros((*SIZE, 3), np.uint8)
        image[..., 1] = 20 + 100 * (labels_of > 0)
        image[..., 2] = 10 + 5 * number
        row = ImageRow(f"{stem}.png", "mixed")
        study.update([row])
        png.write_png(study.image_path(row), image)
        images[stem] = image
    predictions = write_predictions(folder / "predictions", found, images)
    RunRecord(
        study=str(study.root),
        model_metadata=model_metadata([[[40, 2], [3, 35]]] * 4),
        images=tuple(PredictedImage(stem, f"{stem}.png") for stem in found),
    ).write(predictions / "run.json")
    return predictions


def mark_repeated(folder, repeated):
    """Marks {stem: numbers} of cells as cells that count in another field, as `predict` does."""
    columns = cell_table.columns(TYPES)
    rows = csv_json.read_csv(folder / "cells.csv")
    cells = [{name: row[name] for name in columns} for row in rows]
    csv_json.write_csv(folder / "part.csv", columns, cells)
    parts = [folder / "part.csv"]
    table_files.join_csv(folder / "cells.csv", parts, {}, repeated)
    counts = []
    for old in csv_json.read_csv(folder / "counts.csv"):
        own = [cell for cell in cells if cell["image"] == old["image"]]
        types = [cell["cell_type"] for cell in own]
        row = old | {"area_px": int(old["area_px"]), "cells": len(own), "repeated": 0}
        row |= {f"n_{name}": types.count(name) for name in TYPES}
        row |= {"unknown": 0, "uncertain": 0}
        numbers = repeated.get(old["image"], ())
        elsewhere = [cell for cell in own if int(cell["cell"]) in numbers]
        counts.append(cell_table.without_repeated(row, elsewhere, TYPES, 1.0))
    table_files.write_counts_csv(folder / "counts.csv", counts, TYPES)


def rows_of(drawn, name="Ana", *, windows=None, label=lambda call: call):
    """Returns rows of the table in which a person labels the first windows."""
    rows = []
    for number, window in enumerate(drawn.windows[:windows], start=1):
        shared = {"spotcheck": drawn.key, "window": number, "labeller": name}
        for cell, call in window.cells.items():
            rows.append(shared | {"kind": "cell", "cell": cell, "label": label(call)})
        rows.append(shared | {"kind": "done"})
    return rows


def write_table(path, rows):
    """Writes rows as the page does; returns the path."""
    csv_json.write_csv(path, labels.COLUMNS, rows)
    return path
