"""Tables of benchmarks, as Markdown, and how often intervals hold the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def print_table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints a table, each row as soon as it is there; floats with three decimals."""
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for row in rows:
        cells = (f"{v:.3f}" if isinstance(v, np.floating) else str(v) for v in row)
        print("| " + " | ".join(cells) + " |", flush=True)


def coverage_of(
    found: Iterable[tuple[Mapping[str, np.ndarray | None], float]],
) -> dict[str, np.ndarray]:
    """How often the intervals of the first type's share hold it, and their mean width.

    Args:
      found: of each experiment the interval (2, K) by method, None where nothing is claimed,
        and the true share.
    """
    held: dict[str, list[tuple[bool, float]]] = {}
    for intervals, truth in found:
        for method, interval in intervals.items():
            low, high = (0.0, 1.0) if interval is None else interval[:, 0]
            held.setdefault(method, []).append((low <= truth <= high, high - low))
    return {method: np.mean(values, axis=0) for method, values in held.items()}
