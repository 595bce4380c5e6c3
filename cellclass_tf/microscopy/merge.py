"""Merges two channels to one 8-bit image: red 0, green cytoplasm, blue nuclei."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy.channels import Channels, choose_channels

# The contrast limits are these quantiles of the group's pixels. A few pixels are clipped
# at the top, so that bright debris does not darken the cells.
LOW_QUANTILE, HIGH_QUANTILE = 0.005, 0.9995
# Zeros are those of a margin if the lowest possible grey values above 0, so many, are rarer
# than this share of them.
_LOW_STEPS, _FEW_LOW_VALUES = 5, 0.01
# Number of grey values from which the distance between possible ones is found.
_LOWEST_VALUES = 20

Limits = tuple[float, float]


def merge_channels(
    micrograph: Micrograph,
    *,
    nuclei: str | int | None = None,
    cytoplasm: str | int | None = None,
    limits: tuple[Limits, Limits] | None = None,
) -> np.ndarray:
    """Merges a field's two channels.

    Args:
      micrograph: the field.
      nuclei: name or index of the nuclei channel; None to find it, see
        `channels.choose_channels`.
      cytoplasm: the same for the cytoplasm channel.
      limits: contrast limits (low, high) in raw grey values for nuclei and cytoplasm.
        None measures them on this field, so that its brightness cannot be compared with
        that of other fields.

    Returns:
      (H, W, 3) uint8: red 0, green cytoplasm, blue nuclei.

    Raises:
      InputError: if the channels cannot be identified, or the pixels are not grey values.
    """
    micrograph = with_whole_numbers(micrograph)
    channels = choose_channels(micrograph, nuclei=nuclei, cytoplasm=cytoplasm)
    if limits is None:
        limits = contrast_limits([histograms(micrograph, channels)])
    return merged_image(micrograph, channels, limits)


def merged_image(
    micrograph: Micrograph, channels: Channels, limits: tuple[Limits, Limits]
) -> np.ndarray:
    """Merges two channels of 8- or 16-bit pixels; see `merge_channels`."""
    merged = np.zeros((*micrograph.size_yx, 3), np.uint8)
    for target, channel, (low, high) in zip((2, 1), channels[:2], limits, strict=True):
        merged[..., target] = _to_8_bit(micrograph.pixels[channel], low, high)
    return merged


def with_whole_numbers(micrograph: Micrograph) -> Micrograph:
    """Returns the field with 8- or 16-bit pixels and unchanged grey values.

    Raises:
      InputError: if a grey value is negative, above 65535, fractional or not finite,
        which no camera gives.
    """
    pixels = micrograph.pixels
    if pixels.dtype in (np.uint8, np.uint16):
        return micrograph
    if pixels.dtype.kind not in "iufb":
        raise InputError(
            f"{micrograph.file}: expected grey values, got {pixels.dtype}. Save it as "
            "16-bit TIFF."
        )
    if not np.isfinite(pixels).all():
        share = 1 - np.isfinite(pixels).mean()
        raise InputError(
            f"{micrograph.file}: {share:.2%} of the pixels are NaN or infinite. Export "
            "the field again from the raw data, as 16-bit TIFF."
        )
    low, high = pixels.min(), pixels.max()
    whole = pixels.astype(np.uint16) if 0 <= low and high <= 65535 else None
    if whole is None or (whole != pixels).any():
        raise InputError(
            f"{micrograph.file}: expected whole grey values from 0 to 65535, got "
            f"{pixels.dtype} from {low:g} to {high:g}. Save it as 16-bit TIFF without "
            "rescaling, so that brightness can be compared between fields."
        )
    return dataclasses.replace(micrograph, pixels=whole)


def is_merged(micrograph: Micrograph) -> bool:
    """Whether the field is an 8-bit colour image, which keeps its contrast."""
    return micrograph.is_rgb and micrograph.pixels.dtype == np.uint8


def histograms(micrograph: Micrograph, channels: Channels) -> np.ndarray:
    """Counts the grey values of two channels of 8- or 16-bit pixels.

    A black margin, as around stitched, turned or shifted images, is left out: the limits of
    a group would otherwise depend on it.

    Returns:
      (2, 65536) int64 counts of the values 0..65535.
    """
    planes = [micrograph.pixels[channel] for channel in channels[:2]]
    return np.stack(
        [_without_margin(np.bincount(p.ravel(), minlength=1 << 16)) for p in planes]
    )


def _without_margin(counts: np.ndarray) -> np.ndarray:
    """Returns counts without the zeros of a margin.

    Where the background is 0, most pixels are, or noise gives low values as well.
    """
    lowest = np.flatnonzero(counts[1:])[:_LOWEST_VALUES]
    if len(lowest) < 2:
        return counts
    # Programs that stretch 8 or 12 bits to 16 leave gaps between the values.
    step = int(np.median(np.diff(lowest)))
    black, low = counts[0], counts[1 : _LOW_STEPS * step].sum()
    if black < counts[1:].sum() and low < _FEW_LOW_VALUES * black:
        counts[0] = 0
    return counts


def contrast_limits(counts: Sequence[np.ndarray]) -> tuple[Limits, Limits]:
    """Computes the contrast limits that a group of fields shares.

    Args:
      counts: a (2, 65536) histogram for each field.

    Returns:
      (low, high) for nuclei and for cytoplasm: the grey values below which LOW_QUANTILE
      and HIGH_QUANTILE of the group's pixels lie.
    """
    total = np.sum(counts, axis=0)
    limits = []
    for channel in total:
        share = np.cumsum(channel) / channel.sum()
        low = float(np.searchsorted(share, LOW_QUANTILE))
        high = float(np.searchsorted(share, HIGH_QUANTILE))
        limits.append((low, max(high, low + 1)))
    return limits[0], limits[1]


def clipped_share(micrograph: Micrograph, channel: int, limits: Limits) -> float:
    """Returns the share of a channel's pixels that lie above the upper contrast limit."""
    return float(np.mean(micrograph.pixels[channel] > limits[1]))


def _to_8_bit(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    # A table of 2^16 entries is faster than arithmetic on every pixel. All indices are
    # valid; mode="clip" only saves checking them.
    values = np.arange(np.iinfo(plane.dtype).max + 1, dtype=np.float32)
    table = np.rint(np.clip((values - low) * (255 / (high - low)), 0, 255))
    return np.take(table.astype(np.uint8), plane, mode="clip")
