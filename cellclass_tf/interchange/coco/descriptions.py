"""What COCO files say of images, cells and types: built here, whoever writes them.

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
    """Describes the types, numbered in class order from 1 on, and `unknown` after them."""
    names = (*type_names, UNKNOWN) if has_unknown else type_names
    return [
        {"id": number, "name": name, "supercategory": "cell"}
        for number, name in enumerate(names, start=1)
    ]


def image_of(name: str, cells: Cells) -> dict[str, Any]:
    """Describes the image of a field; what remains is `id`."""
    height, width = cells.labels.shape
    return {"file_name": name, "height": height, "width": width}


def result_of(cells: Cells, index: int, *, segmentation: str = "rle") -> dict[str, Any]:
    """Describes cell `index` + 1 as what detected it would; what remains is `image_id`.

    Args:
      cells: the cells of a field.
      index: from 0 on.
      segmentation: 'rle' or 'polygons'; of a cell with holes, which polygons cannot say,
        it is run lengths all the same.

    Returns:
      category_id (1..K, or K + 1 for an unknown type), segmentation, bbox [x, y, width,
      height] in pixels, and score.
    """
    top, left, bottom, right = cells.boxes_yxyx[index].tolist()
    height, width = cells.labels.shape
    mask, polygons = cells.mask(index), None
    if segmentation == "polygons":
        polygons = polygons_of(mask, (top, left))
    return {
        "category_id": int(cells.type_ids[index]) or len(cells.type_names) + 1,
        "segmentation": polygons or encode_mask(mask, (top, left), (height, width)),
        "bbox": [left, top, right - left, bottom - top],
        "score": float(cells.scores[index]),
    }


def annotation_of(
    cells: Cells, index: int, *, segmentation: str = "rle"
) -> dict[str, Any]:
    """Describes cell `index` + 1 as true; what remains is `id` and `image_id`.

    Args:
      cells: the cells of a field.
      index: from 0 on.
      segmentation: see `result_of`.

    Returns:
      What `result_of` does but for the score, and area in pixels, iscrowd 0, and the
      number of the `cell`.
    """
    record = result_of(cells, index, segmentation=segmentation)
    del record["score"]
    area = int(np.count_nonzero(cells.mask(index)))
    return record | {"area": area, "iscrowd": 0, "cell": index + 1}
