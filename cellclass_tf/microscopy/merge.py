"""Two channels to one merged 8-bit image: red 0, green cytoplasm, blue nuclei."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from cellclass_tf.files import InputError
from cellclass_tf.micrograph import Micrograph
from cellclass_tf.study import DEFAULT_CHANNEL_RULES

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
    channels = choose_channels(micrograph, nuclei=nuclei, cytoplasm=cytoplasm)
    if limits is None:
        limits = contrast_limits([histograms(micrograph, channels)])
    merged = np.zeros((*micrograph.size_yx, 3), np.uint8)
    for target, channel, (low, high) in zip((2, 1), channels, limits, strict=True):
        merged[..., target] = _to_8_bit(micrograph.pixels[channel], low, high)
    return merged


def choose_channels(
    micrograph: Micrograph,
    *,
    nuclei: str | int | None = None,
    cytoplasm: str | int | None = None,
    rules: Mapping[str, Sequence[str]] | None = None,
) -> tuple[int, int]:
    """Says which channels hold the nuclei and the cytoplasm.

    What the user names counts first. Of a colour image with an empty red channel, blue
    is nuclei and green cytoplasm. Otherwise the channels' names decide by `rules`.

    Raises:
      InputError: if a channel is missing or more than one fits; it lists the channels.
    """
    if len(micrograph.pixels) < 2:
        raise InputError(
            f"{micrograph.file}: expected two channels (nuclei and cytoplasm), got one. "
            "A one-channel image cannot be merged; give the file that holds both."
        )
    rules = rules or DEFAULT_CHANNEL_RULES
    if micrograph.is_rgb and nuclei is None and cytoplasm is None:
        return _channels_of_merged(micrograph)
    found = [
        _find(micrograph, "nuclei", nuclei, rules),
        _find(micrograph, "cytoplasm", cytoplasm, rules),
    ]
    # Of two channels, the one that is not the first kind is the second kind.
    if None in found and len(micrograph.pixels) == 2 and found != [None, None]:
        known = found[0] if found[1] is None else found[1]
        found = [1 - known if channel is None else channel for channel in found]
    if None in found or found[0] == found[1]:
        raise InputError(
            f"{micrograph.file}: which channel is which? It has {_listing(micrograph)}. "
            "Say it with --nuclei=NAME|INDEX --cytoplasm=NAME|INDEX, or add a pattern "
            "to channels in study.yaml."
        )
    return found[0], found[1]


def is_merged(micrograph: Micrograph) -> bool:
    """Whether the field is an 8-bit colour image, which keeps its contrast."""
    return micrograph.is_rgb and micrograph.pixels.dtype == np.uint8


def histograms(micrograph: Micrograph, channels: tuple[int, int]) -> np.ndarray:
    """Counts the grey values of two channels.

    Returns:
      (2, 65536) int64 counts of the values 0..65535.

    Raises:
      InputError: if the pixels are no whole numbers of up to 16 bit.
    """
    pixels = micrograph.pixels
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{micrograph.file}: expected 8- or 16-bit grey values, got {pixels.dtype}. "
            "Save it as 16-bit TIFF."
        )
    return np.stack(
        [np.bincount(pixels[c].ravel(), minlength=1 << 16) for c in channels]
    )


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


def _channels_of_merged(micrograph: Micrograph) -> tuple[int, int]:
    if micrograph.pixels[0].any():
        raise InputError(
            f"{micrograph.file}: a colour image whose red channel is not empty, so it is "
            "not certain what its colours mean. Say it, for example with --nuclei=blue "
            "--cytoplasm=green."
        )
    return 2, 1


def _find(micrograph, kind, wanted, rules) -> int | None:
    names = micrograph.channel_names
    if wanted is None:
        hits = [i for i, name in enumerate(names) if _matches(name, rules[kind])]
        return hits[0] if len(hits) == 1 else None
    # Names first: some channels are named by a number, such as the wavelength.
    hits = [i for i, n in enumerate(names) if n.lower() == str(wanted).lower()]
    if len(hits) == 1:
        return hits[0]
    if str(wanted).isdigit() and int(wanted) < len(names):
        return int(wanted)
    raise InputError(
        f"{micrograph.file}: no channel {wanted!r}; it has {_listing(micrograph)}."
    )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.search(pattern, name, re.IGNORECASE) for pattern in patterns)


def _listing(micrograph: Micrograph) -> str:
    names = enumerate(micrograph.channel_names)
    return ", ".join(f"{i}: {name or '(no name)'}" for i, name in names)


def _to_8_bit(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    # A table of 2^16 entries is faster than arithmetic on every pixel.
    values = np.arange(np.iinfo(plane.dtype).max + 1, dtype=np.float32)
    table = np.clip((values - low) * (255 / (high - low)), 0, 255)
    return np.rint(table).astype(np.uint8)[plane]
