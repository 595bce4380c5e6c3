"""Writes predicted cells as COCO results, for evaluation with COCO's own tools."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Sequence

from cellclass_tf.core.cells import Cells
from cellclass_tf.interchange.coco.descriptions import (
    categories_of,
    image_of,
    result_of,
)
from cellclass_tf.storage import csv_json, ledger

IMAGES_FILE, RESULTS_FILE = "images.json", "results.json"


def write_results(
    folder: pathlib.Path,
    fields: Iterable[tuple[str, Cells]],
    type_names: Sequence[str],
) -> None:
    """Writes results.json (a list) and images.json (images and categories).

    `COCO('images.json').loadRes('results.json')` of pycocotools reads them. Fields are
    iterated one at a time, so that only one is in memory.

    Args:
      folder: output folder.
      fields: (name, cells) of each field; their ids are 1, 2, … in this order.
      type_names: names of the categories from id 1 on; 'unknown' follows them.

    Raises:
      InputError: if one of the files was changed since it was written.
    """
    images, first = [], True
    ledger.check_own(folder, folder / IMAGES_FILE)
    with (
        ledger.replace(folder, folder / RESULTS_FILE) as temporary,
        open(temporary, "w", encoding="utf-8") as file,
    ):
        file.write("[")
        for image_id, (name, cells) in enumerate(fields, start=1):
            images.append({"id": image_id} | image_of(f"{name}.png", cells))
            for index in range(len(cells)):
                record = {"image_id": image_id, **result_of(cells, index)}
                file.write(("" if first else ",\n") + json.dumps(record))
                first = False
        file.write("]\n")
    categories = categories_of(type_names, has_unknown=True)
    told = {"images": images, "categories": categories, "annotations": []}
    with ledger.replace(folder, folder / IMAGES_FILE) as temporary:
        csv_json.write_json(temporary, {"info": {}, **told})
