"""Measures error rate and power of tests for a difference between two conditions.

    python -m experiments.benchmarks.conditions

Experiments with two conditions are simulated. Their dishes differ, each has 6 fields of some 40
cells, and 95 % of the cells of each type are classified correctly. There are three tables:

- Independent dishes, and three tests of the proportion of the first type at the 5 % level:
  Welch's test of the dishes' corrected logits, as in `cellclass compare-conditions`; Student's
  test of the fields' proportions; and the chi-square test of cells. The proportion is 0.3 in
  equal conditions, and 0.3 and 0.45 in different ones.
- Replicates, such as animals, that differ (ICC 0.1) and have one dish in each condition: the
  paired test of their differences, and Welch's test, which ignores the pairs.
- Few dishes, equal conditions: whether the correction, the counting or the test itself determines
  the error rate of Welch's test; and Student's test, which assumes equal variances.
"""

from __future__ import annotations

import itertools

import numpy as np
from absl import app, flags
from scipy import special, stats

from cellclass_tf.analysis import contrasts, correction
from experiments.benchmarks import tables

_EXPERIMENTS = flags.DEFINE_integer(
    "condition_experiments", 1000, "Number of experiments per row."
)
_FEW = flags.DEFINE_integer(
    "few_experiments", 20_000, "Number of experiments per row of the last table."
)
_TABLES = flags.DEFINE_multi_enum(
    "condition_table",
    ("dishes", "replicates", "few"),
    ("dishes", "replicates", "few"),
    "Tables to print.",
)
_SEED = flags.DEFINE_integer("condition_seed", 0, "Random seed.")
_FIELDS, _CELLS, _RIGHT = 6, 40, 0.95
_EQUAL, _DIFFERENT = (0.3, 0.3), (0.3, 0.45)
_REPLICATES_ICC = 0.1
TESTS = ("Welch of dishes", "Student of fields", "chi-square of cells")
PAIRED_TESTS = ("paired", "Welch")
FEW_TESTS = (
    "Welch: true proportions",
    "Welch: proportions as called",
    "Welch: corrected",
    "Student: corrected",
)


def found(
    pair: tuple[float, float], dishes: int, icc: float, count: int, seed: int
) -> np.ndarray:
    """Returns the fraction of experiments in which each of TESTS finds a difference, (3,).

    Args:
      pair: true proportion of the first type in each condition.
      dishes: number of dishes per condition.
      icc: intraclass correlation of dishes.
      count: number of experiments.
      seed: random seed.
    """
    rng = np.random.default_rng(seed)
    p_values = np.zeros((count, len(TESTS)))
    for row in p_values:
        of_dish = tables.varied(
            rng, np.repeat(np.array(pair)[:, None], dishes, axis=1), icc
        )
        first, cells = _called(rng, of_dish)
        counts = np.stack([first, cells - first], axis=-1)
        fields = (first / cells).reshape(2, -1)
        row[:] = (
            _p_value(*_logits(first, cells)),
            stats.ttest_ind(*fields).pvalue,
            stats.chi2_contingency(counts.sum(axis=(1, 2))).pvalue,
        )
    return (p_values < 0.05).mean(axis=0)


def found_in_pairs(
    pair: tuple[float, float], replicates: int, icc: float, count: int, seed: int
) -> np.ndarray:
    """Returns the fraction of experiments in which each of PAIRED_TESTS finds one, (2,).

    Args:
      pair: true proportion of the first type in each condition, in a median replicate.
      replicates: number of replicates, each with one dish per condition.
      icc: intraclass correlation of the dishes of a replicate.
      count: number of experiments.
      seed: random seed.
    """
    rng = np.random.default_rng(seed)
    p_values = np.zeros((count, len(PAIRED_TESTS)))
    for row in p_values:
        of_replicate = tables.varied(rng, np.full(replicates, pair[0]), _REPLICATES_ICC)
        effect = special.logit(pair) - special.logit(pair[0])
        middle = special.expit(special.logit(of_replicate) + effect[:, np.newaxis])
        logits = _logits(*_called(rng, tables.varied(rng, middle, icc)))
        row[:] = _p_value(*logits, paired=True), _p_value(*logits)
    return (p_values < 0.05).mean(axis=0)


