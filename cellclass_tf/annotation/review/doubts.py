"""Cells that a person should look at, and why."""

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
# The most telling first: a cell is drawn in the colour of its first reason.
REASONS = (LOW_PROBABILITY, TWO_NUCLEI, NO_NUCLEUS, ODD_SIZE, CUT)

# Outlines may end so far before the border of the field that cuts their cell.
_BORDER_PX = 1
# Mean of cellpose's pixel probabilities. Sound cells lie above 0.9 in most fields.
_LOW_PROBABILITY = 0.8
# Areas are compared on a logarithmic scale: this many robust standard deviations, and at
# least twice as large or half as small, in fields of this many whole cells or more.
_ODD_SD = 3.0
_ODD_FACTOR = 2.0
_FEWEST_TO_COMPARE = 10
# Against the disc of the cell diameter alone, cells may differ more.
_ODD_FACTOR_OF_DISC = 4.0


@dataclasses.dataclass(frozen=True)
class Doubt:
    """A doubtful cell.

    Attributes:
      cell: its label.
      reasons: of REASONS, in their order.
      probability: mean over its pixels of the network's probability; None if unknown.
      centroid_y_px, centroid_x_px: its middle.
      area_px: its pixels.
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
    """Finds the cells that are worth a look.

    - low probability: the network was unsure of the cell's pixels (below 0.8).
    - two nuclei: two or more, as where two cells are outlined as one.
    - no nucleus: none, as where something else is outlined, or half a cell.
    - odd size: more than twice as large, or less than half as large, as the field's
      median cell, and three robust standard deviations off; in fields of less than ten
      whole cells, four times the disc of the diameter, or a quarter of it.
    - cut by border: part of it lies outside the field.

    Nuclei are bright spots of the blue channel against their neighbourhood; one counts
    for the cell that it mostly lies in, and a cell that holds a third of a typical one
    has one, too. A channel without nuclei tells nothing:
    then no cell lacks any. Cells that are cut are not blamed for lacking a nucleus, nor
    for being small.

    Args:
      image: (H, W, 3) uint8 merged image; blue is nuclei.
      cells: the cells of the field.
      diameter_px: of a typical cell.
      probabilities: (N,) of each cell, see `protocol.Outlines`; None if there are none.

    Returns:
      The doubtful cells, those with the gravest reasons first.
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
    """Reads what `summary` wrote; every reason has a count."""
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
