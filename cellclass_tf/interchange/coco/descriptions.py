"""Builds the entries of COCO files for images, cells and types.

https://cocodataset.org/#format-data
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cellclass_tf.core.cells import UNKNOWN, Cells
from cellclass_tf.interchange.coco.segmentations import polygons_of
from cellclass_tf.labels.rle import encode_mask

SEGMENTATIONS = ("rle", "polygons")


def categories_of(
    type_names: Sequence[str], *, has_unknown: bool
) -> list[dict[str, Any]]:
    """Returns the categories: types from 1 on in class order, then `unknown` if needed."""
    names = (*type_names, UNKNOWN) if has_unknown else type_names
    return [
        {"id": number, "name": name, "supercategory": "cell"}
        for number, name in enumerate(names, start=1)
    ]


def image_of(name: str, cells: Cells) -> dict[str, Any]:
    """Returns the entry of a field's image, still without `id`."""
    height, width = cells.labels.shape
    return {"file_name": name, "height": height, "width": width}


def result_of(cells: Cells, index: int, *, segmentation: str = "rle") -> dict[str, Any]:
    """Returns the entry of cell `index` + 1 as a detection, still without `image_id`.

    Args:
      cells: the cells of a field.
      index: index of the cell, from 0 on.
      segmentation: 'rle' or 'polygons'; cells with holes, which polygons cannot express,
        are run lengths in both cases.

    Returns:
      category_id (1..K, or K + 1 for an unknown type), segmentation, bbox [x, y, width,
      height] in pixels, detection_score, and score, by which `evaluate` ranks cells: the
      detection score multiplied by the probability of the type, if it is known.
    """
    top, left, bottom, right = cells.boxes_yxyx[index].tolist()
    height, width = cells.labels.shape
    score = float(cells.scores[index])
    probability = (
        float(cells.called_probabilities[index]) if cells.type_ids[index] else 1
    )
    mask, polygons = cells.mask(index), None
    if segmentation == "polygons":
        polygons = polygons_of(mask, (top, left))
    return {
        "category_id": int(cells.type_ids[index]) or len(cells.type_names) + 1,
        "segmentation": polygons or encode_mask(mask, (top, left), (height, width)),
        "bbox": [left, top, right - left, bottom - top],
        "score": score * probability,
        "detection_score": score,
    }


def annotation_of(
    cells: Cells, index: int, *, segmentation: str = "rle"
) -> dict[str, Any]:
    """Returns the entry of cell `index` + 1 as ground truth, without `id` and `image_id`.

    Args:
      cells: the cells of a field.
      index: index of the cell, from 0 on.
      segmentation: see `result_of`.

    Returns:
      The values of `result_of` without the scores, and the area in pixels, iscrowd 0, and
      the number of the cell in its label image as `cell`.
    """
    record = result_of(cells, index, segmentation=segmentation)
    del record["score"], record["detection_score"]
    area = int(np.count_nonzero(cells.mask(index)))
    number = int(cells.numbers[index])
    return record | {"area": area, "iscrowd": 0, "cell": number}
