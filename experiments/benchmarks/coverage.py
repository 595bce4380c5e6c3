"""How often the intervals of the shares hold the truth: raw and corrected.

    python -m experiments.benchmarks.coverage

Mixtures of known shares, whose fields differ, are called by a classifier of known errors;
the errors are measured on pure held-out fields, which differ too. A row for each number of
types and of fields, each over MIXTURES mixtures: how often the 95 % interval of the first
type's share holds the true share, and how wide it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from absl import app, flags

from cellclass_tf.analysis import shares

_MIXTURES = flags.DEFINE_integer("mixtures", 500, "A row.")
_SEED = flags.DEFINE_integer("seed", 0, "Of all that is drawn.")
# (types, fields): the last has fields that differ no more than chance makes them.
_ROWS = ((2, 4), (2, 8), (2, 20), (3, 8), (3, 20))
_HELD_OUT_FIELDS, _CELLS_A_FIELD = 8, 25


def mixtures(
    count: int, types: int, fields: int, seed: int, *, likeness: float = 20.0
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Draws mixtures and what a classifier makes of them.

    Args:
      count: of mixtures.
      types: K.
      fields: F of each mixture.
      seed: of all of it.
      likeness: of the fields of a mixture; the larger, the more alike.

    Yields:
      True shares (K,); called cells (F, K); held-out confusions (V, K, K).
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        true = 0.05 + (1 - 0.05 * types) * rng.dirichlet(np.ones(types))
        rates = np.empty((types, types))
        for i, right in enumerate(rng.uniform(0.85, 0.98, types)):
            rates[i] = (1 - right) * np.insert(rng.dirichlet(np.ones(types - 1)), i, 0)
            rates[i, i] = right
        called = np.zeros((fields, types), int)
        for field in called:
            cells = rng.multinomial(
                rng.poisson(2 * _CELLS_A_FIELD), rng.dirichlet(likeness * true)
            )
            for n, row in zip(cells, rates, strict=True):
                field += rng.multinomial(n, row)
        held_out = np.zeros((_HELD_OUT_FIELDS * types, types, types), int)
        for number, field in enumerate(held_out):
            i = number % types
            errors = rng.dirichlet(50 * rates[i])
            field[i] = rng.multinomial(rng.poisson(_CELLS_A_FIELD), errors)
        yield true, called, held_out


def coverage(drawn) -> dict[str, tuple[float, float]]:
    """Share of the intervals that hold the truth, and their mean width, by kind."""
    held = {"raw": [], "corrected": []}
    for true, called, held_out in drawn:
        raw = shares.estimate_shares(called)
        for name, estimate in (
            ("raw", raw),
            ("corrected", shares.correct_shares(raw, held_out)),
        ):
            low, high = estimate.interval()[:, 0]
            held[name].append((low <= true[0] <= high, high - low))
    return {name: tuple(np.mean(values, axis=0)) for name, values in held.items()}


def main(_) -> None:
    """Prints a row for each kind of mixture."""
    print("| types | fields | raw holds it | width | corrected holds it | width |")
    print("|---" * 6 + "|")
    for types, fields in _ROWS:
        found = coverage(mixtures(_MIXTURES.value, types, fields, _SEED.value))
        values = " | ".join(f"{v:.3f}" for name in found for v in found[name])
        print(f"| {types} | {fields} | {values} |", flush=True)


if __name__ == "__main__":
    app.run(main)
