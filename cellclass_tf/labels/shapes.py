"""Measures the shapes of all cells of a field at once, with the values of scikit-image."""

from __future__ import annotations

import dataclasses

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels.runs import Runs, runs_of, stripes

# Coefficients of Crofton's formula in four directions. The index is a sum over the pixels of
# a 2 x 2 window that belong to the cell: 1 lower right, 2 upper right, 4 lower left, 8 upper
# left (Legland, Kieu & Devaux 2007, Image Anal. Stereol. 26, 83).
_R = 1 / np.sqrt(2)
_CROFTON = (np.pi / 4) * np.array(
    [0, 1 + _R, _R, 2 * _R, 0, 1 + _R, 0, _R, 1, 2, _R, _R, 1, 2, 0, 0]
)
# A pixel whose centre lies on the hull's border counts as inside it.
_ON_BORDER = 1e-9
# Offsets (x, y) from the centre of a pixel to the middles of its edges, in half pixels.
_EDGES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)], np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Shapes:
    """Measurements of N cells, (N,) float64 each, in pixels; see `cell_table`.

    Attributes:
      centroid_y, centroid_x: centre of mass.
      axis_major, axis_minor: axes of the ellipse with the same second moments.
      eccentricity: eccentricity of that ellipse.
      orientation: angle of its long axis, in radians from the rows' axis, counter-clockwise.
      solidity: area over the number of pixels whose centres lie in the convex hull.
      perimeter: perimeter by Crofton's formula in four directions.
      feret_diameter: largest distance between two points of the outline; points are the
        middles of the outer edges of pixels.
    """

    centroid_y: np.ndarray
    centroid_x: np.ndarray
    axis_major: np.ndarray
    axis_minor: np.ndarray
    eccentricity: np.ndarray
    orientation: np.ndarray
    solidity: np.ndarray
    perimeter: np.ndarray
    feret_diameter: np.ndarray


def shapes_of(cells: Cells, runs: Runs | None = None) -> Shapes:
    """Measures the cells of a field.

    Args:
      cells: N cells.
      runs: result of `runs_of(cells.labels)`; None to compute it here.
    """
    runs = runs_of(cells.labels) if runs is None else runs
    solidity, feret = _hulls(cells, runs)
    return Shapes(
        **_moments(cells, runs),
        solidity=solidity,
        perimeter=_perimeters(cells),
        feret_diameter=feret,
    )


def _moments(cells: Cells, runs: Runs) -> dict[str, np.ndarray]:
    """Returns centroids, axes, eccentricity and orientation."""
    count = len(cells) + 1
    corners = np.concatenate([[[0, 0]], cells.boxes_yxyx[:, :2]]).astype(np.int64)
    # Coordinates start at the corner of the cell's box, so that sums stay exact.
    top, left = corners[runs.labels].T
    n, y, first, stop = (
        runs.lengths,
        runs.rows - top,
        runs.starts - left,
        runs.stops - left,
    )
    x = (first + stop - 1) * n // 2
    xx = _sum_of_squares(stop) - _sum_of_squares(first)
    sums = np.stack(
        [
            np.bincount(runs.labels, values, count)
            for values in (n * y, x, n * y * y, xx, y * x)
        ]
    )
    areas = np.maximum(cells.areas_px, 1)
    y, x, yy, xx, yx = sums[:, 1:] / areas
    yy, xx, yx = yy - y * y, xx - x * x, yx - y * x
    half, apart = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    large, small = half + apart, np.maximum(half - apart, 0)
    # A line of pixels has no width; a rest from rounding is removed.
    small[small < 1e-12 * np.maximum(large, 1)] = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        eccentricity = np.where(large > 0, np.sqrt(1 - small / large), 0)
    # As in scikit-image where the long axis has no direction.
    even = np.isclose(yy, xx, rtol=1e-12, atol=1e-12)
    orientation = np.where(
        even,
        np.where(yx > 0, np.pi / 4, -np.pi / 4),
        0.5 * np.arctan2(2 * yx, yy - xx),
    )
    top, left = corners[1:].T
    return {
        "centroid_y": y + top,
        "centroid_x": x + left,
        "axis_major": 4 * np.sqrt(large),
        "axis_minor": 4 * np.sqrt(small),
        "eccentricity": eccentricity,
        "orientation": orientation,
    }


def _sum_of_squares(stop: np.ndarray) -> np.ndarray:
    """Returns 0² + 1² + … + (stop - 1)²."""
    return stop * (stop - 1) * (2 * stop - 1) // 6


