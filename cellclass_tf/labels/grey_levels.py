"""Counts the grey levels of a channel, in the whole field or in its background."""

from __future__ import annotations

import numpy as np

from cellclass_tf.labels.runs import stripes


def levels_outside(channel: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts the background pixels of each grey level.

    Args:
      channel: (H, W) uint8.
      labels: (H, W) label image, 0 background.

    Returns:
      (256,) int64 number of background pixels of each grey level; zeros if cells cover
      the whole field.
    """
    return _counted(channel, labels)


def levels_of(channel: np.ndarray) -> np.ndarray:
    """Returns the (256,) int64 number of pixels of each grey level of an (H, W) channel."""
    return _counted(channel, None)


def median_of(levels: np.ndarray) -> float:
    """Returns the median of the counted grey levels, equal to `np.median` of the pixels."""
    below = np.cumsum(levels)
    low, high = (below[-1] - 1) // 2, below[-1] // 2
    return float(np.searchsorted(below, (low, high), side="right").mean())


def _counted(channel: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    import cv2

    counts = np.zeros(256, np.int64)
    # OpenCV counts in float32, which is exact up to 2**24 pixels: more than a stripe has.
    for rows in stripes(channel.shape):
        part = np.ascontiguousarray(channel[rows])
        mask = None if labels is None else (labels[rows] == 0).view(np.uint8)
        found = cv2.calcHist([part], [0], mask, [256], [0, 256])
        counts += found.ravel().astype(np.int64)
    return counts
