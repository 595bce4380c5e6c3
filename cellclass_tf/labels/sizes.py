"""Areas and diameters: a cell is as wide as a disc of its area."""

from __future__ import annotations

import numpy as np

from cellclass_tf.core.cells import Cells


def diameters_of(areas_px: np.ndarray) -> np.ndarray:
    """Returns the diameters in pixels of discs of these areas, (N,) float64."""
    return 2 * np.sqrt(np.asarray(areas_px) / np.pi)


def disc_area(diameter_px: float) -> float:
    """Returns the area in pixels of a disc."""
    return float(np.pi / 4 * diameter_px**2)


def areas_of(labels: np.ndarray) -> np.ndarray:
    """Returns the (N,) areas in pixels of cell 1..N of a label image, (H, W)."""
    return np.bincount(np.asarray(labels).ravel(), minlength=1)[1:]


def feret_diameters(cells: Cells) -> np.ndarray:
    """Returns the largest distance of two points of each cell, (N,) float64, in pixels.

    Points are the middles of the outer edges of pixels, as of a contour between pixels.
    (scikit-image's `feret_diameter_max` goes around at a larger distance, and is longer
    by a pixel or two.)
    """
    from scipy.spatial import ConvexHull, distance

    found = np.zeros(len(cells))
    for index in range(len(cells)):
        mask = cells.mask(index)
        down, right = _ends_of_rows(mask), _ends_of_rows(mask.T)[:, ::-1]
        points = np.concatenate([down, right])
        hull = points[ConvexHull(points).vertices]
        found[index] = distance.pdist(hull).max()
    return found


def _ends_of_rows(mask: np.ndarray) -> np.ndarray:
    """(P, 2) first and last points of the rows, at half their height."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    middles = np.tile(rows + 0.5, 2)
    return np.stack([middles, np.concatenate([first, last])], axis=1)
