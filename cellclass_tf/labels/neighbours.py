"""Finds the cells that lie beside each other."""

from __future__ import annotations

import itertools

import numpy as np

# Largest number of pixels between two neighbours. Outlines are not exact enough to tell such
# a gap from none.
GAP_PX = 2
_REACH_PX = GAP_PX + 1
# Number of pixels that are compared at once, which limits the memory for large fields.
_STRIP_PIXELS = 1 << 22


def neighbours(labels: np.ndarray) -> np.ndarray:
    """Finds pairs of cells with at most GAP_PX pixels between them.

    Args:
      labels: (H, W) label image, 0 background.

    Returns:
      (P, 2) int64 pairs of labels, the smaller first, in ascending order.
    """
    # Half a disc, since the other half finds the same pairs.
    steps = [
        (y, x)
        for y, x in itertools.product(
            range(_REACH_PX + 1), range(-_REACH_PX, _REACH_PX + 1)
        )
        if 0 < y * y + x * x <= _REACH_PX**2 and (y > 0 or x > 0)
    ]
    found = [np.zeros(0, np.int64)]
    height, width = labels.shape
    rows = max(1, _STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        # The strip includes as many rows below it as the steps reach.
        strip = labels[top : min(height, top + rows + _REACH_PX)]
        found.append(_touching(strip, steps))
    keys = np.unique(np.concatenate(found))
    return np.stack([keys >> 32, keys & 0xFFFFFFFF], axis=1)


def _touching(labels: np.ndarray, steps: list[tuple[int, int]]) -> np.ndarray:
    """Returns the pairs as one number each: the smaller label times 2^32, plus the larger.

    Only pixels at the borders of cells are compared, since the two nearest pixels of two
    cells lie there.
    """
    # With a margin as wide as the steps, no step leaves the image or its row.
    width = labels.shape[1] + 2 * _REACH_PX
    padded = np.zeros((labels.shape[0] + _REACH_PX, width), labels.dtype)
    padded[: labels.shape[0], _REACH_PX:-_REACH_PX] = labels
    flat = padded.ravel()
    border = np.zeros(flat.shape, bool)
    for apart in (1, width):
        differ = flat[apart:] != flat[:-apart]
        border[apart:] |= differ
        border[:-apart] |= differ
    border &= flat > 0
    places = np.flatnonzero(border)
    here = flat[places]
    pairs = [np.zeros(0, np.int64)]
    for down, right in steps:
        there = flat[places + (down * width + right)]
        other = np.flatnonzero((there > 0) & (there != here))
        one, two = here[other].astype(np.int64), there[other].astype(np.int64)
        pairs.append(np.minimum(one, two) << 32 | np.maximum(one, two))
    return np.unique(np.concatenate(pairs))


def nearest_px(centroids_yx: np.ndarray) -> np.ndarray:
    """Returns the distance in pixels from each cell to the nearest other one.

    Args:
      centroids_yx: (N, 2) centroids of the cells.

    Returns:
      (N,) float64 distances between centroids; NaN if there is only one cell.
    """
    from scipy import spatial

    if len(centroids_yx) < 2:
        return np.full(len(centroids_yx), np.nan)
    distances, _ = spatial.KDTree(centroids_yx).query(centroids_yx, k=2)
    return distances[:, 1]
