"""Which cells lie beside each other."""

from __future__ import annotations

import itertools

import numpy as np

# Cells between which so few pixels lie are neighbours: they touch, as far as outlines tell.
GAP_PX = 2
# Pixels that are compared at once, so that a large field stays cheap.
_STRIP_PIXELS = 1 << 22


def neighbours(labels: np.ndarray) -> np.ndarray:
    """Finds pairs of cells with at most GAP_PX pixels between them.

    Args:
      labels: (H, W) label image, 0 background.

    Returns:
      (P, 2) int64 pairs of labels, the smaller first, in ascending order.
    """
    reach = GAP_PX + 1
    # Half a disc: the other half meets the same pairs.
    steps = [
        (y, x)
        for y, x in itertools.product(range(reach + 1), range(-reach, reach + 1))
        if 0 < y * y + x * x <= reach * reach and (y > 0 or x > 0)
    ]
    found = [np.zeros(0, np.int64)]
    height, width = labels.shape
    rows = max(1, _STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        # The strip, and as many rows below it as the steps reach.
        strip = labels[top : min(height, top + rows + reach)]
        found.append(_touching(strip, steps))
    keys = np.unique(np.concatenate(found))
    return np.stack([keys >> 32, keys & 0xFFFFFFFF], axis=1)


def _touching(labels: np.ndarray, steps: list[tuple[int, int]]) -> np.ndarray:
    """Pairs as one number each, the smaller label above the lowest 32 bits.

    The two pixels of different cells that are nearest to each other both lie on borders of
    their cells: only pixels of borders are compared.
    """
    border = np.zeros(labels.shape, bool)
    for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differ = labels[first] != labels[second]
        border[first] |= differ
        border[second] |= differ
    y, x = np.nonzero(border & (labels > 0))
    here = labels[y, x].astype(np.int64)
    pairs = [np.zeros(0, np.int64)]
    for down, right in steps:
        inside = (y + down < labels.shape[0]) & (x + right >= 0)
        inside &= x + right < labels.shape[1]
        there = labels[y[inside] + down, x[inside] + right].astype(np.int64)
        one = here[inside]
        other = (there > 0) & (there != one)
        one, there = one[other], there[other]
        pairs.append(np.minimum(one, there) << 32 | np.maximum(one, there))
    return np.unique(np.concatenate(pairs))


def nearest_px(centroids_yx: np.ndarray) -> np.ndarray:
    """(N,) float64 distance from each of (N, 2) centroids to the nearest other one, px.

    NaN of a cell that is alone.
    """
    from scipy import spatial

    if len(centroids_yx) < 2:
        return np.full(len(centroids_yx), np.nan)
    distances, _ = spatial.KDTree(centroids_yx).query(centroids_yx, k=2)
    return distances[:, 1]
