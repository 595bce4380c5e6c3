"""Compares the cells of a field before and after a person corrected them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np

from cellclass_tf.core.manifest import BY_HAND_PREFIX
from cellclass_tf.labels import matching

_LIST = rf"({BY_HAND_PREFIX})?\d+(-\d+)?(,\d+(-\d+)?)*"


@dataclasses.dataclass(frozen=True)
class Changes:
    """The differences between two label images of a field.

    Attributes:
      added: new labels of cells without an old one.
      redrawn: (old label, new label) of cells with an IoU of at least 0.5, but below 1.
      removed: old labels of cells without a new one.
      kept: (old label, new label) of cells with the same pixels as before.
    """

    added: tuple[int, ...]
    redrawn: tuple[tuple[int, int], ...]
    removed: tuple[int, ...]
    kept: tuple[tuple[int, int], ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.redrawn or self.removed)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of cells, by the name of the attribute."""
        return {
            field.name: len(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }

    def labels_drawn(
        self, drawn_before: Iterable[int], said: Iterable[int] | None = None
    ) -> list[int]:
        """Returns the sorted new labels of the cells that a person drew.

        Args:
          drawn_before: old labels of cells that a person drew.
          said: new labels of cells that were drawn by a person according to the source;
            added cells are then counted only if they are among them. None if the source
            has no such information; then all added cells count.
        """
        before = set(drawn_before)
        still = {new for old, new in self.kept if old in before}
        redrawn = {new for _, new in self.redrawn}
        added = self.added if said is None else ()
        return sorted({*added, *redrawn, *still, *(said or ())})


def compare(old: np.ndarray, new: np.ndarray) -> Changes:
    """Compares two label images of a field.

    Args:
      old: (H, W) labels 1..N.
      new: (H, W) labels 1..M.

    Raises:
      ValueError: if the shapes differ.
    """
    matches = matching.match_cells(old, new, 0.5)
    same = matches.ious == 1
    return Changes(
        added=tuple(matches.invented.tolist()),
        redrawn=tuple(map(tuple, matches.pairs[~same].tolist())),
        removed=tuple(matches.missed.tolist()),
        kept=tuple(map(tuple, matches.pairs[same].tolist())),
    )


def text_of(labels: Sequence[int]) -> str:
    """Writes sorted labels as ranges: 'cells 3,17-20'; '' if there are none."""
    runs: list[list[int]] = []
    for label in labels:
        if runs and label == runs[-1][1] + 1:
            runs[-1][1] = label
        else:
            runs.append([label, label])
    ranges = ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)
    return f"{BY_HAND_PREFIX}{ranges}" if ranges else ""


def is_list(text: str) -> bool:
    """Returns whether a text is one that this or an earlier version writes."""
    return text == "" or re.fullmatch(_LIST, text) is not None


def labels_of(text: str, count: int) -> list[int]:
    """Reads the text of `text_of` for a field of `count` cells; returns [] for others."""
    if not text or not is_list(text):
        return []
    parts = text.removeprefix(BY_HAND_PREFIX).split(",")
    runs = [[int(n) for n in part.split("-")] for part in parts]
    return [n for run in runs for n in range(run[0], min(run[-1], count) + 1)]
