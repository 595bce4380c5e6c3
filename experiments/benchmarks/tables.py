"""Prints Markdown tables, and measures the coverage of confidence intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def print_table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints a table, each row as soon as it is computed; NumPy floats with three decimals."""
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for row in rows:
        cells = (f"{v:.3f}" if isinstance(v, np.floating) else str(v) for v in row)
        print("| " + " | ".join(cells) + " |", flush=True)


def coverage_of(
    found: Iterable[tuple[Mapping[str, np.ndarray | None], float]],
) -> dict[str, np.ndarray]:
    """Returns the coverage and mean width of intervals of the first type's proportion.

    Args:
      found: for each experiment, the intervals (2, K) by method (None if the method makes no
        statement, which counts as 0 to 1), and the true proportion.

    Returns:
      By method, (2,): the fraction of intervals that contain the true proportion, and their
      mean width.
    """
    held: dict[str, list[tuple[bool, float]]] = {}
    for intervals, truth in found:
        for method, interval in intervals.items():
            low, high = (0.0, 1.0) if interval is None else interval[:, 0]
            held.setdefault(method, []).append((low <= truth <= high, high - low))
    return {method: np.mean(values, axis=0) for method, values in held.items()}
