"""Cuts a crop around the nucleus of every cell, at the pixels of the image.

The detector sees a whole field, at a scale at which a nucleus is about ten pixels wide. A
crop shows the nucleus as it was photographed, with its chromatin. Its brightness is
scaled by the nucleus itself, so that neither the gain of the camera nor the strength of
the stain tells one dish from another.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.type_names import UNKNOWN
from cellclass_tf.labels import nuclei

CROP_PX = 64
# Cells that are wider are shown smaller; none is enlarged.
_WIDEST_CELL_PX = 70.0
# The median of a nucleus, of full scale. The brightest parts of most nuclei stay below 1.
_NUCLEUS_LEVEL = 0.45
# The percentile of a crop that counts as background.
_BACKGROUND_PERCENTILE = 5
# Of a cell without a nucleus, the percentile of its pixels that is taken for one.
_BRIGHT_PERCENTILE = 90
# Grey levels between the background and a nucleus; less is noise.
_LEAST_CONTRAST = 5.0
# The range of cytoplasm that is shown: standard deviations of the background around it.
_SPREAD = 5.0
_SD_PER_MAD = 1.4826
# Of a histogram: grey levels by which it is smoothed (standard deviation), and by which
# peaks differ; and the height of the least, over that of the highest.
_MODE_SMOOTHED = 2.0
_PEAKS_APART = 5
_LEAST_PEAK = 0.2
# At least so many per cent of the pixels in cells are within the range that is shown.
_SHOWN_PERCENTILE = 98
# Around a crop in its window, for its interpolation.
_MARGIN_PX = 2
# Crops whose nuclei are scaled at once.
_PART = 512


@dataclasses.dataclass(frozen=True)
class Windows:
    """Square windows of a field around the nuclei of its cells.

    Attributes:
      pixels: (N, S, S, 2) uint8, cytoplasm and nuclei. Cytoplasm is scaled by the field;
        nuclei are as bright as in the image.
      levels: (N,) float32, the brightness of each cell's nucleus in the image.
      labels: (N, S, S) int32, cells of the field; 0 is background.
      centres: (N, 2) float32, the middles of the nuclei [row, column], within half a
        pixel of the middle of the window.
    """

    pixels: np.ndarray
    levels: np.ndarray
    labels: np.ndarray
    centres: np.ndarray


def scale_for(cell_diameter_px: float) -> float:
    """Returns pixels of a crop per pixel of the training images, at most 1.

    Args:
      cell_diameter_px: median diameter of the training cells.
    """
    return min(1.0, _WIDEST_CELL_PX / cell_diameter_px)


def crops_of(
    image: np.ndarray, labels: np.ndarray, *, zoom: float = 1.0, grayscale: bool = False
) -> np.ndarray:
    """Cuts a crop around the nucleus of every cell.

    Args:
      image: (H, W, 3) uint8 merged image: 0, cytoplasm, nuclei.
      labels: (H, W) of whole numbers; 0 is background, 1..N the cells, none missing.
      zoom: pixels of a crop per pixel of the image.
      grayscale: whether to leave the nuclei out, in images in which they are not stained.

    Returns:
      (N, 64, 64, 2) uint8, cytoplasm and nuclei. Beyond the border the image is mirrored.
    """
    cells = Cells.from_labels(labels, (), UNKNOWN)
    every = np.arange(len(cells))
    size = CROP_PX + 2 * _MARGIN_PX
    found = windows_of(image, cells, every, size, zoom=zoom, grayscale=grayscale)
    pixels = np.empty((len(cells), CROP_PX, CROP_PX, 2), np.uint8)
    for n, (window, centre) in enumerate(zip(found.pixels, found.centres, strict=True)):
        pixels[n] = cut(window, centre)
    return scale_nuclei(pixels, found.levels)


def cut(window: np.ndarray, centre: np.ndarray, zoom: float = 1.0) -> np.ndarray:
    """Cuts a crop out of a window, by linear interpolation between its pixels.

    In training as in prediction, since a crop that is cut at whole pixels is sharper, and
    would pass for one with more grains.

    Args:
      window: (S, S, 2) uint8.
      centre: of the crop [row, column], in pixels from the window's corner.
      zoom: pixels of the crop per pixel of the window.

    Returns:
      (64, 64, 2) uint8.
    """
    from PIL import Image

    half = CROP_PX / zoom / 2
    (top, left), (bottom, right) = centre - half, centre + half
    channels = [
        Image.fromarray(channel).transform(
            (CROP_PX, CROP_PX),
            Image.Transform.EXTENT,
            (left, top, right, bottom),
            Image.Resampling.BILINEAR,
        )
        for channel in np.moveaxis(window, -1, 0)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def windows_of(
    image: np.ndarray,
    cells: Cells,
    chosen: np.ndarray,
    size: int,
    *,
    zoom: float = 1.0,
    grayscale: bool = False,
) -> Windows:
    """Cuts windows around the nuclei of chosen cells.

    Args:
      image: (H, W, 3) uint8 merged image.
      cells: all cells of the image.
      chosen: (N,) indices of the cells, from 0 on.
      size: S, width of a window.
      zoom: pixels of a window per pixel of the image.
      grayscale: as in `crops_of`.
    """
    if not len(chosen):
        return Windows(
            np.zeros((0, size, size, 2), np.uint8),
            np.zeros(0, np.float32),
            np.zeros((0, size, size), np.int32),
            np.zeros((0, 2), np.float32),
        )
    stained = np.zeros_like(image[..., 2]) if grayscale else image[..., 2]
    centres, levels = _nuclei_of(stained, cells)
    shown = np.stack([_scale_cytoplasm(image[..., 1], cells), stained], axis=-1)
    shape = [max(1, round(length * zoom)) for length in image.shape[:2]]
    shown = _resize(shown, shape)
    labels = _resize_labels(cells.labels, shape)
    exact = np.array(shape) / np.array(image.shape[:2])
    corners = centres[chosen] * exact - size / 2
    middles = corners - np.round(corners) + size / 2
    corners = np.round(corners).astype(int)
    rows, columns = (
        _mirrored(corners[:, axis, None] + np.arange(size), shape[axis])
        for axis in (0, 1)
    )
    where = rows[:, :, None], columns[:, None, :]
    return Windows(shown[where], levels[chosen], labels[where], middles)


def scale_nuclei(pixels: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Scales the nuclei of crops: background to 0, the own nucleus to 0.45 of full scale.

    Args:
      pixels: (N, S, S, 2) uint8, as `Windows` has them.
      levels: (N,) brightness of the nuclei.

    Returns:
      The crops, (N, S, S, 2) uint8.
    """
    scaled = pixels.copy()
    for first in range(0, len(pixels), _PART):
        part = slice(first, first + _PART)
        seen = pixels[part, ..., 1].astype(np.float32)
        dark = np.percentile(seen, _BACKGROUND_PERCENTILE, axis=(1, 2))
        contrast = np.maximum(levels[part] - dark, _LEAST_CONTRAST)
        seen -= dark[:, None, None]
        seen *= (255 * _NUCLEUS_LEVEL / contrast)[:, None, None]
        scaled[part, ..., 1] = np.clip(np.round(seen), 0, 255)
    return scaled


