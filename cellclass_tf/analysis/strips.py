"""Correlates the strips that two overlapping images have in common."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

from cellclass_tf.core.study import read_merged

# Smallest correlation at which two overlapping images show the same cells. In simulated areas
# unrelated strips have less than 0.52, and strips of the same cells more than 0.88.
LEAST_CORRELATION = 0.6
# Bright spots that an overlap needs before its correlation means anything: single cells of
# two unrelated images can be shifted on top of each other.
LEAST_SPOTS = 8
# Smallest correlation of strips with fewer spots at which they are believed to be placed
# correctly by the stage.
LEAST_OF_FEW_SPOTS = 0.4
# By this share of the field's size a position may be wrong.
MOST_SHIFT = 0.05
# Gaussian filters in pixels of the small images: noise, and uneven illumination.
_NOISE_PX, _SHADE_PX = 1.0, 8.0
# Strips of less energy are flat.
_FLAT = 1e-9
# Spots are local maxima in a square of this width.
_SPOT_PX = 7
# At most so many small images are in memory.
_MOST_IMAGES = 256


@dataclasses.dataclass(frozen=True)
class Match:
    """How well the images of a pair agree where they overlap.

    Attributes:
      pair: numbers of the tiles.
      expected_yx: shift in pixels according to the stage.
      found_yx: shift at which they agree best.
      covariance: sum of products of both strips.
      energies: sums of squares of each.
      spots: number of bright spots in the strip that has fewer.
    """

    expected_yx: np.ndarray
    found_yx: np.ndarray
    covariance: float
    energies: tuple[float, float]
    spots: int
    pair: tuple[int, int] = (0, 0)

    @property
    def correlation(self) -> float:
        """Normalized cross-correlation of the strips; 0 if one of them is flat."""
        energy = (self.energies[0] * self.energies[1]) ** 0.5
        return self.covariance / energy if energy > 0 else 0.0

    @property
    def axis(self) -> int:
        """0 for fields below each other, 1 for fields beside each other."""
        return int(np.abs(self.expected_yx).argmax())

    @property
    def agrees(self) -> bool:
        """Whether the strips show the same cells."""
        return self.spots >= LEAST_SPOTS and self.correlation >= LEAST_CORRELATION

    @property
    def contradicts(self) -> bool:
        """Whether the strips show cells, but not the same."""
        if self.spots >= LEAST_SPOTS:
            return not self.agrees
        return self.spots > 0 and self.correlation < LEAST_OF_FEW_SPOTS

    def scaled(self, i: int, j: int, shift_yx: np.ndarray, step: int) -> Match:
        """Returns the match of two tiles in pixels of their images."""
        return dataclasses.replace(
            self, pair=(i, j), expected_yx=shift_yx, found_yx=self.found_yx * step
        )


class SmallImages:
    """Small grey images of fields, without noise and uneven illumination.

    Attributes:
      brightness: root mean square over the images.
    """

    def __init__(
        self, paths: Sequence[pathlib.Path], step: int, used: Sequence[int]
    ) -> None:
        """Measures the brightness of the images.

        Args:
          paths: merged images of fields.
          step: number of pixels of the fields that become one.
          used: numbers of the fields of which images will be taken.
        """
        self._paths, self._step = paths, step
        self._cached = functools.lru_cache(maxsize=_MOST_IMAGES)(self._read)
        squares = [float(np.mean(np.square(self._cached(field)))) for field in used]
        self.brightness = float(np.mean(squares)) ** 0.5

    def of(self, number: int) -> np.ndarray:
        """Returns the small image (H, W) of a field, float32."""
        return self._cached(number)

    def _read(self, number: int) -> np.ndarray:
        grey = read_merged(self._paths[number])[..., 1:].mean(axis=-1)
        step = self._step
        height, width = (size // step for size in grey.shape)
        blocks = grey[: height * step, : width * step].reshape(
            height, step, width, step
        )
        small = blocks.mean(axis=(1, 3))
        smooth = ndimage.gaussian_filter(small, _NOISE_PX)
        return (smooth - ndimage.gaussian_filter(small, _SHADE_PX)).astype(np.float32)


class _Box(NamedTuple):
    """Rows and columns of rectangles: those from top to bottom, and from left to right."""

    top: np.ndarray
    bottom: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @property
    def areas(self) -> np.ndarray:
        """Areas of the rectangles, by rows and columns."""
        return np.outer(self.bottom - self.top, self.right - self.left)

    def sums(self, cumulated: np.ndarray) -> np.ndarray:
        """Returns the sums of an image, of `_cumulated`, over all rectangles."""
        corner = {
            (rows, columns): cumulated[
                np.ix_(getattr(self, rows), getattr(self, columns))
            ]
            for rows in ("top", "bottom")
            for columns in ("left", "right")
        }
        return (
            corner["bottom", "right"]
            - corner["top", "right"]
            - corner["bottom", "left"]
            + corner["top", "left"]
        )

    def part(self, image: np.ndarray, row: int, column: int) -> np.ndarray:
        """Returns the part of an image in one rectangle."""
        rows = slice(self.top[row], self.bottom[row])
        return image[rows, self.left[column] : self.right[column]]


class Strips:
    """Two images, whose overlapping strips are correlated at many shifts at once."""

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        """Computes what all shifts need.

        Args:
          first: (H, W) image.
          second: (H, W) image, whose size may differ.
        """
        self._images = first.astype(float), second.astype(float)
        shape = [
            fft.next_fast_len(a + b, real=True)
            for a, b in zip(first.shape, second.shape, strict=True)
        ]
        spectra = [fft.rfft2(image, shape) for image in self._images]
        self._products = fft.irfft2(spectra[0] * spectra[1].conj(), shape)
        self._sums = [_cumulated(image) for image in self._images]
        self._squares = [_cumulated(image**2) for image in self._images]
        self._is_spot = [
            image == ndimage.maximum_filter(image, _SPOT_PX) for image in self._images
        ]

    def match(self, expected_yx: np.ndarray, brightness: float) -> Match:
        """Finds the shift near an expected one at which the strips agree best.

        Args:
          expected_yx: place of the second image's first pixel in the first image.
          brightness: value above which a local maximum is a spot.
        """
        reach = max(1, round(MOST_SHIFT * max(self._images[0].shape)))
        steps = np.arange(-reach, reach + 1)
        shifts = [steps + round(float(middle)) for middle in expected_yx]
        boxes = self._boxes(shifts)
        count = boxes[0].areas
        # With less than half of what is expected, the correlation is due to chance.
        enough = count >= max(1.0, 0.5 * count[reach, reach])
        covariances, energies = self._moments(shifts, boxes)
        norm = np.sqrt(energies[0] * energies[1])
        ratio = np.where(
            enough & (norm > _FLAT), covariances / np.maximum(norm, _FLAT), -1.0
        )
        y, x = (int(place) for place in np.unravel_index(ratio.argmax(), ratio.shape))
        spots = [
            int(np.sum(box.part(is_spot & (image > brightness), y, x)))
            for box, is_spot, image in zip(
                boxes, self._is_spot, self._images, strict=True
            )
        ]
        found = (
            shifts[0][y] + _peak(ratio[:, x], y),
            shifts[1][x] + _peak(ratio[y], x),
        )
        return Match(
            expected_yx,
            np.array(found),
            float(covariances[y, x]),
            (float(energies[0][y, x]), float(energies[1][y, x])),
            min(spots),
        )

    def _boxes(self, shifts: Sequence[np.ndarray]) -> tuple[_Box, _Box]:
        """Returns what both images show at each shift, in the first and in the second."""
        first, second = [], []
        for shift, size, other in zip(
            shifts, *(image.shape for image in self._images), strict=True
        ):
            start = shift.clip(0, size)
            end = np.maximum((shift + other).clip(0, size), start)
            first += [start, end]
            second += [(start - shift).clip(0, other), (end - shift).clip(0, other)]
        return _Box(*first), _Box(*second)

    def _moments(
        self, shifts: Sequence[np.ndarray], boxes: Sequence[_Box]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Returns the sums of products, and of squares, of both strips about their means."""
        count = np.maximum(boxes[0].areas, 1)
        sums = [box.sums(table) for box, table in zip(boxes, self._sums, strict=True)]
        squares = [
            box.sums(table) for box, table in zip(boxes, self._squares, strict=True)
        ]
        # Shifts beyond the images, which have no area, may be anywhere.
        wrapped = [
            shift % size
            for shift, size in zip(shifts, self._products.shape, strict=True)
        ]
        products = self._products[np.ix_(*wrapped)]
        return products - sums[0] * sums[1] / count, [
            np.maximum(square - total**2 / count, 0)
            for square, total in zip(squares, sums, strict=True)
        ]


def _cumulated(image: np.ndarray) -> np.ndarray:
    """Returns the sums of an image over all rectangles that begin at its first pixel."""
    return np.pad(image, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)


def _peak(values: np.ndarray, place: int) -> float:
    """Returns how far the top of the parabola through a maximum is from it."""
    if not 0 < place < len(values) - 1:
        return 0.0
    before, at, after = values[place - 1 : place + 2]
    bend = before - 2 * at + after
    if not bend < 0 or min(before, after) <= -1:
        return 0.0
    return float((before - after) / (2 * bend))
