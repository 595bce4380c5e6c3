"""Differences of shares between conditions, by dishes: statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from cellclass_tf.analysis.units import LEVEL, t_interval

_DRAWS = 20_000
# Logits that differ by less are equal.
_NOTHING = 1e-9
WELCH, PAIRED = "Welch's t-test", "paired t-test"


@dataclasses.dataclass(frozen=True)
class Contrast:
    """One type's shares in two conditions.

    Attributes:
      difference: of the shares, second minus first, at the means of the logits.
      difference_ends: ends of its interval; None without a test.
      odds_ratio: second over first.
      odds_ratio_ends: ends of its interval; None without a test.
      test: WELCH or PAIRED; '' without a test.
      p_value: of the test, two-sided; None without one.
      reason: why there is no test, or ''.
    """

    difference: float
    odds_ratio: float
    difference_ends: tuple[float, float] | None = None
    odds_ratio_ends: tuple[float, float] | None = None
    test: str = ""
    p_value: float | None = None
    reason: str = ""


def logits_of(shares: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Logits of shares (U,) of so many cells (U,), no nearer to 0 and 1 than half a cell."""
    least = 0.5 / (np.asarray(cells, float) + 1)
    return special.logit(np.clip(shares, least, 1 - least))


def mean_interval(
    logits: np.ndarray, level: float = LEVEL
) -> tuple[float, float, float]:
    """The share at the mean of (U,) logits, and the ends of its interval by Student's t.

    The ends are NaN of a single one.
    """
    middle = float(special.expit(np.mean(logits)))
    if len(logits) < 2:
        return middle, float("nan"), float("nan")
    low, high = special.expit(t_interval(logits, level))
    return middle, float(low), float(high)


def contrast(
    first: np.ndarray,
    second: np.ndarray,
    *,
    paired: bool = False,
    level: float = LEVEL,
    seed: int = 0,
) -> Contrast:
    """Compares the logits of replicates of two conditions, which are the units, not cells.

    By Welch's t-test (1947, Biometrika 34, 28) of independent replicates; where each
    replicate was seen in both conditions, by Student's t-test of its differences (1908,
    Biometrika 6, 1). For the interval of the difference of shares the means are drawn from
    their t distributions: of independent replicates one by one, of the same replicates
    together, as they vary together.

    Args:
      first: (U,) logits of the shares of each replicate.
      second: (V,) of the other condition.
      paired: whether they are of the same replicates, in the same order; then U is V.
      level: of the intervals.
      seed: of the draws.
    """
    means = [float(np.mean(part)) for part in (first, second)]
    shares = special.expit(means)
    plain = Contrast(float(shares[1] - shares[0]), float(np.exp(means[1] - means[0])))
    few = min(len(first), len(second))
    if few < 2:
        return dataclasses.replace(
            plain, reason="one replicate says nothing of how replicates differ"
        )
    spreads = (second - first,) if paired else (first, second)
    if max(map(np.ptp, spreads)) < _NOTHING:
        return dataclasses.replace(plain, reason="the replicates do not differ at all")
    rng, tail = np.random.default_rng(seed), (1 - level) / 2
    if paired:
        test = stats.ttest_rel(second, first)
        freedom = len(first) - 1
        spread = np.cov(first, second) / len(first)
        off = rng.multivariate_normal((0, 0), spread, _DRAWS, method="svd")
        drawn = means + off / np.sqrt(rng.chisquare(freedom, (_DRAWS, 1)) / freedom)
        drawn = drawn.T
    else:
        test = stats.ttest_ind(second, first, equal_var=False)
        drawn = [
            mean + stats.sem(part) * rng.standard_t(len(part) - 1, _DRAWS)
            for mean, part in zip(means, (first, second), strict=True)
        ]
    ends = test.confidence_interval(level)
    differences = special.expit(drawn[1]) - special.expit(drawn[0])
    return dataclasses.replace(
        plain,
        difference_ends=tuple(np.quantile(differences, [tail, 1 - tail]).tolist()),
        odds_ratio_ends=tuple(np.exp([ends.low, ends.high]).tolist()),
        test=PAIRED if paired else WELCH,
        p_value=float(test.pvalue),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """P values for so many tests at once (Holm 1979, Scand. J. Stat. 6, 65)."""
    order = np.argsort(p_values)
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted
