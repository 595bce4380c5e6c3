"""The nucleus of every cell: its pixels, by half of its own brightness."""

from __future__ import annotations

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import noise

_SMOOTH_PX = 1.0
_BRIGHT_PERCENTILE = 95
_SAMPLE_PIXELS = 1_000_000


def nuclei_of(channel: np.ndarray, cells: Cells) -> list[tuple[np.ndarray, np.ndarray]]:
    """Finds the nucleus in every cell.

    A nucleus holds the pixels of its cell that are, after a Gaussian of 1 px, brighter
    than half way from the background of the field to the cell's own bright part (the
    95th percentile), that is the full width at half maximum; of several pieces the
    largest, with its holes filled.

    Args:
      channel: (H, W) uint8, the nuclei's brightness.
      cells: N cells.

    Returns:
      For each cell the rows and the columns of its nucleus's pixels, both (M,) int64;
      empty where there is no nucleus.
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
        bright = np.percentile(window[mask], _BRIGHT_PERCENTILE)
        nucleus = mask & (window > (dark + bright) / 2)
        if noise.stands_out(bright - dark, sd):
            nucleus = _largest_piece(nucleus) & mask
        else:
            nucleus[:] = False
        rows, columns = np.nonzero(nucleus)
        found.append((rows + top, columns + left))
    return found


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    pieces, count = ndimage.label(mask)
    if count > 1:
        mask = pieces == np.bincount(pieces[mask]).argmax()
    return ndimage.binary_fill_holes(mask)


def _background(channel: np.ndarray, labels: np.ndarray) -> float:
    """Median grey level outside the cells."""
    every = max(1, round((channel.size / _SAMPLE_PIXELS) ** 0.5))
    sample, outside = channel[::every, ::every], labels[::every, ::every] == 0
    return float(np.median(sample[outside])) if outside.any() else float(sample.min())
