"""Measures how sharp a channel is, by the spectra of the tiles with most structure."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

_TILE_PX, _TILES = 256, 4
# Structures of these periods tell sharp from blurred fields: they are larger than the
# camera's noise and smaller than a cell.
_SHORTEST_PX, _LONGEST_PX = 6.0, 32.0
# Result for a channel without structure. A ratio of 0 would be the sharpest of all.
NOTHING = (0.0, -9.0)


def measure(plane: np.ndarray, reduced: np.ndarray, step: int) -> tuple[float, float]:
    """Measures how sharp a channel is.

    Args:
      plane: (Y, X) uint8 or uint16.
      reduced: every `step`-th pixel of it, smoothed, to find where the structure is.
      step: the step of `reduced`.

    Returns:
      Slope of log power over log frequency, and log10 of the Laplacian's variance over
      the pixels' variance; both without camera noise. NOTHING if there is only noise.
    """
    from scipy import fft

    tiles = _tiles(plane, reduced, step)
    spectrum = _Spectrum.of_size(tiles.shape[1])
    tiles = (tiles - tiles.mean((1, 2), keepdims=True)) * spectrum.window
    found = fft.rfft2(tiles)
    power = np.mean(found.real**2 + found.imag**2, axis=0)
    # Beyond 0.4 cycles per pixel there is only camera noise. In a single tile, the mean
    # of its power is its median over log 2. In the mean of several tiles this estimate is
    # up to a third too large; the limits in `criteria` were set with it.
    noise = float(np.median(power[spectrum.frequency > 0.4])) / np.log(2)
    # Negative values stay, so that noise above its mean cancels noise below it.
    signal = power - noise
    total = signal[spectrum.is_real].sum()
    if not total > 0:
        return NOTHING
    laplacian = (signal * spectrum.laplacian)[spectrum.is_real].sum() / total
    return spectrum.slope(power, noise), float(np.log10(max(laplacian, 1e-9)))


def _tiles(plane: np.ndarray, reduced: np.ndarray, step: int) -> np.ndarray:
    """Returns (n, t, t) float32: the tiles of a plane with the most structure."""
    side = min(_TILE_PX, *plane.shape)
    tops, lefts = (
        # Tiles cover the whole plane; they overlap if its side is no multiple of theirs.
        np.linspace(0, n - side, min(32, -(-n // side))).astype(int)
        for n in plane.shape
    )
    corners = [(int(y), int(x)) for y in tops for x in lefts]
    size = max(1, side // step)
    structure = [
        -reduced[y // step : y // step + size, x // step : x // step + size].var()
        for y, x in corners
    ]
    best = np.argsort(structure, kind="stable")[:_TILES]
    tiles = [corners[i] for i in best]
    return np.stack([plane[y : y + side, x : x + side] for y, x in tiles]).astype(
        np.float32
    )


@dataclasses.dataclass(frozen=True)
class _Spectrum:
    """The arrays that the spectra of tiles of one size share, (t, t // 2 + 1) each."""

    frequency: np.ndarray
    laplacian: np.ndarray
    is_real: np.ndarray
    window: np.ndarray
    band: np.ndarray
    bands: int = 8

    @classmethod
    @functools.lru_cache(maxsize=4)
    def of_size(cls, side: int) -> _Spectrum:
        y, x = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
        frequency = np.hypot(y, x)
        edges = np.geomspace(1 / _LONGEST_PX, 1 / _SHORTEST_PX, cls.bands + 1)
        window = np.outer(np.hanning(side), np.hanning(side)).astype(np.float32)
        return cls(
            frequency,
            (2 * np.pi * frequency) ** 4,
            frequency < 1 / _SHORTEST_PX,
            window,
            np.digitize(frequency, edges),
        )

    def slope(self, power: np.ndarray, noise: float) -> float:
        bands = slice(1, self.bands + 1)
        counts = np.bincount(self.band.ravel(), minlength=self.bands + 2)[bands]
        sums = np.bincount(self.band.ravel(), power.ravel(), self.bands + 2)[bands]
        edges = np.geomspace(1 / _LONGEST_PX, 1 / _SHORTEST_PX, self.bands + 1)
        middles = np.sqrt(edges[:-1] * edges[1:])
        there = counts > 0
        if np.count_nonzero(there) < 2:
            return 0.0
        means = np.maximum(sums[there] / counts[there] - noise, 0.02 * noise + 1e-9)
        return float(np.polyfit(np.log(middles[there]), np.log(means), 1)[0])
