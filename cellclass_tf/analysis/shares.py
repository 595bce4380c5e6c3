"""Estimates the proportion of each type among the cells of a culture, with intervals.

The statistical unit is the dish, since cells of one dish are more alike than cells of two. How
much more alike they are, the intraclass correlation (ICC), is not known; with few dishes its
uncertainty decides how wide the interval is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from cellclass_tf.analysis.units import LEVEL, t_interval

# With fewer units, the prior of the ICC decides how wide an interval is.
FEW_UNITS = 4
# Number of random draws from a posterior.
DRAWS = 4000
# Number of proposals for each draw, and of equally likely values of the ICC on the grid.
_PROPOSALS, _GRID = 3, 200
_NUMBERS_AT_ONCE = 2_000_000
# Factor of the concentration of the proposals; below 1 they spread wider than the posterior.
_WIDER = 0.6
# Beta prior of the ICC of the types in dishes.
_ICC_OF_TYPES = (0.5, 3.0)
_MOST_UNITS = 100_000


def summed(counts: np.ndarray, units: Sequence[str]) -> np.ndarray:
    """Adds up the rows (F, ...) of each unit; returns (U, ...), sorted by unit name."""
    names, of = np.unique(np.asarray(units, str), return_inverse=True)
    sums = np.zeros((len(names), *np.shape(counts)[1:]), np.asarray(counts).dtype)
    np.add.at(sums, of, counts)
    return sums


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """Proportions of K types among the cells of U units, such as dishes.

    Attributes:
      units: U, the number of units with typed cells.
      counts: (K,) int64, number of cells called each type.
      shares: (K,) float64, fractions of `counts`; corrected after `correction.correct_shares`.
      draws: (B, K) draws from their posterior; empty if there is no interval.
      icc: (B,) draws from the posterior of the intraclass correlation.
      cells_a_unit: mean number of cells per unit.
      gain: (K,) or 1, factor by which the correction increases the variance of the shares.
      left_open: (K,) or 0, variance due to the limited number of held-out cells.
      reason: why there is no interval, or ''.
    """

    units: int
    counts: np.ndarray
    shares: np.ndarray
    draws: np.ndarray
    icc: np.ndarray
    cells_a_unit: float = 0.0
    gain: np.ndarray | float = 1.0
    left_open: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1))
    reason: str = ""

    def interval(self, level: float = LEVEL) -> np.ndarray | None:
        """Returns the (2, K) ends of the interval of each share; None without draws."""
        if not len(self.draws):
            return None
        tail = (1 - level) / 2
        return np.quantile(self.draws, [tail, 1 - tail], axis=0)

    def p_values(self, expected: np.ndarray) -> np.ndarray | None:
        """Returns (K,) two-sided p values of the expected shares; None without draws.

        A p value is below 1 - level exactly if the interval of that level does not contain
        the expected share.

        Args:
          expected: (K,) expected share of each type.
        """
        if not len(self.draws):
            return None
        below = (self.draws <= expected).mean(axis=0)
        above = (self.draws >= expected).mean(axis=0)
        return np.minimum(1, 2 * np.maximum(np.minimum(below, above), 1 / DRAWS))


def estimate_shares(counts: np.ndarray, *, seed: int = 0) -> Estimate:
    """Estimates the shares as counted, without a correction of wrong calls.

    Args:
      counts: (U, K) number of cells called each type, by unit.
      seed: seed of the random draws.

    Returns:
      The estimate, with draws from `posterior`, around the share among all cells (see
      `_of_all_cells`). With fewer than two units with cells it has no draws, since a single
      unit does not show how units differ.
    """
    counts = np.asarray(counts, np.int64)
    counts = counts[counts.sum(axis=1) > 0]
    units, total = len(counts), counts.sum(axis=0)
    if not units:
        return without_draws(total, "no cell has a type")
    shares = total / total.sum()
    if units == 1:
        reason = "a single field does not show how much fields differ"
        return dataclasses.replace(without_draws(total, reason), units=1, shares=shares)
    draws, icc = posterior(counts, _ICC_OF_TYPES, np.random.default_rng(seed))
    draws = _of_all_cells(counts, draws, icc)
    return Estimate(units, total, shares, draws, icc, total.sum() / units)


def posterior(
    counts: np.ndarray, prior: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws from the posterior of the shares and the ICC of a Dirichlet-multinomial model.

    Each unit has shares of its own, which follow a Dirichlet distribution around the mean to
    be estimated, with concentration (1 - ICC) / ICC (Mosimann 1962, Biometrika 49, 65;
    Williams 1982, Appl. Stat. 31, 144). The mean has Jeffreys' prior. The ICC has a weak
    Beta prior, which limits how wide the posterior is with two or three units (Gelman 2006,
    Bayesian Anal. 1, 515). Draws are made by sampling importance resampling (Rubin 1988).
    The ICC is proposed from a grid, by the likelihood at the mean that fits it best; the
    mean is proposed from the Dirichlet distribution of as many independent cells as the
    units are worth at that ICC (effective sample size, Kish 1965).

    Args:
      counts: (U, C) number of cells by unit and category.
      prior: a and b of the ICC's Beta prior.
      rng: random number generator.

    Returns:
      Shares (B, C) and ICC (B,).
    """
    counts = np.asarray(counts, np.float64)
    counts = counts[counts.sum(axis=1) > 0]
    sizes, categories = counts.sum(axis=1), counts.shape[1]
    grid = stats.beta.ppf((np.arange(_GRID) + 0.5) / _GRID, *prior)
    weights = sizes / (1 + (sizes - 1) * grid[:, None])
    worth = weights.sum(axis=1, keepdims=True)
    # Half a cell of each category.
    alphas = weights @ (counts / sizes[:, None]) + 0.5
    means = alphas / alphas.sum(axis=1, keepdims=True)
    logs = _log_likelihoods(counts, means, grid) - (categories - 1) / 2 * np.log(
        worth[:, 0]
    )
    # A tenth is spread evenly, so that every value of the ICC can be proposed.
    chances = 0.9 * special.softmax(logs) + 0.1 / _GRID
    picked = rng.choice(_GRID, _PROPOSALS * DRAWS, p=chances)
    alphas = _WIDER * (alphas[picked] - 0.5) + 0.5
    gammas = np.maximum(rng.standard_gamma(alphas), 1e-300)
    shares = np.maximum(gammas / gammas.sum(axis=1, keepdims=True), 1e-12)
    proposed = (
        np.log(chances[picked])
        + special.gammaln(alphas.sum(axis=1))
        + ((alphas - 1) * np.log(shares) - special.gammaln(alphas)).sum(axis=1)
    )
    wanted = _log_likelihoods(counts, shares, grid[picked])
    wanted -= 0.5 * np.log(shares).sum(axis=1)
    kept = rng.choice(len(picked), DRAWS, p=special.softmax(wanted - proposed))
    return shares[kept], grid[picked[kept]]


