"""Fixtures for tests of COCO files."""

import dataclasses
import json

import numpy as np
import pytest

from cellclass_tf.annotation import cell_files
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.storage import csv_json, png


def blobs(rng, shape=(40, 48), count=9):
    """Returns labels of unusual cells: with holes, pinches, single pixels, at all borders."""
    labels = np.zeros(shape, np.int32)
    for label in range(1, count + 1):
        top, left = rng.integers(-4, shape[0] - 2), rng.integers(-4, shape[1] - 2)
        window = (slice(max(top, 0), top + 12), slice(max(left, 0), left + 12))
        part = labels[window]
        part[rng.random(part.shape) < rng.choice([0.3, 0.7, 1.0])] = label
    labels[0, 0], labels[-1, -1] = count + 1, count + 2
    return labels


@pytest.fixture
def make_study(tmp_path):
    """Makes a study of three pure fields and a mixed one, with unusual cells."""

    def make(name="study", fields=3, shape=(40, 48)):
        study = Study.create(tmp_path / name, ("HEK", "N2a"), pixel_size_um=0.5)
        rng = np.random.default_rng(1)
        for number in range(fields + 1):
            cell_type = ("HEK", "N2a")[number % 2] if number < fields else "mixed"
            stem = f"{cell_type}/field_{number}"
            row = ImageRow(f"{stem}.png", cell_type, group=f"dish {number}")
            image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
            image[..., 0] = 0
            png.write_png(study.image_path(row), image)
            types = study.folder_type(cell_type)
            cells = Cells.from_labels(blobs(rng, shape), study.cell_types, types)
            if types is None:
                names = [("HEK", "N2a", "unknown")[i % 3] for i in range(len(cells))]
                cells = Cells.from_labels(cells.labels, study.cell_types, names)
            made = cell_files.write_cells(
                study, row, cells, {}, types_csv=types is None
            )
            study.update([dataclasses.replace(row, annotator="import", **made)])
        return study

    return make


@pytest.fixture
def write_coco(tmp_path):
    """Writes a COCO file and its images, of 20 x 30 px, with one square cell each."""

    def write(images=2, folder="source", name="cells.json", **changes):
        content = {
            "images": [
                {"id": n, "file_name": f"image{n}.png", "height": 20, "width": 30}
                for n in range(1, images + 1)
            ],
            "annotations": [
                {
                    "id": 10 * n,
                    "image_id": n,
                    "category_id": 5,
                    "segmentation": [[4, 4, 9, 4, 9, 9, 4, 9]],
                    "area": 25,
                    "bbox": [4, 4, 5, 5],
                    "iscrowd": 0,
                }
                for n in range(1, images + 1)
            ],
            "categories": [
                {"id": 0, "name": "cells of Roboflow"},
                {"id": 5, "name": "HEK"},
            ],
        }
        content |= changes
        path = tmp_path / folder / name
        csv_json.write_json(path, content)
        for image in content["images"]:
            target = path.parent / str(image.get("file_name"))
            if target.parent == path.parent:
                pixels = np.full((20, 30, 3), 100, np.uint8)
                png.write_png(target, pixels)
        return path

    return write


@pytest.fixture
def change():
    """Changes one entry of a section of a COCO file."""

    def change_entry(path, section, index, **values):
        content = json.loads(path.read_text())
        content[section][index] |= values
        path.write_text(json.dumps(content))
        return path

    return change_entry
