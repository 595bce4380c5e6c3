"""Finds the nucleus of every cell, at half of its own brightness."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import grey_levels, noise

_SMOOTH_PX = 1.0
_BRIGHT_PERCENTILE = 95
# Pieces smaller than this share of the largest are specks.
_SMALLEST_PIECE = 0.25


class Nucleus(NamedTuple):
    """The nucleus of a cell.

    Attributes:
      rows: (M,) int64 rows of its pixels; empty if the cell has no nucleus.
      columns: (M,) int64 columns of the same pixels.
      total_px: number of pixels of all nuclei of the cell; pieces smaller than a quarter
        of the largest are not counted.
    """

    rows: np.ndarray
    columns: np.ndarray
    total_px: int


def nuclei_of(channel: np.ndarray, cells: Cells) -> list[Nucleus]:
    """Finds the nucleus in every cell.

    The nucleus consists of the pixels of the cell that are brighter, after smoothing by a
    Gaussian of 1 px, than the middle between the background of the field and the cell's
    own bright part (its 95th percentile): the full width at half maximum. Of several
    pieces it is the largest one, with its holes filled.

    Args:
      channel: (H, W) uint8 brightness of the nuclei.
      cells: N cells.

    Returns:
      The nucleus of each cell.
    """
    import cv2

    channel = np.ascontiguousarray(channel)
    dark, sd = _background(channel, cells.labels), noise.noise_sd(channel)
    found = []
    reach = int(4 * _SMOOTH_PX)
    size = (2 * reach + 1, 2 * reach + 1)
    for index, box in enumerate(cells.boxes_yxyx.tolist()):
        top, left, bottom, right = box
        first = max(0, top - reach), max(0, left - reach)
        piece = channel[first[0] : bottom + reach, first[1] : right + reach]
        smooth = cv2.GaussianBlur(
            piece.astype(np.float32), size, _SMOOTH_PX, borderType=cv2.BORDER_REFLECT
        )
        window = smooth[top - first[0] :, left - first[1] :]
        window = window[: bottom - top, : right - left]
        mask = cells.mask(index)
        bright = _quantile(window[mask], _BRIGHT_PERCENTILE / 100)
        if noise.stands_out(bright - dark, sd):
            half = mask & (window > (dark + bright) / 2)
        else:
            half = np.zeros_like(mask)
        rows, columns, total = _pieces(half, mask)
        found.append(Nucleus(rows + top, columns + left, total))
    return found


def _pieces(bright: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Finds the largest piece of the bright pixels, with its holes filled.

    Returns:
      (M,) rows and (M,) columns of the largest piece in the cell, and the number of pixels
      of all pieces that are no specks.
    """
    import cv2

    count, pieces = cv2.connectedComponents(bright.view(np.uint8), connectivity=4)
    areas = np.bincount(pieces.ravel(), minlength=count)[1:]
    if not len(areas):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), 0
    # Of pieces of one size the first from the top is taken.
    best, total = int(areas.argmax()), 0
    for piece in np.flatnonzero(areas >= _SMALLEST_PIECE * areas.max()).tolist():
        filled = _filled(pieces == piece + 1) & mask
        total += np.count_nonzero(filled)
        if piece == best:
            rows, columns = np.nonzero(filled)
    return rows, columns, total


def _filled(piece: np.ndarray) -> np.ndarray:
    """Fills the holes of a piece."""
    import cv2

    outside = np.ones((piece.shape[0] + 2, piece.shape[1] + 2), np.uint8)
    outside[1:-1, 1:-1] = ~piece
    count, backgrounds = cv2.connectedComponents(outside, connectivity=4)
    if count <= 2:
        return piece
    # The background around the piece holds the corner.
    return (backgrounds != backgrounds[0, 0])[1:-1, 1:-1]


def _quantile(values: np.ndarray, share: float) -> float:
    """Returns `np.quantile`, without its overhead for small arrays."""
    ordered = np.sort(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (at - low) * (ordered[high] - ordered[low]))


def _background(channel: np.ndarray, labels: np.ndarray) -> float:
    """Returns the median grey level outside the cells, or the lowest one of the field."""
    levels = grey_levels.levels_outside(channel, labels)
    return (
        grey_levels.percentile_of(levels, 50) if levels.any() else float(channel.min())
    )
