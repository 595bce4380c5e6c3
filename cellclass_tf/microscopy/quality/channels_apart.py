"""Whether both channels show the cells: one may be blank, cut off, or the other again."""

from __future__ import annotations

import numpy as np

# Cytoplasm varies around a nucleus by so many times what smoothed noise would.
_VARIES = 1.2
# Cells are as frequent beside a part that is cut off as elsewhere, or nearly so.
_AS_FREQUENT = 0.3
# Of a scale bar.
_BAR_LEAST_PX, _BAR_LEAST_THICK_PX, _BAR_ASPECT, _BAR_FILL = 24, 3, 4, 0.95


def bare_share(
    centres_yx: np.ndarray, nucleus_px: float, cytoplasm: np.ndarray, noise_sd: float
) -> float:
    """Share of nuclei around which the cytoplasm's channel shows nothing but noise.

    White noise keeps 1 / (4 π σ²) of its variance when a Gaussian of width σ smooths it.

    Args:
      centres_yx: (N, 2) of nuclei in pixels.
      nucleus_px: their diameter.
      cytoplasm: (H, W), every pixel as the camera gave it.
      noise_sd: standard deviation of the camera's noise in it.
    """
    from scipy import ndimage

    if not len(centres_yx):
        return 0.0
    sigma = max(nucleus_px / 6, 1.0)
    smooth = ndimage.gaussian_filter(cytoplasm.astype(np.float32), sigma)
    middle = ndimage.gaussian_filter(smooth, nucleus_px)
    variance = ndimage.gaussian_filter((smooth - middle) ** 2, nucleus_px)
    expected = noise_sd**2 / (4 * np.pi * sigma**2)
    y, x = np.round(centres_yx).astype(int).T
    return float(np.mean(variance[y, x] <= _VARIES**2 * expected))


def likeness(nuclei: np.ndarray, cytoplasm: np.ndarray) -> float:
    """How much one channel is the other again, in another contrast; 1 if it is.

    The greater of Spearman's rank correlation of the pixels, and of how monotonously one
    follows the other: 1 - falls / rises of the second in the order of the first. The
    noise of two photographs is not the same, and where there is no cell it is all that
    orders the pixels; a copy in few grey levels has many equal ranks, and never falls.

    Args:
      nuclei: (H, W).
      cytoplasm: (H, W).
    """
    from scipy import stats

    if nuclei.min() == nuclei.max() or cytoplasm.min() == cytoplasm.max():
        return 0.0
    order = np.lexsort((cytoplasm.ravel(), nuclei.ravel()))
    steps = np.diff(cytoplasm.ravel()[order].astype(np.int64))
    monotony = 1 + steps[steps < 0].sum() / steps[steps > 0].sum()
    ranks = stats.spearmanr(nuclei, cytoplasm, axis=None).statistic
    return float(max(ranks, monotony))


def cut_off_share(channels: list[np.ndarray], bright: list[np.ndarray]) -> float:
    """The largest part of a channel that is of one value while the other shows cells.

    It is a run of rows, or of columns, as a share of all of them.

    Args:
      channels: two of (H, W).
      bright: where each is bright, in fewer pixels.
    """
    most = 0.0
    for channel, other in zip(channels, reversed(bright), strict=True):
        for axis in (0, 1):
            run = _longest_run(channel.max(axis=axis) == channel.min(axis=axis))
            if run is None:
                continue
            first, last = (edge / channel.shape[1 - axis] for edge in run)
            size = other.shape[1 - axis]
            places = slice(
                int(first * size), max(int(last * size), int(first * size) + 1)
            )
            beside = other[:, places] if axis == 0 else other[places]
            if other.any() and beside.mean() >= _AS_FREQUENT * other.mean():
                most = max(most, last - first)
    return most


def _longest_run(flags: np.ndarray) -> tuple[int, int] | None:
    """First place, and the one behind the last, of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    if not edges.size:
        return None
    runs = edges.reshape(-1, 2)
    first, last = runs[np.argmax(runs[:, 1] - runs[:, 0])]
    return int(first), int(last)


def scale_bar_px(channel: np.ndarray) -> int:
    """Length of the longest bar of the brightest value; 0 without any.

    A bar is a filled rectangle along an axis, four times as long as it is thick. What
    reaches from rim to rim is a camera's fault.

    Args:
      channel: (H, W).
    """
    from scipy import ndimage

    top = channel == channel.max()
    if not _BAR_LEAST_PX * _BAR_LEAST_THICK_PX <= np.count_nonzero(top) < top.size / 4:
        return 0
    labels, _ = ndimage.label(top)
    areas = np.bincount(labels.ravel())
    most = 0
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        thick, long = sorted(part.stop - part.start for part in box)
        if thick < _BAR_LEAST_THICK_PX or long < max(
            _BAR_LEAST_PX, _BAR_ASPECT * thick
        ):
            continue
        if areas[label] >= _BAR_FILL * thick * long and long < max(channel.shape):
            most = max(most, long)
    return most
