"""Finds near-duplicates: fields of the same bytes, the same raw scene, or alike scenes."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np

from cellclass_tf.core.manifest import ImageRow
from cellclass_tf.core.micrograph import FILE_SEPARATOR

BITS = 256
# Largest number of different bits of hashes of one scene. Hashes of different fields
# differ in 128 bits on average, with a standard deviation of 8 to 10.
LIMIT = 64

SAME_BYTES = "the same bytes"
SAME_FILE = "the same scene of a raw file"

_GRID = 32
# Lowest frequency that is used. Waves longer than two thirds of a field are those of
# uneven illumination.
_LOWEST = 3.0
# Least structure of a field and of a channel, in square roots of grey values. Dishes
# without cells have up to 0.6, from out-of-focus light and noise.
_LEAST_STRUCTURE = 0.7
_LEAST_OF_CHANNEL = 0.3
# Least number of grid cells over which the structure is spread; a single biological cell
# fills some 13.
_LEAST_SPREAD = 48
# Least ratio of the norms of difference and sum of the channels' spectra.
_LEAST_DIFFERENCE = 0.05
_BLOCK = 512
# Least correlation of two images of one view, and side in pixels of the reduced images.
_SAME_VIEW, _VIEW_PX = 0.78, 64
# Standard deviation in reduced pixels of the filter that estimates uneven illumination.
_LIGHT_PARTS = 4


class Likeness(NamedTuple):
    """Two fields that show the same scene.

    Attributes:
      one: the earlier row.
      other: the later row.
      why: SAME_BYTES, SAME_FILE, or 'alike in N of 256 bits', with ', mirrored or turned'
        if that is so for one of them.
    """

    one: ImageRow
    other: ImageRow
    why: str


def scene_hash(image: np.ndarray) -> str:
    """Returns a perceptual hash of 256 bits, by which the same scene is found again.

    The bits are the signs of low frequencies of the cosine transform (Zauner 2010,
    "Implementation and benchmarking of perceptual image hash functions", section 3.2.1),
    without the lowest ones, which stem from uneven illumination. 128 bits are those of the
    sum of both channels and 128 those of their difference, which are independent even if
    the channels are alike. Brightness, noise, blur and size have little effect. The hash
    tolerates shifts of up to 2 % of a field's width, but not crops. `find_near_duplicates`
    also finds mirrored and rotated copies.

    Args:
      image: (H, W, 3) uint8, green cytoplasm, blue nuclei.

    Returns:
      64 hexadecimal digits; '' if the field has too little structure for a hash: fewer
      than about five cells, or a side of less than 32 px.
    """
    if min(image.shape[:2]) < _GRID:
        return ""
    spectra = [_spectrum(image[..., channel]) for channel in (2, 1)]
    strengths = [np.linalg.norm(spectrum) / _GRID for spectrum in spectra]
    if math.hypot(*strengths) < _LEAST_STRUCTURE:
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
        # With one channel, or two equal ones, higher frequencies replace the difference.
        signs = total > 0
    else:
        signs = np.concatenate((total[:half], difference[:half])) > 0
    return np.packbits(signs).tobytes().hex()


def find_near_duplicates(
    rows: Sequence[ImageRow],
    apart: Callable[[ImageRow], Hashable] | None = None,
    limit: int = LIMIT,
) -> list[Likeness]:
    """Finds fields with the same bytes, from the same raw scene, or with similar hashes.

    Hashes are compared for all eight ways to mirror and rotate a field: a flip changes the
    sign of every second frequency, and a transposition exchanges frequencies.

    If many fields are alike, not every pair is returned, but enough pairs to connect them:
    rows of the same bytes or scene are paired with the first of them, and rows with similar
    hashes with the most similar earlier row of every group.

    Args:
      rows: rows of images. Empty columns are unknown, and match no other row.
      apart: function of a row; only pairs with different values, such as groups, are
        returned. None for all pairs.
      limit: number of bits in which the hashes of one scene may differ.

    Returns:
      The pairs, sorted by their later row.

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
    for one, other, differ, turned in _near(
        [rows[n] for n in known], codes[known], limit
    ):
        why = f"alike in {BITS - differ} of {BITS} bits"
        why += ", mirrored or turned" if turned else ""
        found.setdefault((known[one], known[other]), why)
    ordered = sorted(found, key=lambda pair: pair[::-1])
    return [Likeness(rows[i], rows[j], found[i, j]) for i, j in ordered]


