"""Counts the nuclei of each cell: bright spots in the nuclei channel, split where they touch."""

from __future__ import annotations

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import components, noise, sizes, tiling

# Diameter in pixels to which larger cells are reduced, by a whole number. A nucleus is then
# still about ten pixels wide.
_WORKING_DIAMETER_PX = 20.0
# Widths of Gaussians, as shares of the cell diameter: to remove noise, and for the contrast
# of nuclei. Structures smaller than the fine one are texture, and structures larger than the
# coarse one are the glow of other nuclei.
_QUIET, _FINE, _COARSE = 0.05, 0.08, 0.3
# Nuclei are brighter than this share of the difference between bright nuclei and background.
_LEVEL = 0.2
# Added before taking logarithms, as a share of the same difference. Dim nuclei then count
# nearly as much as bright ones, and noise of the background does not.
_DARK = 0.15
# Least contrast of a nucleus to its surroundings, at its maximum (natural logarithm).
_LEAST_CONTRAST = 0.1
# Weight of the distance to a nucleus's border relative to its contrast, and depth of the dip
# between two maxima of their sum from which on they are two nuclei. Both were chosen on masks
# drawn by hand, of which touching cells were merged.
_SHAPE, _DIP = 2.0, 0.12
# Area of the smallest nucleus, as shares of the cell's disc and of the median nucleus.
_SMALLEST_OF_DISC, _SMALLEST_OF_MEDIAN = 0.03, 0.25
# A cell that holds this share of the median nucleus has a nucleus, even if most of a blurred
# clump lies in its neighbour.
_ENOUGH_OF_MEDIAN = 1 / 3
# Side of a tile in reduced pixels, and number of pixels by which a threshold is chosen.
_TILE_PX, _SAMPLE_PIXELS = 1536, 1_000_000


