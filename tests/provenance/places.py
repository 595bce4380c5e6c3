"""Makes a small study with predictions, for tests of provenance."""

import dataclasses
import json

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.run_record import PredictedImage, RunRecord
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.storage import csv_json, digests, png
from tests.metadata import model_metadata

STEM = "mixed/d2_a"
# Cell 1 has 2 px, cell 2 has 6 px with its middle at y 2, x 3.5.
LABELS = np.array(
    [[1, 1, 0, 0, 0], [0, 0, 0, 2, 2], [0, 0, 0, 2, 2], [0, 0, 0, 2, 2]], np.int32
)
TABLE = """image,cell,cell_type,probability,p_HEK,p_N2a,score,centroid_y_px,centroid_x_px,area_px
mixed/d2_a,1,HEK,0.8,0.8,0.2,0.9,0,0.5,2
mixed/d2_a,2,N2a,0.9,0.1,0.9,0.7,2,3.5,6
mixed/other,1,HEK,0.8,0.8,0.2,0.9,0,0,1
"""


def make_study(root, raw, stems=(STEM,)):
    """Makes a study whose images all come from the raw files `raw`."""
    study = Study.create(root)
    rows = []
    for number, stem in enumerate(stems):
        row = ImageRow(
            image=f"{stem}.png",
            cell_type=stem.split("/")[0],
            raw_file="|".join(map(str, raw)),
            raw_sha256="|".join(map(digests.sha256_of_path, raw)),
            raw_reader="tifffile 2024.1",
            scene=1,
            scene_name="A01",
            z="max",
            nuclei_channel="DAPI",
            cytoplasm_channel="GFP",
            channels_by="name",
            contrast_group="d2",
            contrast="group",
            nuclei_limits="90-4000",
            cytoplasm_limits="100-3000",
            pixel_size_um=0.325,
            verdict="accepted",
        )
        png.write_png(study.image_path(row), np.full((4, 5, 3), number, np.uint8))
        digest = digests.sha256_of_file(study.image_path(row))
        rows.append(dataclasses.replace(row, image_sha256=digest))
    study.update(rows)
    return study


def make_model(root):
    root.mkdir()
    model_metadata().write(root / "cellclass.json")
    (root / "saved_model.pb").write_bytes(b"network")
    return root


def make_predictions(root, study, model, source, prefix=""):
    """Writes predictions as `predict` does, of the image of the first row alone."""
    row = study.rows()[0]
    labels = root / "labels" / f"{row.stem.removeprefix(prefix)}.tif"
    Cells.from_labels(LABELS, study.cell_types, "HEK").write(labels)
    png.write_png(
        root / "overlays" / f"{row.stem.removeprefix(prefix)}.png",
        np.zeros((4, 5, 3), np.uint8),
    )
    (root / "cells.csv").write_text(
        TABLE.replace(f"{STEM},", STEM[len(prefix) :] + ",")
    )
    entry = PredictedImage(
        stem=row.stem.removeprefix(prefix),
        image=row.image,
        sha256=row.image_sha256,
        labels_sha256=digests.sha256_of_file(labels),
        raw_file=row.raw_file,
        raw_sha256=row.raw_sha256,
    )
    record = RunRecord(
        model=str(model),
        model_sha256=digests.sha256_of_tree(model),
        model_metadata=model_metadata(),
        settings={"input": str(source), "score_threshold": 0.1, "nuclei": None},
        study=str(study.root),
        versions={"cellclass_tf": "0.1.0"},
        finished="2024-05-06T07:08:09+00:00",
        images=(entry,),
    )
    record.write(root / "run.json")
    return root


def labels_of(place):
    return place / "predictions" / "labels" / f"{STEM}.tif"


def states(found):
    return {link.name: link.state for link in found.links}


def broken(found):
    return {link.name: link.state for link in found.links if link.is_broken}


def change_row(study, **values):
    (row,) = study.rows()
    study.update([dataclasses.replace(row, **values)])


def change_record(place, **values):
    path = place / "predictions" / "run.json"
    content = json.loads(path.read_text()) | values
    csv_json.write_json(path, {k: v for k, v in content.items() if v is not None})


def entry_of(place):
    return json.loads((place / "predictions" / "run.json").read_text())["images"][0]
