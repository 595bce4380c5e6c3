"""Counts the grey levels of a channel: of the whole field, the cells, or the background."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cellclass_tf.labels.runs import stripes

# Width of the squares that are black where nothing was imaged.
_SQUARE_PX = 8


def levels_outside(channel: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts the background pixels of each grey level.

    Args:
      channel: (H, W) uint8.
      labels: (H, W) label image, 0 background.

    Returns:
      (256,) int64 number of background pixels of each grey level; zeros if cells cover
      the whole field.
    """
    return _counted(channel, lambda rows: labels[rows] == 0)


def levels_inside(channel: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the (256,) int64 number of pixels in cells of each grey level.

    Args:
      channel: (H, W) uint8.
      labels: (H, W) label image, 0 background.
    """
    return _counted(channel, lambda rows: labels[rows] > 0)


def levels_of(channel: np.ndarray) -> np.ndarray:
    """Returns the (256,) int64 number of pixels of each grey level of an (H, W) channel."""
    return _counted(channel, lambda _: None)


def levels_of_field(image: np.ndarray, channel: int) -> np.ndarray:
    """Counts the grey levels of a channel, without the areas that were not imaged.

    Stitched and turned scans have such areas. All channels are 0 there, which noise hardly
    ever makes of whole squares.

    Args:
      image: (H, W, C) uint8.
      channel: index of the channel.

    Returns:
      (256,) int64 number of pixels of each grey level; of all pixels if none was imaged.
    """
    levels = levels_of(image[..., channel])
    black = _black_px(image) if levels[0] else 0
    if black < levels.sum():
        levels[0] -= black
    return levels


def percentile_of(levels: np.ndarray, percent: float) -> float:
    """Returns a percentile of counted grey levels, equal to `np.percentile` of the pixels.

    NaN if nothing was counted.
    """
    reached = np.cumsum(levels)
    if not reached[-1]:
        return float("nan")
    place = percent / 100 * (reached[-1] - 1)
    first = int(place)
    low, high = np.searchsorted(
        reached, (first, min(first + 1, int(reached[-1]) - 1)), side="right"
    ).tolist()
    return float(low + (place - first) * (high - low))


def _black_px(image: np.ndarray) -> int:
    """Returns the number of pixels in squares in which every channel is 0."""
    side = _SQUARE_PX
    height, width = (length // side for length in image.shape[:2])
    squares = image[: height * side, : width * side].reshape(
        height, side, width, side, image.shape[2]
    )
    count = 0
    for row in squares:
        # Of most squares the first pixel is enough.
        candidates = np.flatnonzero(~row[0, :, 0].any(axis=1))
        count += np.count_nonzero(~row[:, candidates].any(axis=(0, 2, 3)))
    return int(count) * side**2


def _counted(
    channel: np.ndarray, chosen: Callable[[slice], np.ndarray | None]
) -> np.ndarray:
    """Counts the chosen pixels of a slice of rows, or all of them for None."""
    import cv2

    counts = np.zeros(256, np.int64)
    # OpenCV counts in float32, which is exact up to 2**24 pixels: more than a stripe has.
    for rows in stripes(channel.shape):
        part = np.ascontiguousarray(channel[rows])
        inside = chosen(rows)
        mask = None if inside is None else inside.view(np.uint8)
        found = cv2.calcHist([part], [0], mask, [256], [0, 256])
        counts += found.ravel().astype(np.int64)
    return counts
