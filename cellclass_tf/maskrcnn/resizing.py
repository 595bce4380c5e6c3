"""Resizes merged images and label images for the networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    """Resizes an (H, W, 3) uint8 image by a factor, as in training."""
    height, width = shape_at(image.shape, scale)
    return resized_part(image, (height, width), (slice(0, height), slice(0, width)))


def shape_at(shape: Sequence[int], scale: float) -> tuple[int, int]:
    """Returns height and width of a resized image, at least 1."""
    height, width = (max(1, round(length * scale)) for length in shape[:2])
    return height, width


def resized_part(
    image: np.ndarray, shape: tuple[int, int], part: tuple[slice, slice]
) -> np.ndarray:
    """Returns a part of a resized image, without resizing the rest.

    Args:
      image: (H, W, 3) uint8.
      shape: height and width of the resized image.
      part: rows and columns of the resized image.
    """
    from PIL import Image

    windows, starts, stops = [], [], []
    for old, new, chosen in zip(image.shape[:2], shape, part, strict=True):
        ratio = old / new
        # The filter reads this far, and Pillow copies the image that it is given.
        reach = math.ceil(max(1.0, ratio)) + 1
        start, stop = chosen.start * ratio, chosen.stop * ratio
        first = max(0, math.floor(start) - reach)
        windows.append(slice(first, math.ceil(stop) + reach))
        starts.append(start - first)
        stops.append(min(stop, old) - first)
    rows, columns = part
    # When shrinking, Pillow widens its filter, as tf.image.resize does with antialias=True.
    seen = Image.fromarray(image[tuple(windows)]).resize(
        (columns.stop - columns.start, rows.stop - rows.start),
        Image.Resampling.BILINEAR,
        box=(starts[1], starts[0], stops[1], stops[0]),
    )
    return np.asarray(seen)


def resized_labels(
    labels: np.ndarray,
    shape: Sequence[int],
    part: tuple[slice, slice] = np.s_[:, :],
) -> np.ndarray:
    """Resizes a label image, or a part of it, by nearest-neighbour interpolation.

    Args:
      labels: (H, W) label image.
      shape: height and width of the resized label image.
      part: the rows and columns of it to return.
    """
    if labels.shape == tuple(shape):
        return labels[part]
    rows, columns = (
        ((np.arange(new)[chosen] + 0.5) * old / new).astype(int)
        for new, old, chosen in zip(shape, labels.shape, part, strict=True)
    )
    return labels[np.ix_(rows, columns)]
