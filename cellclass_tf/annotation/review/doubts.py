"""Finds cells that a person should look at, with the reasons."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import noise, sizes
from cellclass_tf.labels.nuclei_per_cell import nuclei_per_cell

LOW_PROBABILITY = "low probability"
TWO_NUCLEI = "two nuclei"
NO_NUCLEUS = "no nucleus"
ODD_SIZE = "odd size"
CUT = "cut by border"
# The most informative first, since a cell is drawn in the colour of its first reason.
REASONS = (LOW_PROBABILITY, TWO_NUCLEI, NO_NUCLEUS, ODD_SIZE, CUT)

# The outline of a cell that the border cuts may end this far from the border.
_BORDER_PX = 1
# Mean of cellpose's pixel probabilities. Correct cells are above 0.9 in most fields.
_LOW_PROBABILITY = 0.8
# Areas are compared on a logarithmic scale. A cell has an odd size if it is this many
# robust standard deviations away from the median, and larger or smaller by this factor; in
# fields with at least this many whole cells.
_ODD_SD = 3.0
_ODD_FACTOR = 2.0
_FEWEST_TO_COMPARE = 10
# In fields with fewer cells, the factor to the disc of the cell diameter.
_ODD_FACTOR_OF_DISC = 4.0


@dataclasses.dataclass(frozen=True)
class Doubt:
    """A doubtful cell.

    Attributes:
      cell: label of the cell.
      reasons: reasons, in the order of REASONS.
      probability: mean over its pixels of the network's probability; None if unknown.
      centroid_y_px, centroid_x_px: centroid of the cell.
      area_px: number of its pixels.
    """

    cell: int
    reasons: tuple[str, ...]
    probability: float | None
    centroid_y_px: float
    centroid_x_px: float
    area_px: int


def doubtful_cells(
    image: np.ndarray,
    cells: Cells,
    diameter_px: float,
    probabilities: np.ndarray | None = None,
) -> list[Doubt]:
    """Finds the cells that a person should look at.

    - low probability: the mean of the network's probability over the cell's pixels is
      below 0.8.
    - two nuclei: the cell has two nuclei or more; two cells may be outlined as one.
    - no nucleus: the cell has no nucleus; it may be debris, or half a cell.
    - odd size: the area is more than twice or less than half that of the field's median
      cell, and three robust standard deviations away from it. In fields with less than
      ten whole cells: more than four times or less than a quarter of the disc of the
      diameter.
    - cut by border: part of the cell lies outside the field.

    Nuclei are spots in the blue channel that are brighter than their neighbourhood. A
    nucleus belongs to the cell that holds most of it; a cell that holds a third of a
    typical nucleus also has one. If the field has no nuclei at all, no cell is reported
    for lacking one. Cells that the border cuts are not reported for lacking a nucleus or
    for being small.

    Args:
      image: (H, W, 3) uint8 merged image; blue is nuclei.
      cells: the cells of the field.
      diameter_px: diameter of a typical cell.
      probabilities: (N,) of each cell, see `protocol.Outlines`; None if there are none.

    Returns:
      The doubtful cells, those with the most serious reasons first.
    """
    if not len(cells):
        return []
    cut = cells.touch_border(_BORDER_PX)
    found = {
        CUT: cut,
        ODD_SIZE: _of_odd_size(cells.areas_px, cut, diameter_px),
    }
    nuclei = nuclei_per_cell(image[..., 2], cells, diameter_px)
    if nuclei is not None:
        found[TWO_NUCLEI] = nuclei >= 2
        found[NO_NUCLEUS] = (nuclei == 0) & ~cut
    if probabilities is not None:
        found[LOW_PROBABILITY] = probabilities < _LOW_PROBABILITY
    doubtful = np.flatnonzero(np.any(list(found.values()), axis=0))
    middles = _middles(cells, doubtful.tolist())
    doubts = []
    for index, (y, x) in zip(doubtful.tolist(), middles, strict=True):
        reasons = tuple(r for r in REASONS if r in found and found[r][index])
        sure = None if probabilities is None else round(float(probabilities[index]), 3)
        area = int(cells.areas_px[index])
        doubts.append(Doubt(index + 1, reasons, sure, y, x, area))
    return sorted(doubts, key=_gravity)


def summary(doubts: Iterable[Doubt]) -> str:
    """Counts doubts by reason: 'two nuclei 3; no nucleus 1'."""
    reasons = [reason for doubt in doubts for reason in doubt.reasons]
    return "; ".join(f"{r} {reasons.count(r)}" for r in REASONS if r in reasons)


def counts_of(text: str) -> dict[str, int]:
    """Reads the counts in a text of `summary`; every reason has one."""
    found = dict(re.findall(r"([a-z][a-z ]*[a-z]) (\d+)", text))
    return {reason: int(found.get(reason, 0)) for reason in REASONS}


def _gravity(doubt: Doubt) -> tuple:
    grave = [reason for reason in doubt.reasons if reason != CUT]
    sure = 1.0 if doubt.probability is None else doubt.probability
    return -len(grave), REASONS.index(doubt.reasons[0]), sure, doubt.cell


def _of_odd_size(areas: np.ndarray, cut: np.ndarray, diameter_px: float) -> np.ndarray:
    logs, whole = np.log(areas), ~cut
    if np.count_nonzero(whole) >= _FEWEST_TO_COMPARE:
        typical = np.median(logs[whole])
        spread = noise.robust_sd(logs[whole] - typical)
        limit = max(_ODD_SD * spread, np.log(_ODD_FACTOR))
    else:
        typical = np.log(sizes.disc_area(diameter_px))
        limit = np.log(_ODD_FACTOR_OF_DISC)
    return (logs - typical > limit) | ((logs - typical < -limit) & whole)


def _middles(cells: Cells, indices: Sequence[int]) -> list[tuple[float, float]]:
    middles = []
    for index in indices:
        y, x = np.nonzero(cells.mask(index))
        top, left = cells.boxes_yxyx[index][:2]
        middles.append(
            (round(float(top + y.mean()), 1), round(float(left + x.mean()), 1))
        )
    return middles
