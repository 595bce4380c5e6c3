"""Contrast limits that all fields of an acquisition group share."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from cellclass_tf.core.study import ImageRow
from cellclass_tf.microscopy import merge
from cellclass_tf.splits import groups
from cellclass_tf.storage import atomic

# 'group' keeps the limits that a group got at its first conversion, 'anew' measures them
# again, and 'field' measures them for each field.
Contrast = Literal["group", "anew", "field"]
CHOICES = get_args(Contrast)

Limits = tuple[merge.Limits, merge.Limits]

# 8-bit colour images keep the contrast that they have.
KEPT: Limits = ((0.0, 255.0), (0.0, 255.0))


# Bio-Formats labels the planes of an ImageJ file with their place and the file's title, such
# as 'c:1/2 z:3/9 - HEK_01.czi'.
_TITLED = re.compile(r"(?P<places>\b[czt]:\d+/\d+(?: [czt]:\d+/\d+)*) - .*$", re.DOTALL)


class Key(NamedTuple):
    """The properties on which brightness depends; fields that agree in them share limits.

    Attributes:
      group: the contrast group.
      nuclei_channel: name of the nuclei channel.
      cytoplasm_channel: name of the cytoplasm channel.
      projection: how a stack became one plane, without the number of the plane.
      bits: number of bits of a pixel, 8 or 16.
    """

    group: str
    nuclei_channel: str
    cytoplasm_channel: str
    projection: str
    bits: int = 16

    @property
    def without_bits(self) -> tuple[str, ...]:
        """The key as earlier versions had it, for fingerprints."""
        return self[:4]


def key_of(
    group: str, nuclei_channel: str, cytoplasm_channel: str, z: str, bits: int
) -> Key:
    """Returns the key of a field; `z` says how its stack was projected, see `Micrograph`.

    The plane that 'best' chose ('best:3') makes no difference, nor does the title of the
    file that is part of a channel's name in ImageJ files.
    """
    channels = without_title(nuclei_channel), without_title(cytoplasm_channel)
    return Key(groups.normalized(group), *channels, z.split(":")[0], bits)


def without_title(channel: str) -> str:
    """Returns the name of a channel; 'c:1/2 z:3/9 - HEK_01.czi' becomes 'c:1'."""
    return _TITLED.sub(_channel_place, channel).strip()


def _channel_place(found: re.Match) -> str:
    places = found["places"].split()
    return " ".join(p.split("/")[0] for p in places if p.startswith("c:"))


def known_limits(rows: Iterable[ImageRow]) -> dict[Key, Limits]:
    """Returns the limits of the groups, from rows of the manifest.

    The manifest does not say how many bits the pixels had. Limits above 255 are those of 16
    bits. Lower ones may be those of either, and hold for both.
    """
    certain: dict[Key, dict[tuple[str, str], Limits]] = {}
    possible: dict[Key, dict[tuple[str, str], Limits]] = {}
    for row in rows:
        if row.contrast != "group":
            continue
        limits = _parse_limits(row.nuclei_limits), _parse_limits(row.cytoplasm_limits)
        channels = row.nuclei_channel, row.cytoplasm_channel
        key = key_of(row.contrast_group, *channels, row.z, 16)
        # The upper limit of a channel of the value 255 alone is 256.
        if max(high for _, high in limits) > 256:
            certain.setdefault(key, {})[channels] = limits
        else:
            for bits in (8, 16):
                of_key = possible.setdefault(key._replace(bits=bits), {})
                of_key[channels] = limits
    # Earlier versions gave each title limits of its own; these are measured again.
    return {
        key: next(iter(limits.values()))
        for key, limits in (possible | certain).items()
        if len(set(limits.values())) == 1
    }


def limits_of(row: ImageRow) -> Limits | None:
    """Returns the limits of a field; None for a colour image, which has no raw counts."""
    if row.contrast in ("", "kept") or not (row.nuclei_limits and row.cytoplasm_limits):
        return None
    return _parse_limits(row.nuclei_limits), _parse_limits(row.cytoplasm_limits)


def limits_by_channel(row: ImageRow) -> dict[str, merge.Limits] | None:
    """Returns {'nuclei' or 'cytoplasm': (low, high)} of a field; None as in `limits_of`."""
    limits = limits_of(row)
    return limits and dict(zip(("nuclei", "cytoplasm"), limits, strict=True))


def limits_text(limits: merge.Limits) -> str:
    """Writes limits as 'low-high', the form of the manifest."""
    return f"{limits[0]:g}-{limits[1]:g}"


def write_histograms(path: pathlib.Path, histograms: Sequence[np.ndarray]) -> None:
    """Writes (2, 65536) histograms, without the zeros above the brightest value."""
    arrays = {}
    for number, counts in enumerate(histograms):
        used = np.flatnonzero(counts.any(axis=0))
        top = used[-1] + 1 if used.size else 1
        arrays[str(number)] = counts[:, :top]
    with atomic.atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_histogram(path: pathlib.Path, number: int) -> np.ndarray:
    """Reads a (2, N) histogram, N being one more than its brightest value."""
    with open(path, "rb") as file, np.load(file) as arrays:
        return arrays[str(number)]


def measure_limits(
    parts: Iterable[tuple[Key, pathlib.Path, int]],
) -> dict[Key, Limits]:
    """Measures limits from histograms, reading one histogram at a time.

    Args:
      parts: (key, file, index of the histogram in the file) of each field.

    Returns:
      The limits of every key; see `merge.contrast_limits`.
    """
    totals: dict[Key, np.ndarray] = {}
    for key, path, number in parts:
        counts = read_histogram(path, number)
        total = totals.setdefault(key, np.zeros((2, 1 << 16), np.int64))
        total[:, : counts.shape[1]] += counts
    return {key: merge.contrast_limits([total]) for key, total in totals.items()}


def _parse_limits(text: str) -> merge.Limits:
    low, high = text.split("-")
    return float(low), float(high)
