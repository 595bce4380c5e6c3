"""Cells that were drawn one by one, and may overlap; draws them into one label image."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class DrawnCell:
    """A cell with a mask of its own, which may overlap other cells.

    Attributes:
      corner_yx: first row and first column of its box in the field.
      mask: (h, w) bool mask of the cell within its box, which lies inside the field.
    """

    corner_yx: tuple[int, int]
    mask: np.ndarray

    @classmethod
    def cut(cls, mask: np.ndarray) -> DrawnCell | None:
        """Crops an (H, W) bool mask to the cell in it; returns None if it is empty."""
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        if not rows.size:
            return None
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return cls((int(rows[0]), int(columns[0])), box.copy())


def labels_of_drawn(
    drawn: Sequence[DrawnCell], shape_yx: tuple[int, int]
) -> tuple[np.ndarray, int]:
    """Draws cells that may overlap into one label image.

    A pixel of several cells becomes part of the smallest of them; of two cells of the
    same size, it becomes part of the earlier one.

    Args:
      drawn: the N cells.
      shape_yx: height and width of the field.

    Returns:
      (H, W) int32 labels 1..N, without the labels of cells that lost every pixel; and the
      number of pixels that cells lost to others.
    """
    labels = np.zeros(shape_yx, np.int32)
    areas = [int(cell.mask.sum()) for cell in drawn]
    # The largest cell is drawn first, so that smaller ones stay on top.
    for index in sorted(range(len(drawn)), key=lambda i: (-areas[i], -i)):
        top, left = drawn[index].corner_yx
        mask = drawn[index].mask
        labels[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = index + 1
    return labels, sum(areas) - int(np.count_nonzero(labels))
