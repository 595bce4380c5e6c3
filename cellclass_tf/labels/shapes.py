"""The shapes of all cells of a field at once, as scikit-image measures them one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from cellclass_tf.core.cells import Cells

# Pixels that are worked on at once, so that memory stays bounded in any field.
_PIXELS_AT_ONCE = 1 << 20
# Coefficients of Crofton's formula in four directions, by which of the pixels of a 2 x 2
# window are of the cell: 1 lower right, 2 upper right, 4 lower left, 8 upper left
# (Legland, Kieu & Devaux 2007, Image Anal. Stereol. 26, 83).
_R = 1 / np.sqrt(2)
_CROFTON = (np.pi / 4) * np.array(
    [0, 1 + _R, _R, 2 * _R, 0, 1 + _R, 0, _R, 1, 2, _R, _R, 1, 2, 0, 0]
)
# A pixel's middle on the hull's border counts as in it.
_ON_BORDER = 1e-9


@dataclasses.dataclass(frozen=True, eq=False)
class Shapes:
    """Measurements of N cells, (N,) float64 each, in pixels; see `cell_table`.

    Attributes:
      centroid_y, centroid_x: centre of mass.
      axis_major, axis_minor: of the ellipse of the same second moments.
      eccentricity: of that ellipse.
      orientation: of its long axis, in radians from the rows' axis, counter-clockwise.
      solidity: area over the pixels whose middles lie in the convex hull.
      perimeter: by Crofton's formula in four directions.
      feret_diameter: largest distance of two points of the outline; points are the middles
        of the outer edges of pixels.
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


def shapes_of(cells: Cells) -> Shapes:
    """Measures the cells of a field.

    All but hulls is summed over the label image, a stripe of rows at a time.
    """
    moments = _moments(cells)
    solidity, feret = _hulls(cells)
    return Shapes(*moments, solidity, _perimeters(cells), feret)


def means_of(cells: Cells, channel: np.ndarray) -> np.ndarray:
    """Returns the mean of an (H, W) image in each cell, (N,) float64."""
    sums = np.zeros(len(cells) + 1)
    for rows in _stripes(cells.labels):
        part = cells.labels[rows].ravel()
        sums += np.bincount(part, channel[rows].ravel(), len(sums))
    return sums[1:] / cells.areas_px


