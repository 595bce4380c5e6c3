"""Measures the coverage of the intervals of proportions, as counted and as corrected.

    python -m experiments.benchmarks.coverage

Experiments with known proportions are simulated. Their dishes differ, and a model with known
error rates classifies their cells. The error rates are estimated on pure held-out dishes, which
also differ. Each row of the table is one kind of experiment, repeated --mixtures times: how often
the 95 % interval of the first type's proportion contains the true one, and its mean width.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import app, flags

from cellclass_tf.analysis import correction, shares
from experiments.benchmarks import tables

_MIXTURES = flags.DEFINE_integer("mixtures", 300, "Number of experiments per row.")
_SEED = flags.DEFINE_integer("seed", 0, "Random seed.")
_ROWS = flags.DEFINE_string(
    "rows", "", "Print only rows whose name contains this text."
)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of experiment.

    Attributes:
      name: name of the row.
      share: true proportion of the first type; the other types have equal proportions.
      types: K, number of cell types.
      dishes: number of dishes of the mixed culture.
      fields: number of fields per dish; if there is one dish, fields are the units.
      icc: intraclass correlation of the dishes, or of the fields of one dish.
      cells: mean number of cells per field.
      accuracy: fraction of the found cells of each type that are classified correctly.
      recall: fraction of the cells of each type that are found.
      invented: mean number of false positives per field, equally of all types.
      held_out_dishes: number of held-out dishes per type.
      held_out_fields: number of fields per held-out dish.
      error_icc: intraclass correlation of the error rates between dishes.
      times: number of time points per field, with the same cells.
      largest: cells per field of the first dish, relative to those of the others.
    """

    name: str
    share: float = 0.2
    types: int = 2
    dishes: int = 4
    fields: int = 6
    icc: float = 0.05
    cells: float = 40.0
    accuracy: Sequence[float] = (0.95, 0.95, 0.95)
    recall: Sequence[float] = (1.0, 1.0, 1.0)
    invented: float = 0.0
    held_out_dishes: int = 3
    held_out_fields: int = 3
    error_icc: float = 0.01
    times: int = 1
    largest: float = 1.0

    @property
    def true(self) -> np.ndarray:
        """The true proportions, (K,)."""
        rest = (1 - self.share) / (self.types - 1)
        return np.array([self.share] + [rest] * (self.types - 1))

    @property
    def rates(self) -> np.ndarray:
        """The probabilities (K, K + 1) of each predicted type, and of being missed (last)."""
        rates = np.zeros((self.types, self.types + 1))
        for i, (right, found) in enumerate(
            zip(self.accuracy[: self.types], self.recall[: self.types], strict=True)
        ):
            rates[i, :-1] = found * (1 - right) / (self.types - 1)
            rates[i, i] = found * right
            rates[i, -1] = 1 - found
        return rates


_WORST: dict[str, Any] = {
    "recall": (0.95, 0.75, 0.9),
    "invented": 1.5,
    "error_icc": 0.03,
}
KINDS = (
    *(
        Kind(f"{dishes} dishes, ICC {icc}", dishes=dishes, icc=icc)
        for dishes, icc in itertools.product((2, 3, 4, 6, 10), (0.0, 0.02, 0.05, 0.15))
    ),
    Kind("1 dish of 20 fields, ICC 0", dishes=1, fields=20, icc=0.0),
    Kind("1 dish of 20 fields, ICC 0.05", dishes=1, fields=20),
    *(
        Kind(f"{dishes} dishes, one of 20 times the cells", dishes=dishes, largest=20.0)
        for dishes in (4, 6)
    ),
    Kind("3 scenes of 20 times", dishes=1, fields=3, times=20, cells=80.0),
    Kind("3 dishes of 20 times", dishes=3, fields=1, times=20, cells=240.0),
    *(
        Kind(f"4 dishes, share {share}", share=share)
        for share in (0.0, 0.02, 0.05, 0.35, 0.5)
    ),
    *(
        Kind(f"{dishes} dishes, 3 types", dishes=dishes, types=3)
        for dishes in (2, 4, 10)
    ),
    Kind(
        "one type is missed more often", 0.5, dishes=1, fields=20, recall=(0.95, 0.75)
    ),
    Kind("1.5 invented cells a field", 0.05, dishes=1, fields=20, invented=1.5),
    Kind("errors differ by dish, ICC 0.03", error_icc=0.03),
    Kind("one held-out dish a type", held_out_dishes=1),
    Kind("no errors", accuracy=(1.0, 1.0), error_icc=0.0),
    *(
        Kind(
            f"{dishes} dishes, {types} types, all of these",
            types=types,
            dishes=dishes,
            **_WORST,
        )
        for types, dishes in itertools.product((2, 3), (3, 4, 6))
    ),
)


