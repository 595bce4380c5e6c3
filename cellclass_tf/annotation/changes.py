"""What a person changed in the cells of a field."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np

from cellclass_tf.labels import matching


@dataclasses.dataclass(frozen=True)
class Changes:
    """What became of a field's cells.

    Attributes:
      added: labels of new cells that were none before.
      redrawn: (old label, new label) of cells that share half of their pixels or more
        (an IoU of at least 0.5), but not all.
      removed: labels of old cells that are gone.
      kept: (old label, new label) of cells that have the same pixels as before.
    """

    added: tuple[int, ...]
    redrawn: tuple[tuple[int, int], ...]
    removed: tuple[int, ...]
    kept: tuple[tuple[int, int], ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.redrawn or self.removed)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of cells by what became of them."""
        return {
            field.name: len(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }

    def labels_drawn(
        self, drawn_before: Iterable[int], said: Iterable[int] | None = None
    ) -> list[int]:
        """Labels of the new cells that a person drew, sorted.

        Args:
          drawn_before: labels of old cells that a person drew.
          said: labels of new cells of which the source says so; of added cells, it is
            believed that the others were not. None where a source tells nothing.
        """
        before = set(drawn_before)
        still = {new for old, new in self.kept if old in before}
        redrawn = {new for _, new in self.redrawn}
        added = self.added if said is None else ()
        return sorted({*added, *redrawn, *still, *(said or ())})


def compare(old: np.ndarray, new: np.ndarray) -> Changes:
    """Says what changed from one label image of a field to the next.

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
    """Writes sorted labels in short: '3,17-20'."""
    runs: list[list[int]] = []
    for label in labels:
        if runs and label == runs[-1][1] + 1:
            runs[-1][1] = label
        else:
            runs.append([label, label])
    return ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)


def labels_of(text: str, count: int) -> list[int]:
    """Reads what `text_of` wrote of a field of `count` cells; anything else is none."""
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        return []
    runs = [[int(n) for n in part.split("-")] for part in text.split(",")]
    return [n for run in runs for n in range(run[0], min(run[-1], count) + 1)]
