"""Prints Markdown tables, draws proportions, and measures the coverage of intervals."""

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


def varied(rng: np.random.Generator, shares: np.ndarray, icc: float) -> np.ndarray:
    """Draws proportions around the given ones, with this intraclass correlation.

    Proportions of 0 and 1 do not vary.
    """
    total = (1 - icc) / icc
    drawn = rng.beta(
        np.maximum(shares * total, 1e-9), np.maximum((1 - shares) * total, 1e-9)
    )
    return np.where((shares <= 0) | (shares >= 1), shares, drawn)


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
