"""Resizes merged images and label images for the networks."""

from __future__ import annotations

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
      part: rows and columns of the resized image. At the border of a part, the pixels of
        a smaller image depend only on what is inside.
    """
    from PIL import Image

    rows, columns = part
    high, wide = (old / new for old, new in zip(image.shape[:2], shape, strict=True))
    box = columns.start * wide, rows.start * high, columns.stop * wide, rows.stop * high
    # When shrinking, Pillow widens its filter, as tf.image.resize does with antialias=True.
    seen = Image.fromarray(image).resize(
        (columns.stop - columns.start, rows.stop - rows.start),
        Image.Resampling.BILINEAR,
        box=box,
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
