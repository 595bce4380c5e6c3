"""Two channels to one merged 8-bit image: red 0, green cytoplasm, blue nuclei."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy.channels import Channels, choose_channels

# Shares of the group's pixels below and above the contrast limits. So few may clip
# above that a bright bit of debris does not darken the cells.
LOW_QUANTILE, HIGH_QUANTILE = 0.005, 0.9995

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
      nuclei: name or index of the nuclei's channel; None to find it by its name.
      cytoplasm: the same for the cytoplasm's channel.
      limits: contrast limits (low, high) in raw numbers for nuclei and cytoplasm; None
        for this field's own, with which brightness means nothing between fields.

    Returns:
      (H, W, 3) uint8: red 0, green cytoplasm, blue nuclei.

    Raises:
      InputError: if it is not certain which channel is which.
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
    """Returns the field with 8- or 16-bit pixels, its numbers unchanged.

    Raises:
      InputError: if a number is negative, above 65535, broken or not finite, which no
        camera gives.
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
            "rescaling, since its brightness has to mean the same in every field."
        )
    return dataclasses.replace(micrograph, pixels=whole)


def is_merged(micrograph: Micrograph) -> bool:
    """Whether the field is an 8-bit colour image, which keeps its contrast."""
    return micrograph.is_rgb and micrograph.pixels.dtype == np.uint8


def histograms(micrograph: Micrograph, channels: Channels) -> np.ndarray:
    """Counts the grey values of two channels of 8- or 16-bit pixels.

    Returns:
      (2, 65536) int64 counts of the values 0..65535.
    """
    planes = [micrograph.pixels[channel] for channel in channels[:2]]
    return np.stack([np.bincount(p.ravel(), minlength=1 << 16) for p in planes])


def contrast_limits(counts: Sequence[np.ndarray]) -> tuple[Limits, Limits]:
    """Finds contrast limits that one group of fields shares.

    Args:
      counts: one (2, 65536) histogram a field.

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
    """The share of a channel's pixels that lie above the upper contrast limit."""
    return float(np.mean(micrograph.pixels[channel] > limits[1]))


def _to_8_bit(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    # A table of 2^16 entries is faster than arithmetic on every pixel, and clipping
    # indices that cannot be wrong is faster than checking them.
    values = np.arange(np.iinfo(plane.dtype).max + 1, dtype=np.float32)
    table = np.rint(np.clip((values - low) * (255 / (high - low)), 0, 255))
    return np.take(table.astype(np.uint8), plane, mode="clip")
