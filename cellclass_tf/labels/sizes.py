"""Areas and diameters: a cell is as wide as a disc of its area."""

from __future__ import annotations

import numpy as np


def diameters_of(areas_px: np.ndarray) -> np.ndarray:
    """Returns the diameters in pixels of discs of these areas, (N,) float64."""
    return 2 * np.sqrt(np.asarray(areas_px) / np.pi)


def disc_area(diameter_px: float) -> float:
    """Returns the area in pixels of a disc."""
    return float(np.pi / 4 * diameter_px**2)


def areas_of(labels: np.ndarray) -> np.ndarray:
    """Returns the (N,) areas in pixels of cell 1..N of a label image, (H, W)."""
    return np.bincount(np.asarray(labels).ravel(), minlength=1)[1:]
