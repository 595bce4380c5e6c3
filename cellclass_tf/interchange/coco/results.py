"""Writes predicted cells as COCO results, for evaluation with COCO's own tools."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cellclass_tf.core.cells import Cells
from cellclass_tf.interchange.coco.descriptions import (
    categories_of,
    image_of,
    result_of,
)
from cellclass_tf.interchange.coco.drafts import Draft
from cellclass_tf.storage import csv_json, digests, ledger

IMAGES_FILE, RESULTS_FILE, TRUTH_FILE = "images.json", "results.json", "truth.json"


class ResultField(NamedTuple):
    """A field with its predicted cells.

    Attributes:
      name: name of the field.
      cells: the predicted cells.
      true: the annotated cells, all of known type; None if the field has none.
    """

    name: str
    cells: Cells
    true: Cells | None = None


def write_results(
    folder: pathlib.Path,
    fields: Iterable[ResultField],
    names: Sequence[str],
    type_names: Sequence[str],
) -> int:
    """Writes results.json (a list), images.json (images and categories) and truth.json.

    `COCO('images.json').loadRes('results.json')` of pycocotools reads them. truth.json has the
    annotated cells, with the same ids, of the fields that have any. With it pycocotools
    calculates the AP of `evaluate`, since the results have the scores by which `evaluate`
    ranks cells. Fields are iterated one at a time, so that only one is in memory.

    The ids of the images follow from the names of all images and types, and are higher than
    those in other COCO files. So pycocotools refuses files of which the ids of images or
    categories differ, such as those that `export_coco` writes.

    Args:
      folder: output folder.
      fields: the fields to write, all of them in `names`.
      names: names of all fields of the run, in order.
      type_names: names of the categories from id 1 on, among them all types of the cells;
        'unknown' follows them.

    Returns:
      The number of images in truth.json.

    Raises:
      InputError: if one of the files was changed since it was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids = _ids_of_images(names, type_names)
    images, first = [], True
    categories = categories_of(type_names, has_unknown=True)
    for name in (IMAGES_FILE, TRUTH_FILE):
        ledger.check_own(folder, folder / name)
    with Draft.open(folder) as truth:
        with (
            ledger.replace(folder, folder / RESULTS_FILE) as temporary,
            open(temporary, "w", encoding="utf-8") as file,
        ):
            file.write("[")
            for name, cells, true in fields:
                image = {"id": ids[name]} | image_of(f"{name}.png", cells)
                images.append(image)
                if true is not None:
                    truth.add(image, true.with_types(type_names))
                cells = cells.with_types(type_names)
                for index in range(len(cells)):
                    record = {"image_id": image["id"], **result_of(cells, index)}
                    file.write(("" if first else ",\n") + json.dumps(record))
                    first = False
            file.write("]\n")
        head = {"info": {}, "categories": categories}
        truth.write(folder, folder / TRUTH_FILE, head)
    told = {"images": images, "categories": categories, "annotations": []}
    with ledger.replace(folder, folder / IMAGES_FILE) as temporary:
        csv_json.write_json(temporary, {"info": {}, **told})
    return truth.image_count


def _ids_of_images(names: Sequence[str], type_names: Sequence[str]) -> dict[str, int]:
    """Returns an id for each image, between 2**20 and 2**53, in the order of the names.

    All integers up to 2**53 are exact in JSON, also where numbers are floating point.
    """
    number = int(digests.fingerprint(list(names), list(type_names))[:8], 16)
    first = (number + 1) << 20
    return {name: first + index for index, name in enumerate(names)}
