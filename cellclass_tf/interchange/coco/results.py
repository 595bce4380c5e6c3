"""Predicted cells as COCO's results, for whoever scores with COCO's own tools."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from cellclass_tf.core.cells import UNKNOWN, Cells
from cellclass_tf.labels.rle import encode_mask
from cellclass_tf.storage import atomic, csv_json

IMAGES_FILE, RESULTS_FILE = "images.json", "results.json"


def write_results(
    folder: pathlib.Path,
    fields: Iterable[tuple[str, Cells]],
    type_names: Sequence[str],
) -> None:
    """Writes results.json (a list) and images.json (images and categories).

    `COCO('images.json').loadRes('results.json')` of pycocotools reads them. Fields are
    taken one at a time.

    Args:
      folder: where to.
      fields: (name, cells), in the order of their ids from 1 on.
      type_names: categories from 1 on; 'unknown' comes after them.
    """
    images, first = [], True
    folder.mkdir(parents=True, exist_ok=True)
    with (
        atomic.atomic_path(folder / RESULTS_FILE) as temporary,
        open(temporary, "w", encoding="utf-8") as file,
    ):
        file.write("[")
        for image_id, (name, cells) in enumerate(fields, start=1):
            height, width = cells.labels.shape
            told = {"id": image_id, "file_name": f"{name}.png"}
            images.append(told | {"height": height, "width": width})
            for index in range(len(cells)):
                record = {"image_id": image_id, **_result(cells, index)}
                file.write(("" if first else ",\n") + json.dumps(record))
                first = False
        file.write("]\n")
    categories = [
        {"id": number, "name": name, "supercategory": "cell"}
        for number, name in enumerate([*type_names, UNKNOWN], start=1)
    ]
    told = {"images": images, "categories": categories, "annotations": []}
    csv_json.write_json(folder / IMAGES_FILE, {"info": {}, **told})


def _result(cells: Cells, index: int) -> dict[str, Any]:
    top, left, bottom, right = cells.boxes_yxyx[index].tolist()
    runs = encode_mask(cells.mask(index), (top, left), cells.labels.shape)
    return {
        "category_id": int(cells.type_ids[index]) or len(cells.type_names) + 1,
        "segmentation": runs,
        "bbox": [left, top, right - left, bottom - top],
        "score": float(cells.scores[index]),
    }
