"""Describes a label image by runs: pixels of one cell that are adjacent in a row.

A field has about a hundred times fewer runs than pixels, so that sums over the pixels of
cells are faster by runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Number of pixels that are processed at once, which limits the memory for large fields.
_PIXELS_AT_ONCE = 1 << 20


class Runs(NamedTuple):
    """The R runs of a label image, from top to bottom and from left to right.

    Attributes:
      labels: (R,) int64 label of each run, from 1 on.
      rows: (R,) int64 row of the image.
      starts: (R,) int64 first column.
      stops: (R,) int64 column behind the last one.
    """

    labels: np.ndarray
    rows: np.ndarray
    starts: np.ndarray
    stops: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """(R,) int64 number of pixels of each run."""
        return self.stops - self.starts


def stripes(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yields slices of rows that together cover an image of this shape."""
    step = max(1, _PIXELS_AT_ONCE // max(1, shape[1]))
    for first in range(0, shape[0], step):
        yield slice(first, min(first + step, shape[0]))


def runs_of(labels: np.ndarray) -> Runs:
    """Returns the runs of the cells in an (H, W) label image; 0 is background."""
    parts = [
        _runs_of_stripe(labels[rows], rows.start) for rows in stripes(labels.shape)
    ]
    return Runs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def sums_of(runs: Runs, channel: np.ndarray, count: int) -> np.ndarray:
    """Adds up an image within each cell.

    Args:
      runs: the runs of the cells.
      channel: (H, W) whole numbers.
      count: number of cells.

    Returns:
      (count,) float64 sum of the pixels of labels 1 to `count`; exact below 2**53.
    """
    sums = np.zeros(count + 1)
    width = channel.shape[1]
    for rows in stripes(channel.shape):
        first, last = np.searchsorted(runs.rows, (rows.start, rows.stop))
        before = np.zeros((rows.stop - rows.start) * width + 1, np.int64)
        np.cumsum(channel[rows].ravel(), out=before[1:])
        at = (runs.rows[first:last] - rows.start) * width
        totals = before[at + runs.stops[first:last]]
        totals -= before[at + runs.starts[first:last]]
        sums += np.bincount(runs.labels[first:last], totals, count + 1)
    return sums[1:]


def _runs_of_stripe(labels: np.ndarray, top: int) -> tuple[np.ndarray, ...]:
    # A column of background before the first one ends the run of the row above.
    width = labels.shape[1] + 1
    padded = np.zeros((labels.shape[0], width), labels.dtype)
    padded[:, 1:] = labels
    flat = padded.ravel()
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    stops = np.append(starts[1:], flat.size)
    of = flat[starts].astype(np.int64)
    starts, stops, of = starts[of > 0], stops[of > 0], of[of > 0]
    rows, columns = np.divmod(starts, width)
    return of, rows + top, columns - 1, columns - 1 + stops - starts
