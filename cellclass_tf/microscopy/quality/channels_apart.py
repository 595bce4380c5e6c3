"""Finds fields in which a channel is blank, cut off, or a copy of the other one."""

from __future__ import annotations

import numpy as np

# Around a nucleus, cytoplasm varies by at least this many times what smoothed noise does.
_VARIES = 1.2
# The other channel has at least this share of its usual density of cells in the part that
# is cut off.
_AS_FREQUENT = 0.3
# Limits of a scale bar: length, thickness, length over thickness, filled share.
_BAR_LEAST_PX, _BAR_LEAST_THICK_PX, _BAR_ASPECT, _BAR_FILL = 24, 3, 4, 0.95


def bare_share(
    centres_yx: np.ndarray, nucleus_px: float, cytoplasm: np.ndarray, noise_sd: float
) -> float:
    """Returns the share of nuclei around which the cytoplasm channel shows only noise.

    White noise keeps 1 / (4 π σ²) of its variance when a Gaussian of width σ smooths it.

    Args:
      centres_yx: (N, 2) centres of nuclei in pixels.
      nucleus_px: diameter of a nucleus in pixels.
      cytoplasm: (H, W) raw grey values, not smoothed.
      noise_sd: standard deviation of the camera noise in them.
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
    """Returns how much one channel resembles the other; 1 for a copy in another contrast.

    It is the larger of two measures: Spearman's rank correlation of the pixels, and the
    monotony 1 - falls / rises of the second channel in the order of the first. Two
    photographs differ in their noise, which alone orders the pixels of the background. A
    copy with few grey levels has many equal ranks, but it never falls.

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
    """Returns the largest part of a channel with one grey value beside cells in the other.

    The part is a run of rows or columns, given as a share of all rows or columns.

    Args:
      channels: the two channels, (H, W) each.
      bright: masks of the bright pixels of each, at a smaller size.
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
    """Returns start and stop of the longest run of True; None without any."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    if not edges.size:
        return None
    runs = edges.reshape(-1, 2)
    first, last = runs[np.argmax(runs[:, 1] - runs[:, 0])]
    return int(first), int(last)


def scale_bar_px(channel: np.ndarray) -> int:
    """Returns the length of the longest bar of the brightest value; 0 without any.

    A bar is a filled rectangle along an axis, at least four times as long as it is thick.
    A line that crosses the whole field is a fault of the camera and does not count.

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
