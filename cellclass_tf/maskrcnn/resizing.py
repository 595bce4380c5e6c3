"""Resizes merged images and label images for the networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    """Resizes an (H, W, 3) uint8 image by a factor, as in training."""
    from PIL import Image

    size = [max(1, round(length * scale)) for length in image.shape[:2]]
    # When shrinking, Pillow widens its filter, as tf.image.resize does with antialias=True.
    seen = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(seen)


def resized_labels(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resizes a label image by nearest-neighbour interpolation."""
    if labels.shape == tuple(shape):
        return labels
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(shape, labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]
