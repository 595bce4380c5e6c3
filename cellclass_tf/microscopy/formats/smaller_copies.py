"""Finds images of a file that are others at a smaller size, as the levels of a pyramid.

Some programs export each level of a pyramid as an image of its own. As fields, their cells
would be counted once for each level.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from cellclass_tf.microscopy.formats import base
from cellclass_tf.storage import png

# Pixels of two fields are less alike.
_LEAST_CORRELATION = 0.9


def find(
    path: pathlib.Path,
    sizes: Sequence[tuple[int, int]],
    scene: Callable[[int], base.Scene],
) -> dict[int, int]:
    """Returns the number of the larger image of each smaller copy, by its own number.

    The height and width of a copy are those of an image before it, divided by a whole
    number, and its pixels look the same.

    Args:
      path: the file, for messages.
      sizes: height and width of each image.
      scene: takes a number and returns that image, which is only read if sizes fit.

    Raises:
      InputError: if an image is too large to be read.
    """
    copies: dict[int, int] = {}
    for small, size in enumerate(sizes):
        larger = [
            n for n in range(small) if n not in copies and _factor(sizes[n], size)
        ]
        if larger and _is_copy(path, scene(larger[-1]), scene(small)):
            copies[small] = larger[-1]
    return copies


def _factor(large: tuple[int, int], small: tuple[int, int]) -> int:
    """Returns the whole number by which a size was divided; 0 if there is none."""
    if not 0 < small[0] < large[0]:
        return 0
    factor = round(large[0] / small[0])
    fits = all(abs(a / factor - b) < 1 for a, b in zip(large, small, strict=True))
    return factor if factor > 1 and fits else 0


def _is_copy(path: pathlib.Path, large: base.Scene, small: base.Scene) -> bool:
    if (large.size_tzc, large.is_rgb) != (small.size_tzc, small.is_rgb):
        return False
    png.check_image_size(*large.size_yx, path)
    factor = _factor(large.size_yx, small.size_yx)
    wide, narrow = _sum_of_channels(large), _sum_of_channels(small)
    height, width = (
        min(a // factor, b) for a, b in zip(wide.shape, narrow.shape, strict=True)
    )
    wide, narrow = wide[: height * factor, : width * factor], narrow[:height, :width]
    means = wide.reshape(height, factor, width, factor).mean(axis=(1, 3))
    # Programs take either the mean or one of the pixels.
    reduced = (means, wide[::factor, ::factor])
    return max(_correlation(one, narrow) for one in reduced) > _LEAST_CORRELATION


def _sum_of_channels(scene: base.Scene) -> np.ndarray:
    _, depth, count = scene.size_tzc
    planes = (scene.read(0, depth // 2, c).astype(np.float64) for c in range(count))
    return sum(planes, np.zeros(scene.size_yx))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Returns Pearson's correlation; 0 if one of the images is constant."""
    if not a.size or not np.ptp(a) or not np.ptp(b):
        return 0.0
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
