"""Areas and diameters of cells; the diameter is that of a disc with the same area."""

from __future__ import annotations

import numpy as np


def diameters_of(areas_px: np.ndarray) -> np.ndarray:
    """Returns (N,) float64, the diameters in pixels of discs with the given areas."""
    return 2 * np.sqrt(np.asarray(areas_px) / np.pi)


def disc_area(diameter_px: float) -> float:
    """Returns the area in pixels of a disc."""
    return float(np.pi / 4 * diameter_px**2)


def areas_of(labels: np.ndarray) -> np.ndarray:
    """Returns (N,) int64, the areas in pixels of cells 1..N of an (H, W) label image."""
    return np.bincount(np.asarray(labels).ravel(), minlength=1)[1:]
