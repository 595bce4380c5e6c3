"""Averages the features of cellpose's encoder over each cell of a field of any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from cellclass_tf.labels import grey_levels, tiling
from cellclass_tf.maskrcnn import resizing

# Maximum width of a tile, for which the encoder needs about 0.3 GB. It sees about 60 px to
# either side of a pixel.
_TILE_PX, _MARGIN_PX = 768, 64
# Width and height of the encoder's input are multiples of this.
_MULTIPLE = 8
# cellpose scales these percentiles of a field to 0 and 1.
_PERCENTILES = (1.0, 99.0)
# In a field with few cells, this percentile of the pixels in cells is scaled to 1 instead.
_OF_CELLS = 90.0
# Cytoplasm and nuclei in a merged image.
_CYTOPLASM, _NUCLEI = 1, 2


def features_of(
    encode: Callable[..., Mapping[str, Any]],
    image: np.ndarray,
    labels: np.ndarray,
    *,
    scale: float,
    grayscale: bool = False,
) -> np.ndarray:
    """Returns the mean and the standard deviation of every feature in every cell.

    The field is read in overlapping tiles, and a cell may span several.

    Args:
      encode: the encoder, see `encoder.Encoder.encode`; it takes `planes`.
      image: (H, W, 3) uint8 merged image: 0, cytoplasm, nuclei.
      labels: (H, W) label image of at least one cell; 0 is background, and cells are
        numbered from 1 to N.
      scale: pixels of the encoder's input per pixel of the image.
      grayscale: whether to leave out the nuclei channel.

    Returns:
      (N, F) float32: means of all features, then standard deviations. NaN for a cell that
      is too small to have a pixel after resizing.
    """
    count = int(labels.max())
    shown = [_CYTOPLASM] if grayscale else [_CYTOPLASM, _NUCLEI]
    stretched = {channel: _stretched(image, channel, labels) for channel in shown}
    shape = resizing.shape_at(image.shape, scale)
    pooled = _Sums(count)
    side = _tile_side(max(shape))
    tiles = list(tiling.tiles_of(shape, side, _MARGIN_PX))
    for tile in tiles:
        part = _part(tile, side, shape)
        own = _owned(resizing.resized_labels(labels, shape, part), tile)
        # One tile is always read, so that the number of features is known.
        if not own.any() and tile is not tiles[-1]:
            continue
        seen = resizing.resized_part(image, shape, part)
        planes = np.zeros((*seen.shape[:2], 2), np.float32)
        for channel, levels in stretched.items():
            planes[..., channel - _CYTOPLASM] = levels[seen[..., channel]]
        missing = [(0, -length % _MULTIPLE) for length in planes.shape[:2]]
        planes = np.pad(planes, [*missing, (0, 0)], mode="edge")
        found = encode(planes=planes[np.newaxis])
        pooled.add(own, [np.asarray(found[name])[0] for name in sorted(found)])
    return pooled.statistics()


class _Sums:
    """Sums of features and of their squares over the pixels of each cell."""

    def __init__(self, count: int) -> None:
        self._areas = np.zeros(count)
        # Of each level, a value close to all others: differences from it lose no digits.
        self._middles: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []
        self._squares: list[np.ndarray] = []

    def add(self, own: np.ndarray, levels: Sequence[np.ndarray]) -> None:
        """Adds the pixels of a tile.

        Args:
          own: (H, W) labels of the pixels to add; 0 for all others.
          levels: features (h, w, C), h and w being at least H and W divided by 1, 2, 4, ….
            A pixel has the features of the coarse pixel that it lies in.
        """
        count = len(self._areas)
        if not self._sums:
            self._middles = [level.mean(axis=(0, 1)) for level in levels]
            self._sums = [np.zeros((count, level.shape[2])) for level in levels]
            self._squares = [np.zeros_like(total) for total in self._sums]
        rows, columns = np.nonzero(own)
        cells = own[rows, columns] - 1
        self._areas += np.bincount(cells, minlength=count)
        for number, level in enumerate(levels):
            places = (rows >> number) * level.shape[1] + (columns >> number)
            values = level.reshape(-1, level.shape[2]) - self._middles[number]
            # The number of pixels of each cell in each coarse pixel.
            pixels = sparse.csr_matrix(
                (np.ones(len(cells), np.float32), (cells, places)),
                shape=(count, len(values)),
            )
            self._sums[number] += pixels @ values
            self._squares[number] += pixels @ np.square(values)

    def statistics(self) -> np.ndarray:
        """Returns means and standard deviations, (N, F) float32; NaN without pixels."""
        areas = np.where(self._areas > 0, self._areas, np.nan)[:, np.newaxis]
        means = np.concatenate(self._sums, axis=1) / areas
        squares = np.concatenate(self._squares, axis=1) / areas
        spreads = np.sqrt(np.maximum(squares - np.square(means), 0))
        means += np.concatenate(self._middles)
        return np.concatenate([means, spreads], axis=1).astype(np.float32)


def _stretched(image: np.ndarray, channel: int, labels: np.ndarray) -> np.ndarray:
    """Returns the value that each grey level gets, (256,) float32.

    It is 0 in a channel without contrast. If less than a percent of the field is bright,
    the scale is that of the cells, so that it does not depend on the area around them.
    """
    counts = grey_levels.levels_of_field(image, channel)
    low, high = (grey_levels.percentile_of(counts, p) for p in _PERCENTILES)
    inside = grey_levels.levels_inside(image[..., channel], labels)
    high = max(high, grey_levels.percentile_of(inside, _OF_CELLS))
    if high <= low:
        return np.zeros(256, np.float32)
    return ((np.arange(256) - low) / (high - low)).astype(np.float32)


def _tile_side(length: int) -> int:
    """Returns the smallest width of tiles of which no more are needed."""
    shared = 2 * _MARGIN_PX
    count = max(1, -(-(length - shared) // (_TILE_PX - shared)))
    side = -(-(length + shared * (count - 1)) // count)
    return min(_TILE_PX, side + -side % _MULTIPLE)


def _part(tile: tiling.Tile, side: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    rows, columns = (
        slice(corner, min(corner + side, length))
        for corner, length in zip(tile.corner_yx, shape, strict=True)
    )
    return rows, columns


def _owned(cells: np.ndarray, tile: tiling.Tile) -> np.ndarray:
    """Returns the labels of the pixels in the tile's core, and 0 for all others."""
    rows, columns = (
        np.arange(corner, corner + length)
        for corner, length in zip(tile.corner_yx, cells.shape, strict=True)
    )
    top, left, bottom, right = tile.core_yxyx
    is_row, is_column = (
        (rows >= top) & (rows < bottom),
        (columns >= left) & (columns < right),
    )
    return np.where(is_row[:, np.newaxis] & is_column, cells, 0)