def _nuclei_of(channel: np.ndarray, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Finds where the nucleus of each cell is, and how bright.

    Returns:
      (N, 2) float64, the brightness-weighted centroids, in pixels from the image's
      corner; of a cell without a nucleus, its own centroid. (N,) float32, the median
      brightness.
    """
    centres = np.zeros((len(cells), 2))
    levels = np.zeros(len(cells), np.float32)
    for index, (rows, columns, _) in enumerate(nuclei.nuclei_of(channel, cells)):
        bright = 50
        if not len(rows):
            top, left = cells.boxes_yxyx[index][:2]
            rows, columns = np.nonzero(cells.mask(index))
            rows, columns = rows + top, columns + left
            bright = _BRIGHT_PERCENTILE
        values = channel[rows, columns].astype(np.float64)
        weights = values if values.any() else np.ones(len(values))
        # A pixel's middle is half a pixel from its corner.
        places = np.stack([rows, columns]) + 0.5
        centres[index] = places @ weights / weights.sum()
        levels[index] = np.percentile(values, bright)
    return centres, levels


def _scale_cytoplasm(channel: np.ndarray, cells: Cells) -> np.ndarray:
    """Scales the cytoplasm of a field around its background, half of full scale.

    The background is the darkest grey level that is frequent, and its noise is judged by
    what is darker: neither depends on how many cells there are. The range is that of the
    background (in phase contrast cells are brighter and darker than it), or that of the
    cells where these are brighter.
    """
    # By the numbers of pixels of each grey level, so that no plane of floats is made.
    levels = np.arange(256)
    counts = np.bincount(channel.ravel(), minlength=256)
    smoothed = ndimage.gaussian_filter1d(
        counts.astype(np.float64), _MODE_SMOOTHED, mode="constant"
    )
    is_peak = smoothed == ndimage.maximum_filter1d(smoothed, 2 * _PEAKS_APART + 1)
    is_peak &= smoothed >= _LEAST_PEAK * smoothed.max()
    middle = int(np.flatnonzero(is_peak)[0])
    away = np.abs(levels - middle)
    darker = np.where(levels < middle, counts, 0)
    inside = np.bincount(channel[cells.labels > 0], minlength=256)
    reach = max(
        _SPREAD * _SD_PER_MAD * _percentile(away, darker, 50),
        _percentile(away, inside, _SHOWN_PERCENTILE),
        1.0,
    )
    scaled = 0.5 + (levels - middle) / (2 * reach)
    return np.clip(np.round(255 * scaled), 0, 255).astype(np.uint8)[channel]


def _percentile(values: np.ndarray, counts: np.ndarray, percent: float) -> float:
    """The percentile of values that come so often each; 0 of none."""
    if not counts.sum():
        return 0.0
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    place = np.searchsorted(reached, percent / 100 * reached[-1])
    return float(values[order][place])


def _mirrored(indices: np.ndarray, size: int) -> np.ndarray:
    """Brings indices beyond an axis of a length back into it, as in a mirror."""
    indices = indices % (2 * size)
    return np.where(indices < size, indices, 2 * size - 1 - indices)


def _resize(pixels: np.ndarray, shape: list[int]) -> np.ndarray:
    from PIL import Image

    if pixels.shape[:2] == tuple(shape):
        return pixels
    # Pillow widens the triangle when it shrinks, so that nothing is skipped.
    resized = [
        Image.fromarray(channel).resize(shape[::-1], Image.Resampling.BILINEAR)
        for channel in np.moveaxis(pixels, -1, 0)
    ]
    return np.stack([np.asarray(channel) for channel in resized], axis=-1)


def _resize_labels(labels: np.ndarray, shape: list[int]) -> np.ndarray:
    """Resizes labels to the nearest pixel."""
    if labels.shape == tuple(shape):
        return labels
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(shape, labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]