def _spectrum(plane: np.ndarray) -> np.ndarray:
    """Returns the used frequencies of a channel, lowest first: (256,) float64."""
    from scipy import fft

    rows, columns = (np.arange(_GRID + 1) * size // _GRID for size in plane.shape)
    # In strips, since numpy would copy the whole plane as 64-bit numbers.
    strips = [
        plane[top:foot].sum(axis=0, dtype=np.int64)
        for top, foot in itertools.pairwise(rows)
    ]
    sums = np.add.reduceat(strips, columns[:-1], axis=1)
    means = sums / np.outer(np.diff(rows), np.diff(columns))
    # With square roots, bright debris does not dominate the cells.
    return fft.dctn(np.sqrt(means), norm="ortho").ravel()[_frequencies()]


@functools.cache
def _frequencies() -> np.ndarray:
    height, width = np.indices((_GRID, _GRID))
    radius = np.hypot(height, width).ravel()
    order = np.argsort(radius, kind="stable")
    return order[radius[order] >= _LOWEST][:BITS]


def _spread(spectra: Sequence[np.ndarray]) -> float:
    """Returns over how many grid cells the structure is spread (participation ratio)."""
    from scipy import fft

    energy = np.zeros((_GRID, _GRID))
    for spectrum in spectra:
        whole = np.zeros(_GRID * _GRID)
        whole[_frequencies()] = spectrum
        energy += fft.idctn(whole.reshape(_GRID, _GRID), norm="ortho") ** 2
    return float(energy.sum() ** 2 / (energy**2).sum())


def _scenes_of_files(row: ImageRow) -> list[str]:
    """Returns the raw files and the scene of a row, without its time point.

    Other scenes of the same file do not count, since they may be other wells.
    """
    # A field with one file per channel has several hashes.
    hashes = row.raw_sha256.split(FILE_SEPARATOR)
    return [f"{sha}/{row.scene}" for sha in hashes if sha]


def _equal(values: Sequence[Sequence[str]], codes: np.ndarray) -> list[tuple[int, int]]:
    """Pairs the first row with a value with the first such row of every other group."""
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
) -> list[tuple[int, int, int, bool]]:
    """Finds for each row the most similar earlier row of every other group.

    Returns:
      Earlier row, later row, number of different bits, and whether one of the two was
      mirrored or rotated.
    """
    # The product of signs is the number of equal bits minus that of different ones. This
    # is faster than operations on bits.
    signs = np.array([_signs(row) for row in rows], np.float32).reshape(-1, BITS)
    pairs: list[tuple[int, int, int, bool]] = []
    for start in range(0, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        agree = upright = signs[start:stop] @ signs[:stop].T
        for places, factors in _turns():
            turned = signs[start:stop, places] * factors
            agree = np.maximum(agree, turned @ signs[:stop].T)
        differ = (BITS - agree) / 2
        later, earlier = np.nonzero(differ <= limit)
        bits = np.ceil(differ[later, earlier]).astype(int)
        is_turned = (agree > upright)[later, earlier]
        later += start
        keep = (earlier < later) & (codes[earlier] != codes[later])
        order = np.lexsort((earlier, bits, codes[earlier], later))
        order = order[keep[order]]
        later, earlier, bits = later[order], earlier[order], bits[order]
        is_turned = is_turned[order]
        of_group = np.stack((later, codes[earlier]))
        is_first = np.ones(len(later), bool)
        is_first[1:] = (of_group[:, 1:] != of_group[:, :-1]).any(axis=0)
        found = (part[is_first] for part in (earlier, later, bits, is_turned))
        pairs += zip(*(column.tolist() for column in found), strict=True)
    return pairs


@functools.cache
def _turns() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Returns transformations of signs that correspond to mirroring and rotating a field.

    Each consists of (256,) indices of the signs to take, and (256,) factors, which are 0
    for the few signs that are not known. A hash does not record whether its second half
    is the difference of channels or higher frequencies, so that both are tried.
    """
    half = BITS // 2
    found = []
    for indices in (np.arange(BITS), np.tile(np.arange(half), 2)):
        chosen = _frequencies()[indices]
        part = np.arange(BITS) // half if len(set(indices)) < BITS else 0 * indices
        place_of = {key: n for n, key in enumerate(zip(part, chosen, strict=True))}
        height, width = np.divmod(chosen, _GRID)
        transposed = width * _GRID + height
        for turn in range(1, 8):
            sources = transposed if turn & 4 else chosen
            keys = zip(part, sources, strict=True)
            places = np.array([place_of.get(key, -1) for key in keys])
            factors = np.where(places < 0, 0.0, 1.0)
            factors *= np.where(turn & 1, (-1.0) ** width, 1.0)
            factors *= np.where(turn & 2, (-1.0) ** height, 1.0)
            found.append((np.maximum(places, 0), factors.astype(np.float32)))
    return tuple(found)


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


def is_same_view(one: np.ndarray, other: np.ndarray) -> bool:
    """Returns whether two images show the same whole view in the same orientation.

    The images are reduced to 64 pixels per side, and uneven illumination is subtracted. The
    criterion is the correlation of square roots of grey values, between any channel or the
    sum of channels of one image and the sum of channels of the other. It tolerates another
    contrast, blur, noise and JPEG compression. For 14 fields (8 real ones) in five
    contrasts it was 0.84 or more, and 0.70 or less for mirrored images.

    Args:
      one: (H, W, 3) uint8.
      other: (H, W, 3) uint8.
    """
    if one.shape[:2] != other.shape[:2]:
        return False
    (total, *channels), whole = _reduced(one), _reduced(other)[0]
    likeness = [_correlation(total, whole)]
    likeness += [_correlation(c, whole) for c in channels if c.any()]
    return max(likeness) >= _SAME_VIEW


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the correlation of two planes; 1 if neither of them has any structure."""
    flat = [part.std() < _LEAST_STRUCTURE / _GRID for part in (one, other)]
    if any(flat):
        return float(all(flat))
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def _reduced(image: np.ndarray) -> list[np.ndarray]:
    """Returns the sum of the channels, and each channel, reduced and high-pass filtered."""
    from PIL import Image
    from scipy import ndimage

    size = [min(_VIEW_PX, side) for side in image.shape[1::-1]]
    reduced = Image.fromarray(np.ascontiguousarray(image))
    small = np.asarray(reduced.resize(size, Image.Resampling.BOX), np.float64)
    planes = [np.sqrt(small.sum(axis=2)), *np.sqrt(np.moveaxis(small, -1, 0))]
    return [plane - ndimage.gaussian_filter(plane, _LIGHT_PARTS) for plane in planes]