def nuclei_per_cell(
    channel: np.ndarray, cells: Cells, diameter_px: float
) -> np.ndarray | None:
    """Counts the nuclei of every cell.

    A nucleus belongs to the cell that holds most of it. Large fields are processed in
    tiles, so that only a smoothed copy of the channel grows with the field.

    Args:
      channel: (H, W) uint8 brightness of the nuclei.
      cells: the cells of the field.
      diameter_px: diameter of a typical cell.

    Returns:
      (N,) int64 counts; None if the channel shows no nucleus, neither in cells nor beside
      them.
    """
    step = max(1, round(diameter_px / _WORKING_DIAMETER_PX))
    diameter = diameter_px / step
    light = _reduced_and_smooth(channel, step, max(0.7, _QUIET * diameter))
    levels = _levels(channel, light)
    if levels is None:
        return None
    labels = cells.labels[step // 2 :: step, step // 2 :: step]
    light = light[: labels.shape[0], : labels.shape[1]]
    boxes = cells.boxes_yxyx
    middles = (boxes[:, :2] + boxes[:, 2:]) / (2 * step)
    counts, any_nucleus = np.zeros(len(cells), np.int64), False
    size_yx = (light.shape[0], light.shape[1])
    for tile in tiling.tiles_of(size_yx, _TILE_PX, min(round(3 * diameter), 500)):
        owned = np.flatnonzero(tile.owns(middles))
        if owned.size:
            window = tuple(slice(start, start + _TILE_PX) for start in tile.corner_yx)
            nuclei = _find(light[window], levels, diameter)
            counts[owned] = _count(nuclei, labels[window], owned + 1)
            any_nucleus |= bool(nuclei.any())
    # The levels alone do not decide, since uneven illumination stands out of the noise too.
    return counts if any_nucleus else None


def _reduced_and_smooth(channel: np.ndarray, step: int, sigma: float) -> np.ndarray:
    """Returns uint8 means of step x step px, smoothed by a Gaussian."""
    from PIL import Image, ImageFilter

    plane = Image.fromarray(np.ascontiguousarray(channel))
    plane = plane.reduce(step) if step > 1 else plane
    return np.asarray(plane.filter(ImageFilter.GaussianBlur(sigma)))


def _levels(channel: np.ndarray, light: np.ndarray) -> tuple[float, float] | None:
    """Returns the grey levels of background and bright nuclei; None without nuclei."""
    from skimage import filters

    every = max(1, round((light.size / _SAMPLE_PIXELS) ** 0.5))
    sample = light[::every, ::every].ravel()
    if sample.min() == sample.max():
        return None
    threshold = filters.threshold_otsu(sample)
    dark = float(np.median(sample[sample <= threshold]))
    bright = float(sample[sample > threshold].mean())
    # Smoothing leaves less than a third of the channel's noise.
    is_there = noise.stands_out(bright - dark, noise.noise_sd(channel) / 3)
    return (dark, bright) if is_there else None


def _find(
    light: np.ndarray, levels: tuple[float, float], diameter: float
) -> np.ndarray:
    """Returns (H, W) int32 labels of the nuclei; some may be missing."""
    import cv2

    dark, bright = levels
    rise = bright - dark
    logs = np.arange(256, dtype=np.float32) - np.float32(dark)
    logs = np.log(np.maximum(logs, 0) + _DARK * rise)[light]
    contrast = _smooth(logs, _FINE * diameter)
    contrast -= _smooth(logs, _COARSE * diameter)
    mask = (light > dark + _LEVEL * rise) & (contrast > 0)
    depth = cv2.distanceTransform(
        mask.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    depth = _smooth(depth, _QUIET * diameter) * np.float32(_SHAPE / diameter)
    nuclei = _part_hills(depth + contrast, mask)
    count = int(nuclei.max(initial=0))
    best = _highest(nuclei[mask], contrast[mask], count)
    areas = np.bincount(nuclei[mask], minlength=count + 1)
    smallest = _SMALLEST_OF_DISC * sizes.disc_area(diameter)
    kept = (areas >= smallest) & (best >= _LEAST_CONTRAST)
    kept[0] = False
    if kept.any():
        kept &= areas >= _SMALLEST_OF_MEDIAN * np.median(areas[kept])
    return components.keep_labels(nuclei, kept)


def _smooth(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Smooths a float32 plane by a Gaussian that ends at 3 sigma."""
    import cv2

    side = 2 * int(3 * sigma + 0.5) + 1
    return cv2.GaussianBlur(plane, (side, side), sigma, borderType=cv2.BORDER_REFLECT)


def _part_hills(height: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Labels the hills in a mask, which are separated by dips.

    At first every maximum has a hill. Hills are then joined over their saddles, the highest
    saddle first, if the lower of the two hills rises less than _DIP above the saddle.
    """
    import cv2
    from scipy import ndimage
    from skimage import segmentation

    maxima = (cv2.dilate(height, np.ones((3, 3), np.uint8)) == height) & mask
    seeds, count = ndimage.label(maxima, np.ones((3, 3)))
    hills = segmentation.watershed(-height, seeds, mask=mask)
    tops = _highest(hills[mask], height[mask], count)
    parent = list(range(count + 1))

    def root(hill: int) -> int:
        while parent[hill] != hill:
            hill = parent[hill]
        return hill

    for one, other, saddle in _saddles(hills, height):
        lower, higher = sorted((root(one), root(other)), key=lambda hill: tops[hill])
        if lower != higher and tops[lower] - saddle < _DIP:
            parent[lower] = higher
    return np.array([root(hill) for hill in range(count + 1)], np.int32)[hills]


def _saddles(hills: np.ndarray, height: np.ndarray) -> list[tuple[int, int, float]]:
    """Returns the borders of two hills as (one, other, height), the highest first."""
    found = []
    for first, second in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:-1], np.s_[1:]),
    ):
        a, b = hills[first], hills[second]
        border = (a != b) & (a > 0) & (b > 0)
        level = np.minimum(height[first][border], height[second][border])
        found.append((a[border], b[border], level))
    one, other, level = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(-level, kind="stable")
    return list(
        zip(
            one[order].tolist(),
            other[order].tolist(),
            level[order].tolist(),
            strict=True,
        )
    )


def _highest(numbers: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Returns (count + 1,) the largest value of each number; -inf without a value."""
    highest = np.full(count + 1, -np.inf)
    order = np.argsort(values, kind="stable")
    # If a number has several values, the last one stays, which is the largest.
    highest[numbers[order]] = values[order]
    return highest


def _count(nuclei: np.ndarray, labels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Counts the nuclei of the wanted cells."""
    total = int(nuclei.max(initial=0))
    inside = nuclei > 0
    numbers, owners = nuclei[inside].astype(np.int64), labels[inside]
    areas = np.bincount(numbers, minlength=total + 1)
    size = int(max(wanted.max(), owners.max(initial=0))) + 1
    pairs, pixels = np.unique(numbers * size + owners, return_counts=True)
    number, owner = np.divmod(pairs, size)
    # A nucleus has at most one owner, which holds more than half of it.
    mine = 2 * pixels > areas[number]
    counts = np.bincount(owner[mine], minlength=size)
    if total:
        enough = _ENOUGH_OF_MEDIAN * np.median(areas[1:])
        counts = np.maximum(counts, np.bincount(owners, minlength=size) >= enough)
    return counts[wanted]
