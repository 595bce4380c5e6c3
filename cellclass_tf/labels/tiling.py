"""Overlapping tiles of a field; every point belongs to the core of one tile."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np


@dataclasses.dataclass(frozen=True)
class Tile:
    """A square part of a field.

    Attributes:
      corner_yx: first row and first column of the tile.
      core_yxyx: [top, left, bottom, right) of its core, in coordinates of the field. Cores
        do not overlap, and extend to infinity at the borders of the field.
    """

    corner_yx: tuple[int, int]
    core_yxyx: tuple[float, float, float, float]

    def owns(self, points_yx: np.ndarray) -> np.ndarray:
        """Returns (N,) bool: which of (N, 2) points of the field are in the core."""
        core = self.core_yxyx
        return ((points_yx >= core[:2]) & (points_yx < core[2:])).all(axis=1)


def tiles_of(shape_yx: tuple[int, int], size: int, margin: int) -> list[Tile]:
    """Covers a field with tiles of size x size px, row by row.

    Neighbours overlap by at least twice the margin. An object that is at most as large as
    the margin, and whose centre is in the core of a tile, is completely inside this tile.
    """
    rows, columns = (_starts(length, size, margin) for length in shape_yx)
    return [
        Tile((top, left), (core_top, core_left, core_bottom, core_right))
        for top, core_top, core_bottom in rows
        for left, core_left, core_right in columns
    ]


def margin_for(diameter_px: float, size: int) -> int:
    """Returns the margin of tiles of `size` px for cells of a median diameter."""
    return min(int(2 * diameter_px), size // 4)


def _starts(length: int, size: int, margin: int) -> list[tuple[int, float, float]]:
    """Returns start, and first and last position of the core, of the tiles along an axis."""
    step = size - 2 * margin
    starts = [0]
    while starts[-1] + size < length:
        starts.append(min(starts[-1] + step, length - size))
    # Cores meet in the middle of the overlap of neighbours.
    borders = [(a + size + b) / 2 for a, b in itertools.pairwise(starts)]
    edges = [-np.inf, *borders, np.inf]
    return list(zip(starts, edges[:-1], edges[1:], strict=True))