def experiments(
    kind: Kind, count: int, seed: int
) -> Iterator[tuple[np.ndarray, correction.HeldOut, float]]:
    """Simulates experiments and their classification by a model.

    Args:
      kind: kind of experiment.
      count: number of experiments.
      seed: random seed.

    Yields:
      The classified cells by unit, (U, K); the model's errors on held-out fields; and the
      area of all fields, each of which has an area of 1.
    """
    rng = np.random.default_rng(seed)
    units = kind.dishes if kind.dishes > 1 else kind.fields
    for _ in range(count):
        called = np.zeros((units, kind.types), np.int64)
        for number, (dish, _) in enumerate(
            itertools.product(range(kind.dishes), range(kind.fields))
        ):
            if number % kind.fields == 0:
                rates = np.stack(
                    [_varied(rng, row, kind.error_icc) for row in kind.rates]
                )
            if number % kind.fields == 0 or kind.dishes == 1:
                cells_of = _varied(rng, kind.true, kind.icc)
            mean = kind.cells * (1.0 if dish else kind.largest)
            cells = rng.multinomial(rng.poisson(mean), cells_of)
            unit = dish if kind.dishes > 1 else number
            for _ in range(kind.times):
                called[unit] += _seen(rng, cells, rates, kind)
        area = kind.dishes * kind.fields * kind.times
        yield called, _held_out(rng, kind), float(area)


def _seen(rng, cells: np.ndarray, rates: np.ndarray, kind: Kind) -> np.ndarray:
    """Draws the number of cells of a field that are classified as each type, (K,)."""
    found = sum(rng.multinomial(n, row) for n, row in zip(cells, rates, strict=True))
    return found[:-1] + rng.poisson(kind.invented / kind.types, kind.types)


def _held_out(rng, kind: Kind) -> correction.HeldOut:
    """Draws pure held-out dishes and the classification of their cells."""
    confusions, missed, invented, names = [], [], [], []
    for i, dish in itertools.product(range(kind.types), range(kind.held_out_dishes)):
        rates = _varied(rng, kind.rates[i], kind.error_icc)
        for _ in range(kind.held_out_fields):
            found = rng.multinomial(rng.poisson(kind.cells), rates)
            confusions.append(np.zeros((kind.types, kind.types), np.int64))
            missed.append(np.zeros(kind.types, np.int64))
            confusions[-1][i], missed[-1][i] = found[:-1], found[-1]
            invented.append(rng.poisson(kind.invented / kind.types, kind.types))
            names.append(f"type {i}, dish {dish}")
    return correction.HeldOut(
        np.stack(confusions),
        np.stack(missed),
        np.stack(invented),
        np.ones(len(names)),
        names,
    )


def _varied(rng, shares_of: np.ndarray, icc: float) -> np.ndarray:
    """Draws the proportions of one unit, with this intraclass correlation."""
    if not icc:
        return shares_of
    used = shares_of > 0
    varied = np.zeros(len(shares_of))
    varied[used] = rng.dirichlet(shares_of[used] * (1 - icc) / icc)
    return varied


def coverage(kind: Kind, count: int, seed: int) -> dict[str, np.ndarray]:
    """Returns the coverage of the intervals and their mean width, by method."""
    return tables.coverage_of(
        (
            {
                "as counted": raw.interval(),
                "corrected": correction.correct_shares(
                    raw, held_out, area=area
                ).interval(),
            },
            kind.share,
        )
        for called, held_out, area in experiments(kind, count, seed)
        for raw in (shares.estimate_shares(called),)
    )


def main(_) -> None:
    """Prints a row for each kind of experiment."""
    tables.print_table(
        (
            "experiment",
            "true proportion",
            "as counted: intervals that contain it",
            "mean width",
            "corrected: intervals that contain it",
            "mean width",
        ),
        (
            (kind.name, kind.share, *np.concatenate([*found.values()]))
            for kind in KINDS
            if _ROWS.value in kind.name
            for found in (coverage(kind, _MIXTURES.value, _SEED.value),)
        ),
    )


if __name__ == "__main__":
    app.run(main)
