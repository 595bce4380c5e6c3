"""Fields that show the same scene: the same bytes, file, or the same cells once more."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np

from cellclass_tf.core.manifest import ImageRow

BITS = 256
# Hashes that differ in at most so many bits are of one scene. Those of different fields
# differ in 128 on average, with a standard deviation of 8 to 10.
LIMIT = 64

SAME_BYTES = "the same bytes"
SAME_FILE = "the same scene of a raw file"

_GRID = 32
# Waves longer than two thirds of a field are those of uneven light.
_LOWEST = 3.0
# In roots of grey values. Dishes without cells have up to 0.6, from glow and noise.
_LEAST_STRUCTURE = 0.7
_LEAST_OF_CHANNEL = 0.3
# Cells of the grid over which the structure is spread; a lone cell fills some 13.
_LEAST_SPREAD = 48
# Length of the difference of the channels' spectra over that of their sum.
_LEAST_DIFFERENCE = 0.05
_BLOCK = 512


class Likeness(NamedTuple):
    """Two fields that show the same scene.

    Attributes:
      one: the row that comes first.
      other: the row that comes later.
      why: SAME_BYTES, SAME_FILE or 'alike in N of 256 bits'.
    """

    one: ImageRow
    other: ImageRow
    why: str


def scene_hash(image: np.ndarray) -> str:
    """Says in 256 bits what a field shows, to find the same scene once more.

    The signs of low frequencies of the cosine transform (Zauner 2010, "Implementation
    and benchmarking of perceptual image hash functions", section 3.2.1), without the
    lowest, which are those of uneven light; 128 of the sum and 128 of the difference of
    both channels, which are independent however alike the channels are. Brightness,
    noise, blur and size hardly matter. It bears shifts of up to 2 % of a field's width,
    and neither turns nor crops.

    Args:
      image: (H, W, 3) uint8, green cytoplasm, blue nuclei.

    Returns:
      64 hexadecimal digits; '' where there is too little to tell the field from others:
      fewer than some five cells, or a side of less than 32 px.
    """
    if min(image.shape[:2]) < _GRID:
        return ""
    spectra = [_spectrum(image[..., channel]) for channel in (2, 1)]
    strengths = [np.linalg.norm(spectrum) / _GRID for spectrum in spectra]
    if np.hypot(*strengths) < _LEAST_STRUCTURE:
        return ""
    seen = [
        spectrum / np.linalg.norm(spectrum)
        for spectrum, strength in zip(spectra, strengths, strict=True)
        if strength >= _LEAST_OF_CHANNEL
    ]
    if _spread(seen) < _LEAST_SPREAD:
        return ""
    total, difference = seen[0] + seen[-1], seen[0] - seen[-1]
    half = BITS // 2
    if np.linalg.norm(difference) < _LEAST_DIFFERENCE * np.linalg.norm(total):
        # One channel alone, or twice the same: its next frequencies say more.
        signs = total > 0
    else:
        signs = np.concatenate((total[:half], difference[:half])) > 0
    return np.packbits(signs).tobytes().hex()


def find_near_duplicates(
    rows: Sequence[ImageRow],
    apart: Callable[[ImageRow], Hashable] | None = None,
    limit: int = LIMIT,
) -> list[Likeness]:
    """Finds fields of the same bytes or raw scene, or with hashes that are alike.

    Of many that are all alike not every pair is listed, but enough to join them: those
    of one content follow from their first, and of those with like hashes each row has
    its nearest earlier one of every group.

    Args:
      rows: images. Empty columns are unknown, and like no others.
      apart: what rows must differ in to be of interest, such as their group; None for
        all.
      limit: bits in which the hashes of one scene may differ.

    Returns:
      The pairs, by the place of their later row.

    Raises:
      ValueError: if a row's scene_hash is not 64 hexadecimal digits.
    """
    groups = [apart(row) for row in rows] if apart else list(range(len(rows)))
    number = {group: n for n, group in enumerate(dict.fromkeys(groups))}
    codes = np.array([number[group] for group in groups], np.int64)
    found: dict[tuple[int, int], str] = {}
    for pair in _equal([[row.image_sha256] for row in rows], codes):
        found.setdefault(pair, SAME_BYTES)
    for pair in _equal([_scenes_of_files(row) for row in rows], codes):
        found.setdefault(pair, SAME_FILE)
    known = [n for n, row in enumerate(rows) if row.scene_hash]
    for one, other, differ in _near([rows[n] for n in known], codes[known], limit):
        why = f"alike in {BITS - differ} of {BITS} bits"
        found.setdefault((known[one], known[other]), why)
    ordered = sorted(found, key=lambda pair: pair[::-1])
    return [Likeness(rows[i], rows[j], found[i, j]) for i, j in ordered]


def _spectrum(plane: np.ndarray) -> np.ndarray:
    """The chosen frequencies of a channel, lowest first: (256,) float64."""
    from scipy import fft

    rows, columns = (np.arange(_GRID + 1) * size // _GRID for size in plane.shape)
    # A strip at a time, since numpy would copy the whole plane as 64-bit numbers.
    strips = [
        plane[top:foot].sum(axis=0, dtype=np.int64)
        for top, foot in itertools.pairwise(rows)
    ]
    sums = np.add.reduceat(strips, columns[:-1], axis=1)
    means = sums / np.outer(np.diff(rows), np.diff(columns))
    # Roots keep a bright bit of debris from outshining the cells.
    return fft.dctn(np.sqrt(means), norm="ortho").ravel()[_frequencies()]


@functools.cache
def _frequencies() -> np.ndarray:
    height, width = np.indices((_GRID, _GRID))
    radius = np.hypot(height, width).ravel()
    order = np.argsort(radius, kind="stable")
    return order[radius[order] >= _LOWEST][:BITS]


def _spread(spectra: Sequence[np.ndarray]) -> float:
    """Over how many cells of the grid the structure is spread (participation ratio)."""
    from scipy import fft

    energy = np.zeros((_GRID, _GRID))
    for spectrum in spectra:
        whole = np.zeros(_GRID * _GRID)
        whole[_frequencies()] = spectrum
        energy += fft.idctn(whole.reshape(_GRID, _GRID), norm="ortho") ** 2
    return float(energy.sum() ** 2 / (energy**2).sum())


def _scenes_of_files(row: ImageRow) -> list[str]:
    """Where in which raw file a row comes from, at whatever time.

    Other scenes of the file may be other wells: of those the group says what they are.
    """
    # Of a field with one file a channel there are several, parted by |.
    return [f"{sha}/{row.scene}" for sha in row.raw_sha256.split("|") if sha]


def _equal(values: Sequence[Sequence[str]], codes: np.ndarray) -> list[tuple[int, int]]:
    """Pairs that share a value: its first row, and the first of every other group."""
    first: dict[str, int] = {}
    pairs, seen = [], set()
    for place, value in ((n, value) for n, row in enumerate(values) for value in row):
        if not value:
            continue
        start = first.setdefault(value, place)
        if codes[start] != codes[place] and (value, codes[place]) not in seen:
            seen.add((value, codes[place]))
            pairs.append((start, place))
    return pairs


def _near(
    rows: Sequence[ImageRow], codes: np.ndarray, limit: int
) -> list[tuple[int, int, int]]:
    """Earlier row, later row and bits that differ; the nearest of every group."""
    # The product of signs counts bits that agree less those that differ, faster than
    # anything that works on bits.
    signs = np.array([_signs(row) for row in rows], np.float32).reshape(-1, BITS)
    pairs = []
    for start in range(0, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        differ = (BITS - signs[start:stop] @ signs[:stop].T) / 2
        later, earlier = np.nonzero(differ <= limit)
        bits = differ[later, earlier].astype(int)
        later += start
        keep = (earlier < later) & (codes[earlier] != codes[later])
        later, earlier, bits = later[keep], earlier[keep], bits[keep]
        order = np.lexsort((earlier, bits, codes[earlier], later))
        later, earlier, bits = later[order], earlier[order], bits[order]
        of_group = np.stack((later, codes[earlier]))
        is_first = np.ones(len(later), bool)
        is_first[1:] = (of_group[:, 1:] != of_group[:, :-1]).any(axis=0)
        found = (earlier[is_first], later[is_first], bits[is_first])
        pairs += zip(*(column.tolist() for column in found), strict=True)
    return pairs


def _signs(row: ImageRow) -> np.ndarray:
    try:
        packed = np.frombuffer(bytes.fromhex(row.scene_hash), np.uint8)
    except ValueError:
        packed = np.empty(0, np.uint8)
    if packed.size != BITS // 8:
        raise ValueError(
            f"{row.image}: expected {BITS // 4} hexadecimal digits in the column "
            f"scene_hash, got {row.scene_hash!r}. Empty it."
        )
    return np.unpackbits(packed) * 2.0 - 1