def _perimeters(cells: Cells) -> np.ndarray:
    sums = np.zeros(len(cells) + 1)
    height, width = cells.labels.shape
    for rows in stripes(cells.labels.shape):
        # The 2 x 2 windows whose lower right pixel lies in these rows, or below the image.
        last = rows.stop + (rows.stop == height)
        around = np.zeros((last - rows.start + 1, width + 2), np.int32)
        first = max(0, rows.start - 1)
        part = cells.labels[first : rows.stop]
        offset = first - (rows.start - 1)
        around[offset : offset + len(part), 1:-1] = part
        # No window that wraps around to the next row holds a cell, because of the margin.
        flat, below = around.ravel(), width + 2
        window = (
            flat[below + 1 :],
            flat[1:-below],
            flat[below:-1],
            flat[: -below - 1],
        )
        differ = window[0] != window[1]
        for other in window[2:]:
            differ |= window[0] != other
        places = np.flatnonzero(differ)
        corners = [pixels[places] for pixels in window]
        for number, label in enumerate(corners):
            # Each cell of a window counts once.
            new = label > 0
            for before in corners[:number]:
                new &= before != label
            kind = sum(
                (other == label).astype(np.int64) << bit
                for bit, other in enumerate(corners)
            )
            sums += np.bincount(label[new], _CROFTON[kind[new]], len(sums))
    return sums[1:]


def _hulls(cells: Cells, runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Returns solidity and Feret diameter, from the convex hull of each cell."""
    import cv2

    order = np.argsort(runs.labels, kind="stable")
    ends = np.cumsum(np.bincount(runs.labels, minlength=len(cells) + 1))[1:]
    # The first and the last pixel of each run, as (x, y).
    pixels = np.empty((len(order), 2, 2), np.int32)
    pixels[:, 0, 0], pixels[:, 1, 0] = runs.starts[order], runs.stops[order] - 1
    pixels[..., 1] = runs.rows[order, np.newaxis]
    hulls, feret = [], np.zeros(len(cells))
    first = 0
    for index, end in enumerate(ends.tolist()):
        corners = cv2.convexHull(pixels[first:end].reshape(-1, 1, 2))
        # In half pixels, so that OpenCV's hull of whole numbers is exact.
        points = (2 * corners + _EDGES).reshape(-1, 1, 2)
        hull = cv2.convexHull(points).reshape(-1, 2)
        first = end
        feret[index] = _widest(hull) / 2
        hulls.append(hull)
    return cells.areas_px / _pixels_in(hulls), feret


def _widest(points: np.ndarray) -> float:
    """Returns the largest distance between two of (V, 2) points."""
    x, y = (np.subtract.outer(along, along) for along in points.T.astype(np.int64))
    return float((x * x + y * y).max()) ** 0.5


def _pixels_in(hulls: list[np.ndarray]) -> np.ndarray:
    """Counts the pixels whose centres lie in each convex polygon.

    Args:
      hulls: N polygons (V, 2) of (x, y) in half pixels; the first pixel's centre is (0, 0).

    Returns:
      (N,) int64 counts.
    """
    if not hulls:
        return np.zeros(0, np.int64)
    corners = np.array([len(hull) for hull in hulls])
    of = np.repeat(np.arange(len(hulls)), corners)
    x, y = np.concatenate(hulls).T / 2
    # The corner after the last one of a hull is its first.
    ends = np.cumsum(corners)
    ahead = np.arange(1, len(of) + 1)
    ahead[ends - 1] = ends - corners
    next_x, next_y = x[ahead], y[ahead]
    slanted = y != next_y
    of, x, y = of[slanted], x[slanted], y[slanted]
    next_x, next_y = next_x[slanted], next_y[slanted]
    # Every row of pixels that an edge meets, edge by edge.
    top = np.ceil(np.minimum(y, next_y)).astype(np.int64)
    met = np.floor(np.maximum(y, next_y)).astype(np.int64) - top + 1
    edge = np.repeat(np.arange(len(of)), met)
    row = top[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(met) - met, met)
    share = (row - y[edge]) / (next_y - y)[edge]
    at = x[edge] + share * (next_x - x)[edge]
    # Rows of one polygon follow each other in `low` and `high`.
    tops = np.full(len(hulls), np.iinfo(np.int64).max)
    np.minimum.at(tops, of, top)
    bottoms = np.zeros(len(hulls), np.int64)
    np.maximum.at(bottoms, of, top + met)
    heights = bottoms - tops
    place = (np.cumsum(heights) - heights - tops)[of[edge]] + row
    low = np.full(heights.sum(), np.inf)
    high = np.full(heights.sum(), -np.inf)
    np.minimum.at(low, place, at)
    np.maximum.at(high, place, at)
    inside = np.floor(high + _ON_BORDER) - np.ceil(low - _ON_BORDER) + 1
    return np.add.reduceat(np.maximum(inside, 0), np.cumsum(heights) - heights)
