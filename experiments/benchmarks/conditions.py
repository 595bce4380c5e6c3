"""How often a test finds a difference between two conditions: where there is none, and one.

    python -m experiments.benchmarks.conditions

Experiments of two conditions are drawn, whose dishes differ, each of 6 fields of some 40 cells, of which
95 % of each type are called right. Three tests of the share of the first type at 5 %: Welch's of
the dishes' logits, corrected, as `cellclass compare-conditions` does; Student's of the shares of
fields; chi-square of cells. Equal conditions have a share of 0.3, the others 0.3 and 0.45.
"""

from __future__ import annotations

import itertools

import numpy as np
from absl import app, flags
from scipy import stats

from cellclass_tf.analysis import contrasts, shares

_EXPERIMENTS = flags.DEFINE_integer("condition_experiments", 1000, "A row.")
_SEED = flags.DEFINE_integer("condition_seed", 0, "Of all that is drawn.")
_FIELDS, _CELLS, _RIGHT = 6, 40, 0.95
_EQUAL, _DIFFERENT = (0.3, 0.3), (0.3, 0.45)
TESTS = ("Welch of dishes", "Student of fields", "chi-square of cells")


def found(
    pair: tuple[float, float], dishes: int, icc: float, count: int, seed: int
) -> np.ndarray:
    """(3,) share of the experiments in which each of TESTS finds a difference.

    Args:
      pair: the true share of the first type in each condition.
      dishes: of each condition.
      icc: intraclass correlation of dishes.
      count: of experiments.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    nothing = np.zeros((2, 2), int)
    rates = round(100 * _RIGHT), round(100 * (1 - _RIGHT))
    held_out = shares.HeldOut(
        np.array([[rates, (0, 0)], [(0, 0), rates[::-1]]]),
        *(nothing, nothing, np.ones(2), "ab"),
    )
    p_values = np.zeros((count, len(TESTS)))
    for row in p_values:
        # By condition, dish, field: called the first type, of so many cells.
        true = np.array(pair)[:, np.newaxis] * (1 - icc) / icc
        other = (1 - icc) / icc - true
        of_dish = rng.beta(true, other, (2, dishes))[..., np.newaxis]
        chance = of_dish * _RIGHT + (1 - of_dish) * (1 - _RIGHT)
        cells = rng.poisson(_CELLS, (2, dishes, _FIELDS)) + 1
        first = rng.binomial(cells, np.broadcast_to(chance, cells.shape))
        counts = np.stack([first, cells - first], axis=-1)
        by_dish = counts.sum(axis=2).reshape(2 * dishes, 2)
        corrected = shares.shares_by_unit(by_dish, held_out, np.zeros(2 * dishes))
        logits = contrasts.logits_of(corrected[:, 0], by_dish.sum(axis=1))
        told = contrasts.contrast(logits[:dishes], logits[dishes:])
        fields = (first / cells).reshape(2, -1)
        row[:] = (
            1.0 if told.p_value is None else told.p_value,
            stats.ttest_ind(*fields).pvalue,
            stats.chi2_contingency(counts.sum(axis=(1, 2))).pvalue,
        )
    return (p_values < 0.05).mean(axis=0)


def main(_) -> None:
    """Prints a row for each number of dishes and intraclass correlation."""
    heads = [f"{test}: {kind}" for kind in ("equal", "different") for test in TESTS]
    print("| dishes | ICC | " + " | ".join(heads) + " |")
    print("|---" * (2 + len(heads)) + "|")
    for dishes, icc in itertools.product((3, 6, 10), (0.02, 0.05, 0.1)):
        shares_found = [
            found(pair, dishes, icc, _EXPERIMENTS.value, _SEED.value)
            for pair in (_EQUAL, _DIFFERENT)
        ]
        values = " | ".join(f"{value:.3f}" for value in np.concatenate(shares_found))
        print(f"| {dishes} | {icc} | {values} |", flush=True)


if __name__ == "__main__":
    app.run(main)