def found_in_few(
    dishes: int, iccs: tuple[float, float], count: int, seed: int
) -> np.ndarray:
    """Returns the error rate of each of FEW_TESTS, (4,), if both conditions are equal.

    Args:
      dishes: number of dishes per condition.
      iccs: intraclass correlation of the dishes of each condition.
      count: number of experiments.
      seed: random seed.
    """
    rng = np.random.default_rng(seed)
    of_dish = np.stack(
        [
            tables.varied(rng, np.full((count, dishes), share), icc)
            for share, icc in zip(_EQUAL, iccs, strict=True)
        ]
    )
    first, cells = _called(rng, of_dish)
    called = contrasts.logits_of(first.sum(axis=-1) / cells.sum(-1), _fewest(cells))
    corrected = _logits(first, cells)
    kinds = (
        (special.logit(np.clip(of_dish, 1e-9, 1 - 1e-9)), False),
        (called, False),
        (corrected, False),
        (corrected, True),
    )
    return np.array(
        [
            (stats.ttest_ind(*logits, axis=1, equal_var=equal).pvalue < 0.05).mean()
            for logits, equal in kinds
        ]
    )


def _called(rng, of_dish: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws cells classified as the first type, and all cells, by field (..., 6)."""
    chance = (of_dish * _RIGHT + (1 - of_dish) * (1 - _RIGHT))[..., np.newaxis]
    cells = rng.poisson(_CELLS, (*of_dish.shape, _FIELDS)) + 1
    return rng.binomial(cells, np.broadcast_to(chance, cells.shape)), cells


def _logits(first: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Returns the logits of the dishes' corrected proportions, from counts by field."""
    nothing = np.zeros((2, 2), int)
    rates = round(100 * _RIGHT), round(100 * (1 - _RIGHT))
    held_out = correction.HeldOut(
        np.array([[rates, (0, 0)], [(0, 0), rates[::-1]]]),
        *(nothing, nothing, np.ones(2), "ab"),
    )
    first, others = first.sum(axis=-1), (cells - first).sum(axis=-1)
    by_dish = np.stack([first, others], axis=-1).reshape(-1, 2)
    corrected = correction.shares_by_unit(by_dish, held_out, np.zeros(len(by_dish)))
    shares = corrected[:, 0].reshape(first.shape)
    return contrasts.logits_of(shares, _fewest(cells))


def _fewest(cells: np.ndarray) -> np.ndarray:
    """Returns the cells of the smallest dish, by experiment, from cells by field (2, ..., 6)."""
    return cells.sum(axis=-1).min(axis=(0, -1), keepdims=True)


def _p_value(first: np.ndarray, second: np.ndarray, *, paired: bool = False) -> float:
    told = contrasts.contrast(first, second, paired=paired)
    return 1.0 if told.p_value is None else told.p_value


def main(_) -> None:
    """Prints the three tables."""
    count, seed = _EXPERIMENTS.value, _SEED.value
    kinds = {"equal": _EQUAL, "different": _DIFFERENT}
    for unit, tests, function in (
        ("dishes", TESTS, found),
        ("replicates", PAIRED_TESTS, found_in_pairs),
    ):
        if unit not in _TABLES.value:
            continue
        heads = [f"{test}: {kind}" for kind in kinds for test in tests]
        tables.print_table(
            (unit, "ICC", *heads),
            (
                (
                    *(units, icc),
                    *np.concatenate(
                        [function(p, units, icc, count, seed) for p in kinds.values()]
                    ),
                )
                for units, icc in itertools.product((3, 6, 10), (0.02, 0.05, 0.1))
            ),
        )
        print()
    if "few" in _TABLES.value:
        tables.print_table(
            ("dishes", "ICC", *FEW_TESTS),
            (
                (dishes, " and ".join(map(str, iccs)), *values)
                for dishes in (3, 4, 6)
                for iccs in ((0.02, 0.02), (0.1, 0.1), (0.02, 0.2))
                for values in (found_in_few(dishes, iccs, _FEW.value, seed),)
            ),
        )


if __name__ == "__main__":
    app.run(main)