def _of_all_cells(counts: np.ndarray, draws: np.ndarray, icc: np.ndarray) -> np.ndarray:
    """Turns draws of the mean over units into draws of the share among all cells.

    The mean weighs units by the number of independent cells that they are worth, nearly
    alike if units differ; a share among all cells weighs them by their cells. With units of
    equal size both are the same. With others the share is less certain, by a factor that
    follows from the variance of both (Kish 1965, Survey Sampling, 5.4 and 11.7).

    Args:
      counts: (U, K) number of cells by unit and type; no unit is empty.
      draws: (B, K) draws of the mean.
      icc: (B,) draws of the intraclass correlation.

    Returns:
      (B, K) draws of the shares.
    """
    sizes, total = counts.sum(axis=1), counts.sum()
    # The draws have few different values.
    values, of = np.unique(icc, return_inverse=True)
    effects = 1 + (sizes - 1) * values[:, None]
    worth = sizes / effects
    wider = np.sqrt((sizes * effects).sum(axis=1) * worth.sum(axis=1)) / total
    weights = worth / worth.sum(axis=1, keepdims=True)
    weights = np.bincount(of) @ weights / len(of)
    mean = weights @ (counts / sizes[:, None])
    # Half a cell of each type, since neither of them may be 0.
    moved = np.log((counts.sum(axis=0) + 0.5) / (total * mean + 0.5))
    logs = np.log(draws)
    middle = logs.mean(axis=0)
    return special.softmax(middle + moved + wider[of, None] * (logs - middle), axis=1)


