"""Cells that a person should look at, and why."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np

from cellclass_tf.cells import Cells

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
# Radius of the smallest nucleus that counts, as a share of the cell diameter.
_SMALLEST_NUCLEUS = 0.12
# Against the field's median nucleus: pieces of a neighbour's nucleus are smaller, and
# only larger ones may be two.
_SMALLEST_SHARE, _LARGE_SHARE = 0.3, 1.2
# Gaussians of the nuclei's channel, as shares of the cell diameter: what is smaller is
# texture, and what is larger is glow.
_FINE, _COARSE = 0.06, 0.6
# Nuclei are split where the distance to their border dips by this share of the diameter.
_SPLIT_DEPTH = 0.05
# Nuclei stand out of the channel's noise by so many standard deviations, else there is
# no use in looking for them.
_FEWEST_SD = 4.0
# Larger cells are reduced by a whole number, to this diameter or a little more.
_WORKING_DIAMETER_PX = 16.0


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

    Nuclei are bright spots of the blue channel against their neighbourhood, as far as
    they lie in the cell. A channel without nuclei tells nothing:
    then no cell lacks any. Cells that are cut are not blamed for lacking a nucleus, nor
    for being small.

    Args:
      image: (H, W, 3) uint8 merged image; blue is nuclei.
      cells: the cells of the field.
      diameter_px: of a typical cell.
      probabilities: (N,) of each cell, see `annotator.Found`; None if there are none.

    Returns:
      The doubtful cells, those with the gravest reasons first.
    """
    if not len(cells):
        return []
    cut = _cut_by_border(cells)
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
    middles = _middles(cells, doubtful)
    doubts = []
    for index, (y, x) in zip(doubtful.tolist(), middles, strict=True):
        reasons = tuple(r for r in REASONS if r in found and found[r][index])
        sure = None if probabilities is None else round(float(probabilities[index]), 3)
        area = int(cells.areas_px[index])
        doubts.append(Doubt(index + 1, reasons, sure, y, x, area))
    return sorted(doubts, key=_gravity)


def nuclei_per_cell(
    channel: np.ndarray, cells: Cells, diameter_px: float
) -> np.ndarray | None:
    """Counts the nuclei of every cell: bright pieces within its outline.

    Args:
      channel: (H, W) uint8, the nuclei's.
      cells: the cells of the field.
      diameter_px: of a typical cell.

    Returns:
      (N,) counts; None if nothing in the channel stands out of its noise.
    """
    from scipy import ndimage

    step = max(1, int(diameter_px / _WORKING_DIAMETER_PX))
    plane = _reduced(channel, step)
    labels = cells.labels[step // 2 :: step, step // 2 :: step]
    plane = plane[: labels.shape[0], : labels.shape[1]]
    diameter = diameter_px / step
    mask = _nuclei_mask(plane, diameter)
    if mask is None:
        return None
    mask &= labels > 0
    boxes = ndimage.find_objects(labels, max_label=len(cells))
    pieces = [
        _pieces(mask[box] & (labels[box] == index)) if box else []
        for index, box in enumerate(boxes, start=1)
    ]
    smallest = np.pi * (_SMALLEST_NUCLEUS * diameter) ** 2
    areas = [piece.sum() for cell in pieces for piece in cell]
    areas = [area for area in areas if area >= smallest]
    typical = float(np.median(areas)) if areas else 0.0
    smallest = max(smallest, _SMALLEST_SHARE * typical)
    counts = np.zeros(len(cells), int)
    for index, cell in enumerate(pieces):
        for piece in cell:
            if (area := piece.sum()) >= smallest:
                is_large = area > _LARGE_SHARE * typical
                counts[index] += _parts(piece, diameter) if is_large else 1
    return counts


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


def _cut_by_border(cells: Cells) -> np.ndarray:
    height, width = (side - _BORDER_PX for side in cells.labels.shape)
    top, left, bottom, right = cells.boxes_yxyx.T
    near = (top <= _BORDER_PX) | (left <= _BORDER_PX)
    return near | (bottom >= height) | (right >= width)


def _of_odd_size(areas: np.ndarray, cut: np.ndarray, diameter_px: float) -> np.ndarray:
    logs, whole = np.log(areas), ~cut
    if np.count_nonzero(whole) >= _FEWEST_TO_COMPARE:
        typical = np.median(logs[whole])
        spread = 1.4826 * np.median(np.abs(logs[whole] - typical))
        limit = max(_ODD_SD * spread, np.log(_ODD_FACTOR))
    else:
        typical = np.log(np.pi / 4 * diameter_px**2)
        limit = np.log(_ODD_FACTOR_OF_DISC)
    return (logs - typical > limit) | ((logs - typical < -limit) & whole)


def _reduced(channel: np.ndarray, step: int) -> np.ndarray:
    """Means over step x step px, float32."""
    from PIL import Image

    if step == 1:
        return channel.astype(np.float32)
    return np.asarray(Image.fromarray(channel).reduce(step), np.float32)


def _nuclei_mask(plane: np.ndarray, diameter: float) -> np.ndarray | None:
    """Pixels brighter than their neighbourhood and than half of Otsu's threshold."""
    from scipy import ndimage
    from skimage import filters

    fine = ndimage.gaussian_filter(plane, _FINE * diameter)
    threshold = filters.threshold_otsu(fine)
    above = fine > threshold
    if not above.any():
        return None
    steps = np.abs(np.diff(plane, axis=1))
    noise = np.median(steps) / (0.6745 * 2**0.5) if steps.size else 0.0
    contrast = fine[above].mean() - fine[~above].mean()
    if contrast <= max(_FEWEST_SD * noise, _FEWEST_SD):
        return None
    dark = float(fine[~above].mean())
    mask = fine > (threshold + dark) / 2
    return mask & (fine > ndimage.gaussian_filter(fine, _COARSE * diameter))


def _pieces(mask: np.ndarray) -> list[np.ndarray]:
    """The connected pieces of a mask, each (h, w) bool."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    return [labels == number for number in range(1, count + 1)]


def _parts(nucleus: np.ndarray, diameter: float) -> int:
    """In how many a large nucleus falls, by the distance to its border."""
    from scipy import ndimage
    from skimage import morphology

    padded = ndimage.binary_fill_holes(np.pad(nucleus, 1))
    distance = ndimage.distance_transform_edt(padded).astype(np.float32)
    distance = ndimage.gaussian_filter(distance, 0.5 * _FINE * diameter)
    peaks = morphology.h_maxima(distance, _SPLIT_DEPTH * diameter)
    return max(1, ndimage.label(peaks, np.ones((3, 3)))[1])


def _middles(cells: Cells, indices: Sequence[int]) -> list[tuple[float, float]]:
    middles = []
    for index in indices:
        y, x = np.nonzero(cells.mask(index))
        top, left = cells.boxes_yxyx[index][:2]
        middles.append(
            (round(float(top + y.mean()), 1), round(float(left + x.mean()), 1))
        )
    return middles