def _stripes(labels: np.ndarray) -> Iterator[slice]:
    step = max(1, _PIXELS_AT_ONCE // max(1, labels.shape[1]))
    for first in range(0, labels.shape[0], step):
        yield slice(first, min(first + step, labels.shape[0]))


def _moments(cells: Cells) -> tuple[np.ndarray, ...]:
    """Centroids, axes, eccentricity and orientation."""
    count = len(cells) + 1
    corners = np.concatenate([[[0, 0]], cells.boxes_yxyx[:, :2]]).astype(np.int64)
    sums = np.zeros((5, count))
    for rows in _stripes(cells.labels):
        labels = cells.labels[rows]
        y, x = np.nonzero(labels)
        of = labels[y, x]
        # From the corner of the cell's box, so that sums stay exact.
        y, x = y + rows.start - corners[of, 0], x - corners[of, 1]
        for total, values in zip(sums, (y, x, y * y, x * x, y * x), strict=True):
            total += np.bincount(of, values, count)
    areas = np.maximum(cells.areas_px, 1)
    y, x, yy, xx, yx = sums[:, 1:] / areas
    yy, xx, yx = yy - y * y, xx - x * x, yx - y * x
    half, apart = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    large, small = half + apart, np.maximum(half - apart, 0)
    # What is left of a line of pixels by rounding is none.
    small[small < 1e-12 * np.maximum(large, 1)] = 0
    with np.errstate(invalid="ignore", divide="ignore"):
        eccentricity = np.where(large > 0, np.sqrt(1 - small / large), 0)
    # The same where the long axis has no direction.
    even = np.isclose(yy, xx, rtol=1e-12, atol=1e-12)
    orientation = np.where(
        even,
        np.where(yx > 0, np.pi / 4, -np.pi / 4),
        0.5 * np.arctan2(2 * yx, yy - xx),
    )
    top, left = corners[1:].T
    return (
        y + top,
        x + left,
        4 * np.sqrt(large),
        4 * np.sqrt(small),
        eccentricity,
        orientation,
    )


def _perimeters(cells: Cells) -> np.ndarray:
    sums = np.zeros(len(cells) + 1)
    height, width = cells.labels.shape
    for rows in _stripes(cells.labels):
        # Windows whose lower right pixel lies in these rows, and below the last one.
        last = rows.stop + (rows.stop == height)
        around = np.zeros((last - rows.start + 1, width + 2), np.int32)
        first = max(0, rows.start - 1)
        part = cells.labels[first : rows.stop]
        offset = first - (rows.start - 1)
        around[offset : offset + len(part), 1:-1] = part
        window = (
            around[1:, 1:],
            around[:-1, 1:],
            around[1:, :-1],
            around[:-1, :-1],
        )
        differ = window[0] != window[1]
        for other in window[2:]:
            differ |= window[0] != other
        places = np.nonzero(differ)
        corners = [pixels[places] for pixels in window]
        for number, label in enumerate(corners):
            # Each cell of a window once.
            new = label > 0
            for before in corners[:number]:
                new &= before != label
            kind = sum(
                (other == label).astype(np.int64) << bit
                for bit, other in enumerate(corners)
            )
            sums += np.bincount(label[new], _CROFTON[kind[new]], len(sums))
    return sums[1:]


def _hulls(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Solidity and Feret diameter, from the convex hull of each cell."""
    from scipy.spatial import ConvexHull, distance

    points, ends = _border_points(cells)
    solidity, feret = np.zeros((2, len(cells)))
    first = 0
    for index, end in enumerate(ends.tolist()):
        hull = points[first:end]
        hull = hull[ConvexHull(hull).vertices]
        first = end
        feret[index] = distance.pdist(hull).max()
        solidity[index] = cells.areas_px[index] / _pixels_in(hull)
    return solidity, feret


def _border_points(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """The middles of the outer edges of pixels at both ends of each row and column.

    Returns:
      (P, 2) points (y, x), a pixel's middle being at whole numbers, by cell; and (N,) where
      those of each cell end.
    """
    found = []
    for labels, turned in ((cells.labels, False), (cells.labels.T, True)):
        of, row, low, high = _ends_of_rows(labels)
        for at in (low - 0.5, high + 0.5):
            pair = (at, row) if turned else (row, at)
            found.append(np.column_stack([of, *pair]))
    table = np.concatenate(found)
    table = table[np.argsort(table[:, 0], kind="stable")]
    counts = np.bincount(table[:, 0].astype(np.int64), minlength=len(cells) + 1)[1:]
    return table[:, 1:], np.cumsum(counts)


def _ends_of_rows(labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Cell, row, and its first and last column, of each cell in each row."""
    parts = []
    for rows in _stripes(labels):
        part = np.ascontiguousarray(labels[rows])
        starts = np.ones(part.shape, bool)
        starts[:, 1:] = part[:, 1:] != part[:, :-1]
        row, low = np.nonzero(starts & (part > 0))
        stops = np.ones(part.shape, bool)
        stops[:, :-1] = starts[:, 1:]
        _, high = np.nonzero(stops & (part > 0))
        of = part[row, low].astype(np.int64)
        # A cell may have several runs in a row; they are sorted from left to right.
        key = of * part.shape[0] + row
        order = np.argsort(key, kind="stable")
        key = key[order]
        new = np.ones(len(key), bool)
        new[1:] = key[1:] != key[:-1]
        last = np.ones(len(key), bool)
        last[:-1] = new[1:]
        parts.append(
            (
                of[order][new],
                row[order][new] + rows.start,
                low[order][new],
                high[order][last],
            )
        )
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _pixels_in(hull: np.ndarray) -> int:
    """How many pixels have their middle in a convex polygon of (V, 2) points (y, x)."""
    rows = np.arange(np.ceil(hull[:, 0].min()), np.floor(hull[:, 0].max()) + 1)
    y, x = hull.T
    next_y, next_x = np.roll(y, -1), np.roll(x, -1)
    slanted = y != next_y
    y, x, next_y, next_x = y[slanted], x[slanted], next_y[slanted], next_x[slanted]
    # (R, E): where each edge meets each row, if it does.
    share = (rows[:, np.newaxis] - y) / (next_y - y)
    meets = (share >= -_ON_BORDER) & (share <= 1 + _ON_BORDER)
    at = x + share * (next_x - x)
    low = np.where(meets, at, np.inf).min(axis=1)
    high = np.where(meets, at, -np.inf).max(axis=1)
    inside = np.floor(high + _ON_BORDER) - np.ceil(low - _ON_BORDER) + 1
    return int(np.maximum(inside, 0).sum())
