"""Batches of crops for the namer: equally many of each type, composed and augmented."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from cellclass_tf.maskrcnn.cell_namer import crops

BATCH_SIZE = 64
# Wide enough for the largest crop at the largest shift.
WINDOW_PX = 96
_ZOOM = (0.8, 1.25)
_JITTER_PX = 4.0
_COMPOSED_SHARE = 0.6
# Smallest and largest fraction of another crop's cells that is pasted.
_PASTED_SHARE = (0.2, 0.7)
# Width of the rim that is pasted with a cell, and of the rim that is kept free around the
# cell to be classified.
_RIM_PX = 3
_GAIN = 0.3
_GAMMA = 0.3
# Change of the cytoplasm's contrast around the median of its field. The strength of phase
# contrast depends on the microscope.
_CONTRAST = 0.6
_NOISE = (0.0, 0.02)
_BLUR_PX = 0.5


@dataclasses.dataclass(frozen=True)
class Examples:
    """Cells to train on.

    Attributes:
      windows: windows around N cells, `WINDOW_PX` wide, not rotated.
      own: (N,) int32, label of each cell in its window.
      type_ids: (N,) int32, types of the cells, counted from 0.
    """

    windows: crops.Windows
    own: np.ndarray
    type_ids: np.ndarray


def draw_batches(
    examples: Examples, seed: int, size: int = BATCH_SIZE
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draws an endless series of batches.

    Args:
      examples: cells to draw from. Every type is drawn equally often.
      seed: random seed.
      size: B, number of crops in a batch.

    Yields:
      (B, 64, 64, 2) float32 crops in [0, 1], and (B,) int32 types, counted from 0.
    """
    rng = np.random.default_rng(seed)
    types = np.unique(examples.type_ids)
    by_type = [np.flatnonzero(examples.type_ids == t) for t in types]
    while True:
        kinds = rng.integers(len(types), size=size)
        # Another type; the same one if there is no other.
        others = kinds + rng.integers(1, max(len(types), 2), size=size)
        chosen, pasted = (
            np.array([rng.choice(by_type[kind % len(types)]) for kind in drawn])
            for drawn in (kinds, others)
        )
        pixels, levels = _composed(examples, chosen, pasted, rng)
        seen = crops.scale_nuclei(pixels, levels)
        yield _altered(seen, rng), examples.type_ids[chosen]


def _composed(
    examples: Examples,
    chosen: np.ndarray,
    pasted: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts crops of chosen cells, and pastes cells of other crops around some of them.

    Returns:
      The crops, (B, 64, 64, 2) uint8, and the brightness of the nuclei, (B,).
    """
    from scipy import ndimage

    pixels, labels = _cut(examples.windows, chosen, rng)
    others, other_labels = _cut(examples.windows, pasted, rng)
    own = labels == examples.own[chosen][:, None, None]
    taken = np.zeros_like(own)
    for n in np.flatnonzero(rng.random(len(chosen)) < _COMPOSED_SHARE):
        present = np.unique(other_labels[n])[1:]
        share = rng.uniform(*_PASTED_SHARE)
        kept = present[rng.random(len(present)) < share]
        taken[n] = np.isin(other_labels[n], kept)
    reach = (1, 2 * _RIM_PX + 1, 2 * _RIM_PX + 1)
    taken = ndimage.maximum_filter(taken.astype(np.uint8), reach)
    taken[ndimage.maximum_filter(own.astype(np.uint8), reach) > 0] = 0
    weights = ndimage.uniform_filter(taken.astype(np.float32), (1, 3, 3))[..., None]
    mixed = pixels + weights * (others.astype(np.float32) - pixels)
    return np.round(mixed).astype(np.uint8), examples.windows.levels[chosen]


def _cut(
    windows: crops.Windows, chosen: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts crops out of windows, shifted, zoomed, rotated and mirrored at random."""
    size = crops.CROP_PX
    pixels = np.empty((len(chosen), size, size, 2), np.uint8)
    labels = np.empty((len(chosen), size, size), np.int32)
    low, high = np.log(_ZOOM)
    zooms = np.exp(rng.uniform(low, high, len(chosen)))
    moves = rng.uniform(-_JITTER_PX, _JITTER_PX, (len(chosen), 2))
    turns = rng.integers(8, size=len(chosen))
    for n, index in enumerate(chosen):
        middle = windows.centres[index] + moves[n]
        cut = crops.cut(windows.pixels[index], middle, zooms[n])
        pixels[n] = _turned(cut, turns[n])
        top, left = middle - size / zooms[n] / 2
        steps = (np.arange(size) + 0.5) / zooms[n]
        where = np.ix_((top + steps).astype(int), (left + steps).astype(int))
        labels[n] = _turned(windows.labels[index][where], turns[n])
    return pixels, labels


def _turned(pixels: np.ndarray, turn: int) -> np.ndarray:
    """Returns a square in one of its eight orientations (rotated, mirrored)."""
    return np.rot90(pixels.swapaxes(0, 1) if turn >= 4 else pixels, turn % 4)


def _altered(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes gain, gamma and contrast, blurs, and adds noise, as between dishes and cameras."""
    from scipy import ndimage

    count = len(pixels)
    gains = np.exp(rng.uniform(-_GAIN, _GAIN, (count, 1, 1, 2)))
    gammas = np.exp(rng.uniform(-_GAMMA, _GAMMA, (count, 1, 1, 2)))
    seen = pixels.astype(np.float32) / 255
    contrast = np.exp(rng.uniform(-_CONTRAST, _CONTRAST, (count, 1, 1)))
    seen[..., 0] = 0.5 + (seen[..., 0] - 0.5) * contrast
    seen = np.clip(seen * gains.astype(np.float32), 0, 1)
    seen = np.power(seen, gammas.astype(np.float32))
    for n, sigma in enumerate(rng.uniform(0, _BLUR_PX, count)):
        # Three pixels are enough for such a narrow Gaussian.
        side = math.exp(-0.5 / sigma**2) if sigma > 0.2 else 0.0
        kernel = np.array([side, 1.0, side], np.float32) / (1 + 2 * side)
        for axis in (0, 1):
            seen[n] = ndimage.correlate1d(seen[n], kernel, axis=axis, mode="nearest")
    strength = rng.uniform(*_NOISE, (count, 1, 1, 1)).astype(np.float32)
    return seen + strength * rng.standard_normal(seen.shape, np.float32)
