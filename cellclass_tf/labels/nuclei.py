"""The nucleus of every cell: its pixels, by half of its own brightness."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import noise

_SMOOTH_PX = 1.0
_BRIGHT_PERCENTILE = 95
_SAMPLE_PIXELS = 1_000_000
# Of the largest; what is smaller is a speck.
_SMALLEST_PIECE = 0.25


class Nucleus(NamedTuple):
    """The nucleus of a cell.

    Attributes:
      rows: (M,) int64 of its pixels; empty where there is none.
      columns: (M,) int64 of the same.
      total_px: pixels of all the cell's nuclei; pieces of less than a quarter of the
        largest are none.
    """

    rows: np.ndarray
    columns: np.ndarray
    total_px: int


def nuclei_of(channel: np.ndarray, cells: Cells) -> list[Nucleus]:
    """Finds the nucleus in every cell.

    A nucleus holds the pixels of its cell that are, after a Gaussian of 1 px, brighter
    than half way from the background of the field to the cell's own bright part (the
    95th percentile), that is the full width at half maximum; of several pieces the
    largest, with its holes filled.

    Args:
      channel: (H, W) uint8, the nuclei's brightness.
      cells: N cells.

    Returns:
      The nucleus of each cell.
    """
    from scipy import ndimage

    dark, sd = _background(channel, cells.labels), noise.noise_sd(channel)
    found = []
    reach = int(4 * _SMOOTH_PX)
    for index, box in enumerate(cells.boxes_yxyx.tolist()):
        top, left, bottom, right = box
        first = max(0, top - reach), max(0, left - reach)
        piece = channel[first[0] : bottom + reach, first[1] : right + reach]
        smooth = ndimage.gaussian_filter(piece.astype(np.float32), _SMOOTH_PX)
        window = smooth[top - first[0] :, left - first[1] :]
        window = window[: bottom - top, : right - left]
        mask = cells.mask(index)
        bright = _quantile(window[mask], _BRIGHT_PERCENTILE / 100)
        nucleus, total = np.zeros_like(mask), 0
        if noise.stands_out(bright - dark, sd):
            nucleus, total = _pieces(mask & (window > (dark + bright) / 2), mask)
        rows, columns = np.nonzero(nucleus)
        found.append(Nucleus(rows + top, columns + left, total))
    return found


def _pieces(bright: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, int]:
    """The largest piece, and the pixels of all that are not much smaller; holes filled."""
    from scipy import ndimage

    pieces, count = ndimage.label(bright)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest = _filled(pieces == sizes.argmax()) & mask
    total = int(largest.sum())
    for piece in np.flatnonzero(sizes >= _SMALLEST_PIECE * sizes.max()):
        if piece != sizes.argmax():
            total += int((_filled(pieces == piece) & mask).sum())
    return largest, total


def _filled(piece: np.ndarray) -> np.ndarray:
    """`ndimage.binary_fill_holes`, which is slow, of what has holes."""
    from scipy import ndimage

    _, backgrounds = ndimage.label(np.pad(~piece, 1, constant_values=True))
    return piece if backgrounds == 1 else ndimage.binary_fill_holes(piece)


def _quantile(values: np.ndarray, share: float) -> float:
    """`np.quantile`, without what it does for arrays of any kind."""
    ordered = np.sort(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (at - low) * (ordered[high] - ordered[low]))


def _background(channel: np.ndarray, labels: np.ndarray) -> float:
    """Median grey level outside the cells."""
    every = max(1, round((channel.size / _SAMPLE_PIXELS) ** 0.5))
    sample, outside = channel[::every, ::every], labels[::every, ::every] == 0
    return float(np.median(sample[outside])) if outside.any() else float(sample.min())
