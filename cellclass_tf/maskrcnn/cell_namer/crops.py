"""Cuts a crop around the nucleus of every cell, at the resolution of the image.

The detector sees a whole field, at a scale at which a nucleus is about ten pixels wide. A
crop shows the nucleus with its chromatin, at the pixel size of the training images. Its
brightness is scaled by the nucleus itself, so that a dish cannot be recognised by the gain
of the camera or the strength of the stain.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.type_names import UNKNOWN
from cellclass_tf.labels import grey_levels, nuclei
from cellclass_tf.maskrcnn import resizing

CROP_PX = 64
# Number of crops that the network classifies at once.
CROPS_A_CALL = 256
# Wider cells are shrunk to this width; none is enlarged.
_WIDEST_CELL_PX = 70.0
# Median of a nucleus after scaling, as a fraction of full scale. The brightest parts of most
# nuclei then stay below 1.
_NUCLEUS_LEVEL = 0.45
# The percentile of a crop that counts as background.
_BACKGROUND_PERCENTILE = 5
# Percentile of a cell's pixels that replaces the nucleus if the cell has none.
_BRIGHT_PERCENTILE = 90
# Grey levels between the background and a nucleus; a smaller difference is noise.
_LEAST_CONTRAST = 5.0
# Range of the cytoplasm channel that is shown, in standard deviations of the background.
_SPREAD = 5.0
_SD_PER_MAD = 1.4826
# Peaks of a histogram: smoothing (standard deviation in grey levels), smallest distance
# between peaks (grey levels), and smallest height relative to the highest peak.
_MODE_SMOOTHED = 2.0
_PEAKS_APART = 5
_LEAST_PEAK = 0.2
# Percentage of the pixels in cells that are at least within the range that is shown.
_SHOWN_PERCENTILE = 98
# Margin between a crop and its window, needed for interpolation.
_MARGIN_PX = 2
# Number of crops whose nuclei are scaled at once.
_PART = 512


@dataclasses.dataclass(frozen=True)
class Windows:
    """Square windows of a field around the nuclei of its cells.

    Attributes:
      pixels: (N, S, S, 2) uint8, cytoplasm and nuclei. The cytoplasm is already scaled by
        its field; the nuclei have the grey levels of the image.
      levels: (N,) float32, median grey level of each cell's nucleus in the image.
      labels: (N, S, S) int32, labels of the cells of the field; 0 is background.
      centres: (N, 2) float32, centres of the nuclei [row, column], within half a pixel of
        the centre of the window.
    """

    pixels: np.ndarray
    levels: np.ndarray
    labels: np.ndarray
    centres: np.ndarray


def scale_for(cell_diameter_px: float) -> float:
    """Returns the number of crop pixels per pixel of the training images, at most 1.

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
      labels: (H, W) label image; 0 is background, and cells are numbered from 1 to N.
      zoom: pixels of a crop per pixel of the image.
      grayscale: whether to leave out the nuclei channel, for images without stained nuclei.

    Returns:
      (N, 64, 64, 2) uint8, cytoplasm and nuclei. The image is mirrored at its border.
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

    Crops are interpolated in training and in prediction: a crop cut at whole pixels would
    be sharper, and the network would mistake that for finer chromatin.

    Args:
      window: (S, S, 2) uint8.
      centre: centre of the crop [row, column], in pixels from the window's corner.
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
      chosen: (N,) indices of the chosen cells, counted from 0.
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
    shown = np.stack([_scale_cytoplasm(image, cells), stained], axis=-1)
    shape = [max(1, round(length * zoom)) for length in image.shape[:2]]
    shown = _resize(shown, shape)
    labels = resizing.resized_labels(cells.labels, shape)
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
    """Scales the nuclei channel: background to 0, the cell's own nucleus to 0.45.

    Args:
      pixels: (N, S, S, 2) uint8 crops, as in `Windows`.
      levels: (N,) median grey levels of the nuclei.

    Returns:
      The scaled crops, (N, S, S, 2) uint8.
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
    """Returns the centroid and the grey level of each cell's nucleus.

    Returns:
      The brightness-weighted centroids, (N, 2) float64 in pixels from the image's corner
      (of the whole cell, if it has no nucleus), and the median grey levels, (N,) float32.
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
        # The centre of a pixel is half a pixel from its corner.
        places = np.stack([rows, columns]) + 0.5
        centres[index] = places @ weights / weights.sum()
        levels[index] = np.percentile(values, bright)
    return centres, levels


def _scale_cytoplasm(image: np.ndarray, cells: Cells) -> np.ndarray:
    """Returns the cytoplasm of a field, its background scaled to half of full scale.

    The background is the darkest frequent grey level, and its noise is estimated from the
    darker pixels, so that neither depends on the number of cells. The range that is shown
    covers the background's noise several times (in phase contrast, cells are both brighter
    and darker than the background), or the cells if these are brighter.
    """
    # Working on the histogram avoids a floating-point copy of the image.
    channel, levels = image[..., 1], np.arange(256)
    counts = grey_levels.levels_of_field(image, 1)
    smoothed = ndimage.gaussian_filter1d(
        counts.astype(np.float64), _MODE_SMOOTHED, mode="constant"
    )
    is_peak = smoothed == ndimage.maximum_filter1d(smoothed, 2 * _PEAKS_APART + 1)
    is_peak &= smoothed >= _LEAST_PEAK * smoothed.max()
    middle = int(np.flatnonzero(is_peak)[0])
    away = np.abs(levels - middle)
    darker = np.where(levels < middle, counts, 0)
    inside = grey_levels.levels_inside(channel, cells.labels)
    reach = max(
        _SPREAD * _SD_PER_MAD * _percentile(away, darker, 50),
        _percentile(away, inside, _SHOWN_PERCENTILE),
        1.0,
    )
    scaled = 0.5 + (levels - middle) / (2 * reach)
    return np.clip(np.round(255 * scaled), 0, 255).astype(np.uint8)[channel]


def _percentile(values: np.ndarray, counts: np.ndarray, percent: float) -> float:
    """Returns a percentile of values with these counts; 0 if all counts are 0."""
    if not counts.sum():
        return 0.0
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    place = np.searchsorted(reached, percent / 100 * reached[-1])
    return float(values[order][place])


def _mirrored(indices: np.ndarray, size: int) -> np.ndarray:
    """Mirrors indices outside of an axis of length `size` back into it."""
    indices = indices % (2 * size)
    return np.where(indices < size, indices, 2 * size - 1 - indices)


def _resize(pixels: np.ndarray, shape: list[int]) -> np.ndarray:
    from PIL import Image

    if pixels.shape[:2] == tuple(shape):
        return pixels
    # When shrinking, Pillow widens its filter, so that no pixel is skipped.
    resized = [
        Image.fromarray(channel).resize(shape[::-1], Image.Resampling.BILINEAR)
        for channel in np.moveaxis(pixels, -1, 0)
    ]
    return np.stack([np.asarray(channel) for channel in resized], axis=-1)
