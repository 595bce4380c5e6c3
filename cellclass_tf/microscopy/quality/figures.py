"""Measures a field: focus, saturation, emptiness, debris, glow, uneven illumination."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.labels.noise import noise_sd, robust_sd
from cellclass_tf.labels.sizes import diameters_of
from cellclass_tf.microscopy.quality import channels_apart, focus

# All figures except focus and saturation are measured on an image reduced to about this
# many pixels a side.
_REDUCED_PX = 256
_MOST_BLOCKS = 8
_SMALLEST_NUCLEUS_PX2 = 30
# A spot of less than this share of a nucleus's area is a speck.
_SPECK_SHARE = 0.15
_FEWEST_BLOCKS = 12


@dataclasses.dataclass(frozen=True)
class Figures:
    """The quality measurements of a field; docs/quality.md explains them.

    Attributes:
      focus_slope: slope of log power over log frequency (periods of 6 to 32 px, camera
        noise subtracted), mean of both channels; sharp fields have -2 to -5. Field 1987,
        J Opt Soc Am A 4:2379; for screens Bray et al. 2012, J Biomol Screen 17:266.
      focus_laplacian: log10 of the Laplacian's variance over the pixels' variance
        (camera noise subtracted), mean of both channels; higher is sharper. Pech-Pacheco
        et al. 2000, ICPR 3:314.
      saturated_share: share of pixels at the camera's maximum, in [0, 1], of the worse
        channel. 0 for 8-bit pixels, see `display_clipped_share`.
      nuclei_estimate: number of bright spots in the nuclei channel that may be nuclei.
        Touching nuclei count once, so that it is not a cell count.
      nucleus_px: median diameter of these spots in pixels; 0 without any.
      specks_per_nucleus: number of spots in either channel that are too small for a
        nucleus, divided by the number of nuclei.
      debris_share: share of pixels more than four times as bright as the median cell, in
        [0, 1], of the worse channel.
      glow_share: excess of the brightest part of the background over the median part,
        divided by the brightness of nuclei; 0 if there is no glow.
      unevenness: 1 - darkest / brightest of a smooth surface fitted to the brightness of
        the cells, in [0, 1]; 0 if there are too few cells to fit it.
      display_clipped_share: share of 8-bit pixels at 255, in [0, 1], of the worse
        channel. They come from a program that stretched the contrast for display, or from
        the camera.
      bare_share: share of nuclei without cytoplasm, see `channels_apart`.
      channel_likeness: 1 if both channels are the same, see `channels_apart`.
      cut_off_share: part of a channel that has a single grey value where the other one
        shows cells, see `channels_apart`.
      scale_bar_px: length of a scale bar that was drawn into a channel; 0 without any.
    """

    focus_slope: float
    focus_laplacian: float
    saturated_share: float
    nuclei_estimate: int
    nucleus_px: float
    specks_per_nucleus: float
    debris_share: float
    glow_share: float
    unevenness: float
    # Fields measured by earlier versions lack the following.
    display_clipped_share: float = 0.0
    bare_share: float = 0.0
    channel_likeness: float = 0.0
    cut_off_share: float = 0.0
    scale_bar_px: int = 0


def measure(micrograph: Micrograph, channels: tuple[int, int]) -> Figures:
    """Measures a field on its raw grey values.

    Args:
      micrograph: pixels (C, Y, X) uint8 or uint16.
      channels: indices of nuclei and cytoplasm.
    """
    planes = [micrograph.pixels[channel] for channel in channels]
    reduced = [_SmallPlane(plane) for plane in planes]
    focuses = [
        focus.measure(p, r.pixels, r.step) for p, r in zip(planes, reduced, strict=True)
    ]
    # A channel without structure is left out of the means.
    focuses = [f for f in focuses if f != focus.NOTHING] or [focus.NOTHING]
    areas, centres = reduced[0].spots(reduced[1])
    specks = sum(
        r.count_specks(np.median(areas) if len(areas) else 0.0) for r in reduced
    )
    nucleus_px = float(diameters_of(np.median(areas))) if len(areas) else 0.0
    is_8_bit = planes[0].dtype == np.uint8
    at_top = max(map(_saturated_share, planes))
    raw = [r.raw for r in reduced]
    return Figures(
        focus_slope=round(float(np.mean([slope for slope, _ in focuses])), 3),
        focus_laplacian=round(float(np.mean([ratio for _, ratio in focuses])), 3),
        saturated_share=0.0 if is_8_bit else round(at_top, 6),
        nuclei_estimate=len(areas),
        nucleus_px=round(nucleus_px, 1),
        specks_per_nucleus=round(specks / max(len(areas), 1), 3),
        debris_share=round(max(r.debris_share() for r in reduced), 4),
        glow_share=round(reduced[0].glow_share(nucleus_px), 3),
        unevenness=round(_unevenness(reduced, nucleus_px), 3),
        display_clipped_share=round(at_top, 6) if is_8_bit else 0.0,
        bare_share=round(
            channels_apart.bare_share(
                centres, nucleus_px / reduced[1].step, raw[1], noise_sd(planes[1])
            ),
            3,
        ),
        channel_likeness=round(channels_apart.likeness(*raw), 4),
        cut_off_share=round(
            channels_apart.cut_off_share(planes, [r.bright for r in reduced]), 3
        ),
        scale_bar_px=max(map(channels_apart.scale_bar_px, planes)),
    )


class _SmallPlane:
    """A plane at reduced size, smoothed, with its background and its bright parts."""

    def __init__(self, plane: np.ndarray) -> None:
        from scipy import ndimage

        self.step = max(1, round(plane.size**0.5 / _REDUCED_PX))
        self.raw = plane[:: self.step, :: self.step]
        small = self.raw.astype(np.float32)
        self.pixels = ndimage.gaussian_filter(small, 1)
        in_order = np.sort(self.pixels, axis=None)
        self.background = float(in_order[in_order.size // 2])
        # The median deviation of the pixels below the median.
        noise = 1.4826 * (self.background - float(in_order[in_order.size // 4]))
        top = float(in_order[int(0.999 * (in_order.size - 1))])
        # Smoothing leaves about a third of the noise that it removes.
        self.camera_noise = robust_sd((small - self.pixels)[::2, ::2]) / 3
        # In a field full of cells half of the pixels are cells, whose spread is not noise.
        # The noise is therefore limited to a few times that of the camera, which is at
        # least 0.1 since grey values are whole numbers.
        believed = min(noise, 4 * max(self.camera_noise, 0.1))
        rise = max(8 * believed, 0.3 * (top - self.background))
        self.bright = self.pixels > self.background + rise
        # A plane with a single grey value has no bright pixels.
        cells = self.pixels[self.bright]
        self.signal = float(np.median(cells)) - self.background if cells.size else 0.0
        self.is_crowded = noise > 2 * believed
        self.faint = max(8 * believed, 0.15 * self.signal)

    def spots(self, cytoplasm: _SmallPlane) -> tuple[np.ndarray, np.ndarray]:
        """Returns spots that may be nuclei: areas in px, (N, 2) centres in reduced px."""
        from scipy import ndimage

        labels, count = ndimage.label(self.bright)
        if not count:
            return np.zeros(0), np.zeros((0, 2))
        areas = np.bincount(labels.ravel())[1:]
        large = areas >= max(3, _SMALLEST_NUCLEUS_PX2 / self.step**2)
        large &= (
            areas > _SPECK_SHARE * np.median(areas[large]) if large.any() else large
        )
        if np.count_nonzero(large) <= 3:
            # So few spots may be debris, which has no cytoplasm around it.
            levels = ndimage.mean(cytoplasm.pixels, labels, np.arange(1, count + 1))
            large &= levels > cytoplasm.background + 8 * cytoplasm.camera_noise
        found = np.flatnonzero(large) + 1
        centres = ndimage.center_of_mass(self.bright, labels, found)
        return areas[large] * float(self.step**2), np.reshape(centres, (-1, 2))

    def count_specks(self, nucleus_px2: float) -> int:
        """Counts the spots above the background that are too small for a nucleus."""
        from scipy import ndimage

        if self.is_crowded:
            # The background consists of cells, and their grain is not debris.
            return 0
        labels, _ = ndimage.label(self.pixels > self.background + self.faint)
        areas = np.bincount(labels.ravel())[1:]
        # One or two pixels may be noise.
        small = (areas >= 3) & (areas * self.step**2 < _SPECK_SHARE * nucleus_px2)
        return int(np.count_nonzero(small))

    def debris_share(self) -> float:
        if not self.signal:
            return 0.0
        return float(np.mean(self.pixels > self.background + 4 * self.signal))

    def glow_share(self, nucleus_px: float) -> float:
        # A block has to be larger than a nucleus in order to show background.
        count = self._blocks_a_side(3 * nucleus_px)
        if not self.signal or count < 3:
            return 0.0
        blocks = _blocks(self.pixels, count)
        # Cells cover less than nine tenths of most blocks.
        place = blocks.shape[1] // 10
        haze = np.partition(blocks, place, axis=1)[:, place]
        return float(haze.max() - np.median(haze)) / self.signal

    def brightness(self, nucleus_px: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns places with cells, (N, 2) yx in [-1, 1], and their log brightness."""
        count = self._blocks_a_side(1.5 * nucleus_px)
        blocks, bright = _blocks(self.pixels, count), _blocks(self.bright, count)
        sizes = np.count_nonzero(bright, axis=1)
        there = sizes > 0.02 * bright.shape[1]
        sums = np.sum((blocks - self.background) * bright, axis=1)[there]
        centres = (np.arange(count) + 0.5) * 2 / count - 1
        grid = np.stack(np.meshgrid(centres, centres, indexing="ij"), -1).reshape(-1, 2)
        return grid[there], np.log(sums / sizes[there])

    def _blocks_a_side(self, least_px: float) -> int:
        side_px = min(self.pixels.shape) * self.step
        return max(1, min(_MOST_BLOCKS, int(side_px // max(least_px, 1))))


def _blocks(array: np.ndarray, count: int) -> np.ndarray:
    """Returns the pixels of count² blocks, (count², n); a remainder is left out."""
    height, width = (n // count for n in array.shape)
    cut = array[: height * count, : width * count]
    blocks = cut.reshape(count, height, count, width).swapaxes(1, 2)
    return blocks.reshape(count * count, -1)


def _unevenness(channels: Sequence[_SmallPlane], nucleus_px: float) -> float:
    """Fits one surface of second order to the log brightness of both channels."""
    parts = [channel.brightness(nucleus_px) for channel in channels]
    if min(len(levels) for _, levels in parts) < _FEWEST_BLOCKS:
        return 0.0
    places = np.concatenate([places for places, _ in parts])
    levels = np.concatenate([levels - np.median(levels) for _, levels in parts])
    terms = _surface(places)
    # The ridge penalty keeps the surface flat in corners without cells.
    ridge = 0.5 * np.diag([0.0, 1, 1, 1, 1, 1])
    fit = np.linalg.solve(terms.T @ terms + ridge, terms.T @ levels)
    corners = np.stack(np.meshgrid(*[np.linspace(-1, 1, 9)] * 2), -1).reshape(-1, 2)
    surface = _surface(corners) @ fit
    return float(1 - np.exp(surface.min() - surface.max()))


def _surface(yx: np.ndarray) -> np.ndarray:
    y, x = yx.T
    return np.stack([np.ones_like(y), y, x, y * y, x * x, x * y], axis=1)


def _saturated_share(plane: np.ndarray) -> float:
    """Returns the share of pixels at the type's maximum, or piled up at the plane's."""
    top = int(plane.max())
    at_top = np.count_nonzero(plane == top)
    if top == np.iinfo(plane.dtype).max:
        return at_top / plane.size
    # A 12-bit camera ends at 4095, where the histogram stops abruptly.
    just_below = np.count_nonzero(plane >= top - 10) - at_top
    is_pile = at_top > max(20, just_below) and plane.min() < top
    return at_top / plane.size if is_pile else 0.0
