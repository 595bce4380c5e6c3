"""Encodes masks as COCO's compressed run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np


def encode_mask(
    mask: np.ndarray, corner_yx: tuple[int, int], shape_yx: tuple[int, int]
) -> dict[str, Any]:
    """Encodes a mask as COCO's run lengths, without an array of the field's size.

    Args:
      mask: (h, w) bool mask within its box.
      corner_yx: first row and column of the box.
      shape_yx: height and width of the field.

    Returns:
      size [height, width], and counts as text.
    """
    from pycocotools import mask as coco_mask

    height, width = (int(side) for side in shape_yx)
    padded = np.zeros((mask.shape[1], mask.shape[0] + 2), np.int8)
    padded[:, 1:-1] = mask.T
    column, row = np.nonzero(np.diff(padded, axis=1))
    # Positions down the columns where runs start and end, alternately.
    changes = (corner_yx[1] + column) * height + corner_yx[0] + row
    # A run to the bottom of a column and one from the top of the next are the same run.
    goes_on = np.flatnonzero(changes[1:] == changes[:-1])
    changes = np.delete(changes, np.concatenate((goes_on, goes_on + 1)))
    counts = np.diff(changes, prepend=0, append=height * width).tolist()
    if not counts[-1]:
        counts.pop()
    size = [height, width]
    runs = coco_mask.frPyObjects({"counts": counts, "size": size}, height, width)
    return {"size": size, "counts": runs["counts"].decode("ascii")}
