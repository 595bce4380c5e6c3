"""Tests differences of shares between conditions; the statistical unit is the replicate."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from cellclass_tf.analysis.units import LEVEL, t_interval

_DRAWS = 20_000
# Logits that differ by less than this are treated as equal.
_NOTHING = 1e-9
WELCH, PAIRED = "Welch's t-test", "paired t-test"


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Comparison of one type's share in two conditions.

    Attributes:
      difference: difference of the shares, second minus first, at the means of the logits.
      difference_ends: ends of the interval of the difference; None without a test.
      odds_ratio: odds ratio, second over first.
      odds_ratio_ends: ends of the interval of the odds ratio; None without a test.
      test: WELCH or PAIRED; '' without a test.
      p_value: two-sided p value; None without a test.
      reason: why there is no test, or ''.
    """

    difference: float
    odds_ratio: float
    difference_ends: tuple[float, float] | None = None
    odds_ratio_ends: tuple[float, float] | None = None
    test: str = ""
    p_value: float | None = None
    reason: str = ""


def least_share(fewest_cells: int | np.ndarray) -> float | np.ndarray:
    """Returns half a cell, as a share of one cell more than the smallest replicate has.

    Args:
      fewest_cells: number of cells of the smallest of the replicates that are compared.
    """
    return 0.5 / (fewest_cells + 1)


def logits_of(shares: np.ndarray, fewest_cells: int | np.ndarray) -> np.ndarray:
    """Returns the logits of shares, clipped by half a cell so that they are finite.

    All replicates that are compared are clipped at the same share. Otherwise the logits of
    shares of 0 would differ with the number of cells, and so would the conditions.

    Args:
      shares: (U,) shares.
      fewest_cells: number of cells of the smallest of the replicates that are compared.
    """
    least = least_share(fewest_cells)
    return special.logit(np.clip(shares, least, 1 - least))


def mean_interval(
    logits: np.ndarray, level: float = LEVEL
) -> tuple[float, float, float]:
    """Returns the share at the mean of (U,) logits, and the ends of its interval.

    The interval is Student's t interval of the mean. Its ends are NaN for a single logit, and
    if all logits are equal, for example because all shares are 0.
    """
    middle = float(special.expit(np.mean(logits)))
    if np.ptp(logits) < _NOTHING:
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
    """Compares two conditions by the logits of their replicates, the statistical units.

    Independent replicates are compared by Welch's t-test (1947, Biometrika 34, 28).
    Replicates that were observed in both conditions are compared by Student's t-test of
    their differences (1908, Biometrika 6, 1). For the interval of the difference of shares,
    the two means are drawn jointly from a t distribution with the degrees of freedom of the
    test and, if paired, with the covariance of the replicates. The interval contains 0
    exactly if that of the odds ratio contains 1, up to the error of the random draws.

    Args:
      first: (U,) logits of the replicates' shares in the first condition.
      second: (V,) logits in the second condition.
      paired: whether both are of the same replicates, in the same order; then U = V.
      level: level of the intervals.
      seed: seed of the random draws.
    """
    means = [float(np.mean(part)) for part in (first, second)]
    shares = special.expit(means)
    plain = Contrast(float(shares[1] - shares[0]), float(np.exp(means[1] - means[0])))
    few = min(len(first), len(second))
    if few < 2:
        return dataclasses.replace(
            plain, reason="a single replicate does not show how much replicates differ"
        )
    spreads = (second - first,) if paired else (first, second)
    if max(map(np.ptp, spreads)) < _NOTHING:
        return dataclasses.replace(plain, reason="the replicates do not differ at all")
    rng, tail = np.random.default_rng(seed), (1 - level) / 2
    if paired:
        test = stats.ttest_rel(second, first)
        spread = np.cov(first, second) / len(first)
    else:
        with warnings.catch_warnings():
            # All shares of one condition may be 0, and their logits equal.
            warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
            test = stats.ttest_ind(second, first, equal_var=False)
        spread = np.diag([np.var(part, ddof=1) / len(part) for part in (first, second)])
    ends = test.confidence_interval(level)
    off = rng.multivariate_normal((0, 0), spread, _DRAWS, method="svd")
    drawn = means + off / np.sqrt(rng.chisquare(test.df, (_DRAWS, 1)) / test.df)
    differences = special.expit(drawn[:, 1]) - special.expit(drawn[:, 0])
    return dataclasses.replace(
        plain,
        difference_ends=tuple(np.quantile(differences, [tail, 1 - tail]).tolist()),
        odds_ratio_ends=tuple(np.exp([ends.low, ends.high]).tolist()),
        test=PAIRED if paired else WELCH,
        p_value=float(test.pvalue),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p values for multiple tests (Holm 1979, Scand. J. Stat. 6, 65)."""
    order = np.argsort(p_values)
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted
