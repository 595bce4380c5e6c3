"""Measures the coverage and width of the intervals of a spot check.

    python -m experiments.benchmarks.spot_check

Mixed cultures are simulated. A model classifies their cells, with more errors than on its held-out
fields (accuracy 0.95). A random sample of windows is labelled without errors. Each row of the table
is one kind of culture, repeated --spot_mixtures times: how often the 95 % interval of the first
type's proportion contains the true one, and its mean width; by the held-out correction, by the
labels alone, and by the spot check, which combines labels and predictions.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from absl import app, flags

from cellclass_tf.analysis import correction, shares
from cellclass_tf.analysis.spot_check import estimate
from experiments.benchmarks import tables

_MIXTURES = flags.DEFINE_integer("spot_mixtures", 300, "Number of cultures per row.")
_SEED = flags.DEFINE_integer("spot_seed", 0, "Random seed.")
_ROWS = flags.DEFINE_string(
    "spot_rows", "", "Print only rows whose name contains this text."
)
_HELD_OUT_RIGHT, _HELD_OUT_CELLS = 0.95, 400


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of culture.

    Attributes:
      name: name of the row.
      share: true proportion of the first of two types.
      units: number of dishes, or of fields of one dish.
      windows: number of windows per unit.
      cells: mean number of cells per window.
      labelled: mean number of labelled cells.
      icc: intraclass correlation of the units.
      clumping: intraclass correlation of the windows of a unit.
      right: fraction of the found cells of each type that are classified correctly.
      found: fraction of the cells of each type that are found.
      invented: mean number of false positives per window.
    """

    name: str
    share: float = 0.2
    units: int = 40
    windows: int = 50
    cells: float = 2.0
    labelled: int = 100
    icc: float = 0.02
    clumping: float = 0.2
    right: tuple[float, float] = (0.9, 0.85)
    found: tuple[float, float] = (1.0, 1.0)
    invented: float = 0.0


KINDS = (
    Kind("no shift", right=(0.95, 0.95)),
    Kind("shift"),
    Kind("shift, share 0.05", share=0.05),
    Kind("shift, share 0.05, 50 labels", share=0.05, labelled=50),
    Kind(
        "rare type often wrong, 50 labels",
        share=0.05,
        labelled=50,
        right=(0.6, 0.97),
    ),
    Kind("shift, share 0.5", share=0.5),
    Kind("shift, 200 labels", labelled=200),
    Kind("shift, 400 labels", labelled=400),
    Kind("shift, 400 labels, share 0.05", labelled=400, share=0.05),
    Kind("great shift", right=(0.8, 0.7)),
    Kind("missed and invented", found=(0.95, 0.75), invented=0.1),
    Kind("no errors", right=(1.0, 1.0)),
    Kind("no errors, share 0.01", right=(1.0, 1.0), share=0.01),
    Kind("a type that is not there", share=0.0),
    Kind("4 dishes", units=4, windows=400, icc=0.05),
    Kind("6 dishes", units=6, windows=300, icc=0.05),
    Kind("10 dishes", units=10, windows=200, icc=0.05),
    Kind(
        "4 dishes, all of these",
        units=4,
        windows=400,
        icc=0.05,
        found=(0.95, 0.75),
        invented=0.1,
    ),
    Kind("one field, 40 labels", share=0.69, units=1, windows=120, labelled=40),
)


def cultures(kind: Kind, count: int, seed: int):
    """Simulates cultures.

    Yields:
      The true proportion of these cells; the classified cells by unit, (U, 2); and the
      labelled sample.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        of_unit = tables.varied(rng, np.full(kind.units, kind.share), kind.icc)
        of_window = tables.varied(rng, np.repeat(of_unit, kind.windows), kind.clumping)
        unit = np.repeat(np.arange(kind.units), kind.windows)
        cells = rng.poisson(kind.cells, len(unit))
        first = rng.binomial(cells, of_window)
        true = np.stack([first, cells - first], axis=1)
        found = rng.binomial(true, kind.found)
        right = rng.binomial(found, kind.right)
        called = right + (found - right)[:, ::-1]
        invented = rng.poisson(kind.invented / 2, called.shape)
        called = called + invented
        has_calls = called.sum(axis=1) > 0
        sample = _drawn(rng, kind, true, called, right, found, has_calls)
        by_unit = shares.summed(called, [f"{u:04d}" for u in unit])
        yield true[:, 0].sum() / true.sum(), by_unit, sample


def _drawn(rng, kind, true, called, right, found, has_calls):
    strata = np.where(has_calls, 0, 1)
    population = np.bincount(strata, minlength=2)
    mean = called[has_calls].sum() / population[0]
    wanted = max(10, round(kind.labelled / mean))
    taken = []
    for stratum, size in enumerate((wanted, max(10, wanted // 4))):
        here = np.flatnonzero(strata == stratum)
        taken.append(rng.permutation(here)[:size])
    rows = np.concatenate(taken)
    return estimate.LabelledSample(
        strata[rows],
        population,
        true[rows],
        called[rows],
        right[rows].sum(axis=1),
        found[rows].sum(axis=1),
        called.sum(axis=0),
    )


def _held_out(rng) -> correction.HeldOut:
    right = rng.binomial(_HELD_OUT_CELLS // 4, _HELD_OUT_RIGHT, (2, 4))
    confusions = np.zeros((8, 2, 2), np.int64)
    for i in range(2):
        confusions[4 * i : 4 * i + 4, i, i] = right[i]
        confusions[4 * i : 4 * i + 4, i, 1 - i] = _HELD_OUT_CELLS // 4 - right[i]
    names = [f"{i} {dish}" for i in range(2) for dish in range(4)]
    nothing = np.zeros((8, 2), np.int64)
    return correction.HeldOut(confusions, nothing, nothing, np.ones(8), names)


METHODS = ("held-out correction", "labels alone", "spot check")


def intervals(kind: Kind, count: int, seed: int):
    """Yields, for each culture, the intervals by METHODS and the true proportion."""
    rng = np.random.default_rng([seed, 3])
    for share, called, sample in cultures(kind, count, seed):
        raw = shares.estimate_shares(called)
        corrected = correction.correct_shares(raw, _held_out(rng)).interval()
        by_labels = [
            estimate.estimate_by_sample(sample, raw.draws, tuning=tuning).interval()
            for tuning in (0.0, None)
        ]
        # With a single field, the interval is about the cells in this field.
        truth = kind.share if kind.units > 1 else share
        yield dict(zip(METHODS, (corrected, *by_labels), strict=True)), truth


def coverage(kind: Kind, count: int, seed: int) -> dict[str, np.ndarray]:
    """Returns the coverage of the intervals and their mean width, by method."""
    return tables.coverage_of(intervals(kind, count, seed))


def main(_) -> None:
    """Prints a table with a row for each kind of culture."""
    contain = ("the true proportion", "it", "it")
    heads = [
        head
        for method, what in zip(METHODS, contain, strict=True)
        for head in (f"{method}: intervals that contain {what}", "mean width")
    ]
    tables.print_table(
        ("culture", "labels", *heads),
        (
            (kind.name, kind.labelled, *np.concatenate([*found.values()]))
            for kind in KINDS
            if _ROWS.value in kind.name
            for found in (coverage(kind, _MIXTURES.value, _SEED.value),)
        ),
    )


if __name__ == "__main__":
    app.run(main)
