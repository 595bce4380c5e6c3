"""Contrast limits that all fields of an acquisition group share, and keep."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from cellclass_tf.core.study import ImageRow
from cellclass_tf.microscopy import merge
from cellclass_tf.storage import atomic

# A group's limits stay once they are set; are measured again; or each field has its own.
Contrast = Literal["group", "anew", "field"]
CHOICES = get_args(Contrast)

Limits = tuple[merge.Limits, merge.Limits]

# 8-bit colour images come with their contrast.
KEPT: Limits = ((0.0, 255.0), (0.0, 255.0))


class Key(NamedTuple):
    """What fields must have in common to share limits: all that sets their brightness."""

    group: str
    nuclei_channel: str
    cytoplasm_channel: str
    projection: str


def key_of_row(row: ImageRow) -> Key:
    """The key of a row of the manifest."""
    projection = row.z.split(":")[0]
    return Key(
        row.contrast_group, row.nuclei_channel, row.cytoplasm_channel, projection
    )


def known_limits(rows: Iterable[ImageRow]) -> dict[Key, Limits]:
    """The limits of the fields that share theirs."""
    return {
        key_of_row(row): (
            _parse_limits(row.nuclei_limits),
            _parse_limits(row.cytoplasm_limits),
        )
        for row in rows
        if row.contrast == "group"
    }


def limits_of(row: ImageRow) -> Limits | None:
    """The limits of a field; None of a colour image, whose numbers are no counts."""
    if row.contrast in ("", "kept") or not (row.nuclei_limits and row.cytoplasm_limits):
        return None
    return _parse_limits(row.nuclei_limits), _parse_limits(row.cytoplasm_limits)


def limits_text(limits: merge.Limits) -> str:
    """'low-high', as the manifest has it."""
    return f"{limits[0]:g}-{limits[1]:g}"


def write_histograms(path: pathlib.Path, histograms: Sequence[np.ndarray]) -> None:
    """Writes (2, 65536) histograms, without the values above the brightest."""
    arrays = {}
    for number, counts in enumerate(histograms):
        used = np.flatnonzero(counts.any(axis=0))
        top = used[-1] + 1 if used.size else 1
        arrays[str(number)] = counts[:, :top]
    with atomic.atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def measure_limits(
    parts: Iterable[tuple[Key, pathlib.Path, int]],
) -> dict[Key, Limits]:
    """Finds limits from histograms, of which one file's are held at a time.

    Args:
      parts: the key, the file, and the histogram's place in it.

    Returns:
      The limits of every key; see `merge.contrast_limits`.
    """
    totals: dict[Key, np.ndarray] = {}
    for key, path, number in parts:
        with open(path, "rb") as file, np.load(file) as arrays:
            counts = arrays[str(number)]
        total = totals.setdefault(key, np.zeros((2, 1 << 16), np.int64))
        total[:, : counts.shape[1]] += counts
    return {key: merge.contrast_limits([total]) for key, total in totals.items()}


def _parse_limits(text: str) -> merge.Limits:
    low, high = text.split("-")
    return float(low), float(high)