def _log_likelihoods(
    counts: np.ndarray, shares: np.ndarray, icc: np.ndarray
) -> np.ndarray:
    """Returns (B,) log likelihoods of shares and ICC, up to a constant.

    Args:
      counts: (U, C) number of cells by unit and category.
      shares: (B, C) shares.
      icc: (B,) ICC.
    """
    total = ((1 - icc) / icc)[:, None]
    alphas = (total * shares)[:, None]
    sums = np.zeros(len(icc))
    # A few units at a time, so that memory stays bounded with thousands of fields.
    step = max(1, _NUMBERS_AT_ONCE // shares.size)
    for first in range(0, len(counts), step):
        some = counts[first : first + step]
        cells = special.gammaln(some + alphas) - special.gammaln(alphas)
        units = special.gammaln(total) - special.gammaln(some.sum(axis=1) + total)
        sums += (units + cells.sum(axis=2)).sum(axis=1)
    return sums


def logit_t(counts: np.ndarray, level: float = LEVEL) -> np.ndarray | None:
    """Computes intervals from the units' own shares, without a prior.

    Student's t of the logits of each unit's share, with half a cell added to the type and
    to the others.

    Args:
      counts: (U, K) number of cells called each type, by unit.
      level: level of the intervals.

    Returns:
      (2, K) ends of the intervals; None with fewer than two units.
    """
    counts = np.asarray(counts, np.float64)
    counts = counts[counts.sum(axis=1) > 0]
    if len(counts) < 2:
        return None
    rest = counts.sum(axis=1, keepdims=True) - counts
    logits = np.log((counts + 0.5) / (rest + 0.5))
    return special.expit(t_interval(logits, level))


def units_for(estimate: Estimate, width: float, level: float = LEVEL) -> np.ndarray:
    """Returns the smallest number of units that gives each share an interval of a width.

    More units reduce the uncertainty from differences between units, but not the
    uncertainty of the error rates, which comes from the held-out cells.

    Args:
      estimate: estimate from `estimate_shares` or `correction.correct_shares`.
      width: width of the interval, from end to end.
      level: level of the interval.

    Returns:
      (K,) float64, number of units, at least 2; inf if no number is enough, NaN without
      draws.
    """
    types = len(estimate.shares)
    if not len(estimate.draws):
        return np.full(types, np.nan)
    cells = max(estimate.cells_a_unit, 1.0)
    called = (estimate.counts + 0.5) / (estimate.counts.sum() + 1)
    # Averaged over the posterior of the ICC.
    effect = float(np.mean(1 + (cells - 1) * estimate.icc)) / cells
    of_one = called * (1 - called) * effect * estimate.gain
    needed = np.full(types, np.inf)
    numbers = np.unique(np.geomspace(2, _MOST_UNITS, 4000).astype(int))
    reach = stats.t.ppf((1 + level) / 2, numbers - 1)
    spread = np.sqrt(of_one[:, None] / numbers + estimate.left_open[:, None])
    for i, enough in enumerate(2 * reach * spread <= width):
        if enough.any():
            needed[i] = numbers[enough.argmax()]
    return needed


def without_draws(counts: np.ndarray, reason: str) -> Estimate:
    """Returns an estimate without shares and draws, and why there are none.

    Args:
      counts: (K,) number of cells called each type.
      reason: the reason.
    """
    types = len(counts)
    return Estimate(
        0,
        counts,
        np.full(types, np.nan),
        np.zeros((0, types)),
        np.zeros(0),
        reason=reason,
    )
