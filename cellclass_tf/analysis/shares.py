"""Estimates the proportion of each type among the cells of a culture, with intervals.

The statistical unit is the dish, since cells of one dish are more alike than cells of two. How
much more alike they are, the intraclass correlation (ICC), is not known; with few dishes its
uncertainty decides how wide the interval is.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from cellclass_tf.analysis.units import LEVEL, t_interval

# With fewer units, the prior of the ICC decides how wide an interval is.
FEW_UNITS = 4
_DRAWS = 4000
# Number of proposals for each draw, and of equally likely values of the ICC on the grid.
_PROPOSALS, _GRID = 3, 200
_NUMBERS_AT_ONCE = 2_000_000
# Factor of the concentration of the proposals; below 1 they spread wider than the posterior.
_WIDER = 0.6
# Beta priors of the ICC: of the types in dishes, and of the errors in held-out dishes.
_ICC_OF_TYPES, _ICC_OF_ERRORS = (0.5, 3.0), (1.0, 20.0)
# Largest condition number of the rates; beyond it, calls do not tell the types apart.
_WORST_CONDITION = 50.0
_MOST_UNITS = 100_000


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """How the true cells of V held-out fields were called, each cell counted once.

    Attributes:
      confusions: (V, K, K) number of cells by field, true type and called type.
      missed: (V, K) number of cells that were not found, by field and true type.
      invented: (V, K) number of false positives, by field and called type.
      areas: (V,) areas of the fields, in the same unit as the areas of the culture.
      units: (V,) name of the dish of each field.
    """

    confusions: np.ndarray
    missed: np.ndarray
    invented: np.ndarray
    areas: np.ndarray
    units: Sequence[str]

    def rows(self, type_index: int) -> np.ndarray:
        """Returns the cells of one type by unit and called type, missed cells last.

        Units are dishes, or fields if only one dish has cells of the type.

        Args:
          type_index: index of the true type.

        Returns:
          (U, K + 1) number of cells.
        """
        found = np.column_stack(
            [self.confusions[:, type_index], self.missed[:, type_index]]
        )
        has_cells = found.sum(axis=1) > 0
        dishes = {name for name, has in zip(self.units, has_cells, strict=True) if has}
        return summed(found, self.units) if len(dishes) > 1 else found[has_cells]

    @functools.cached_property
    def rates(self) -> np.ndarray:
        """(K, K) fraction of the cells of each type (rows) that is called each type."""
        calls = self.confusions.sum(axis=0)
        cells = calls.sum(axis=1) + self.missed.sum(axis=0)
        return calls / np.maximum(cells, 1)[:, np.newaxis]

    def invented_on(self, area: float) -> np.ndarray:
        """Returns the (K,) expected number of invented cells on an area, by called type."""
        counted = self.areas.sum()
        return self.invented.sum(axis=0) * (area / counted if counted else 0.0)

    @property
    def problem(self) -> str:
        """Why these fields cannot be used for a correction, or ''."""
        found = self.rates.sum(axis=1, keepdims=True)
        if not found.all():
            return "a type has no held-out cells, so its error rates are not known"
        if np.linalg.cond(self.rates / found) > _WORST_CONDITION:
            return "the model does not tell the types of held-out cells apart"
        return ""


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
      shares: (K,) float64, fractions of `counts`; corrected after `correct_shares`.
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
        return np.minimum(1, 2 * np.maximum(np.minimum(below, above), 1 / _DRAWS))


def estimate_shares(counts: np.ndarray, *, seed: int = 0) -> Estimate:
    """Estimates the shares as counted, without a correction of wrong calls.

    Args:
      counts: (U, K) number of cells called each type, by unit.
      seed: seed of the random draws.

    Returns:
      The estimate, with draws from `posterior`. With fewer than two units with cells it has
      no draws, since a single unit does not show how units differ.
    """
    counts = np.asarray(counts, np.int64)
    counts = counts[counts.sum(axis=1) > 0]
    units, total = len(counts), counts.sum(axis=0)
    if not units:
        return _without_draws(total, "no cell has a type")
    shares = total / total.sum()
    if units == 1:
        reason = "a single field does not show how much fields differ"
        return dataclasses.replace(
            _without_draws(total, reason), units=1, shares=shares
        )
    draws, icc = posterior(counts, _ICC_OF_TYPES, np.random.default_rng(seed))
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
    picked = rng.choice(_GRID, _PROPOSALS * _DRAWS, p=chances)
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
    kept = rng.choice(len(picked), _DRAWS, p=special.softmax(wanted - proposed))
    return shares[kept], grid[picked[kept]]


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


def correct_shares(
    estimate: Estimate, held_out: HeldOut, *, area: float = 0.0, seed: int = 0
) -> Estimate:
    """Corrects shares for cells that are called wrongly, missed or invented.

    The number of calls of each type is modelled as the true cells times the rates on
    held-out fields, plus the invented cells on the area; the equations are solved for the
    true cells. For two types and without missed or invented cells, this is the estimator of
    Rogan & Gladen (1978, doi:10.1093/oxfordjournals.aje.a112510); for more types it inverts
    the confusion matrix (Hay 1988, Int. J. Remote Sens. 9, 1395) and takes the nearest
    shares that are not negative. The rates are uncertain too: each draw of the shares is
    corrected with a draw from the `posterior` of the rates (as in Lang & Reiczigel 2014,
    doi:10.1016/j.prevetmed.2013.09.015).

    Args:
      estimate: estimate from `estimate_shares`.
      held_out: how the cells of held-out fields were called.
      area: area of all fields of the culture, in the unit of `held_out.areas`.
      seed: seed of the random draws.

    Returns:
      The corrected estimate. If no correction is possible its shares are NaN, and `reason`
      says why: a type has no held-out cells, or the types are not told apart.
    """
    reason = estimate.reason if not estimate.units else held_out.problem
    if reason:
        return dataclasses.replace(
            _without_draws(estimate.counts, reason), units=estimate.units
        )
    cells = estimate.counts.sum()
    rates, invented = held_out.rates, held_out.invented_on(area) / cells
    shares = solve_shares(estimate.shares[None], rates[None], invented[None])[0]
    if not len(estimate.draws):
        return dataclasses.replace(estimate, shares=shares)
    drawn, made_up = _drawn_rates(held_out, seed)
    made_up = made_up * area / cells
    of_units = solve_shares(estimate.draws, rates[None], invented[None])
    of_rates = solve_shares(estimate.shares[None], drawn, made_up)
    return dataclasses.replace(
        estimate,
        shares=shares,
        draws=solve_shares(estimate.draws, drawn, made_up),
        gain=of_units.var(axis=0) / estimate.draws.var(axis=0),
        left_open=of_rates.var(axis=0),
    )


@functools.lru_cache(maxsize=1)
def _drawn_rates(held_out: HeldOut, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns draws of `HeldOut.rates` (B, K, K), and of cells invented per area (B, K).

    The result is cached, since it is the same for all groups of a run.
    """
    rng = np.random.default_rng([seed, 1])
    types = held_out.missed.shape[1]
    rates = [
        posterior(held_out.rows(i), _ICC_OF_ERRORS, rng)[0][:, :-1]
        for i in range(types)
    ]
    return np.stack(rates, axis=1), _rates_of_inventions(held_out, rng)


def shares_by_unit(
    counts: np.ndarray, held_out: HeldOut | None = None, areas: np.ndarray | None = None
) -> np.ndarray:
    """Returns the shares of each unit alone, corrected as in `correct_shares`.

    Args:
      counts: (U, K) number of cells called each type, by unit; no unit is empty.
      held_out: how the cells of held-out fields were called; None does not correct.
      areas: (U,) areas of the units, in the unit of `held_out.areas`; 0 if not given.

    Returns:
      (U, K) float64.
    """
    cells = counts.sum(axis=1, keepdims=True)
    if held_out is None:
        return counts / cells
    if areas is None:
        areas = np.zeros(len(counts))
    invented = np.stack([held_out.invented_on(area) for area in areas])
    return solve_shares(counts / cells, held_out.rates[None], invented / cells)


def _rates_of_inventions(held_out: HeldOut, rng: np.random.Generator) -> np.ndarray:
    """Returns (B, K) draws of the number of cells invented per unit of area, by called type."""
    area, types = held_out.areas.sum(), held_out.invented.shape[1]
    if not area:
        return np.zeros((_DRAWS, types))
    total = held_out.invented.sum(axis=0)
    expected = np.outer(held_out.areas / area, total)
    # Overdispersion: how much more fields differ than by chance.
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.nan_to_num((held_out.invented - expected) ** 2 / expected)
    fields = np.count_nonzero(held_out.areas)
    spread = np.maximum(1, excess.sum(axis=0) / max(1, fields - 1))
    shape = np.broadcast_to((total + 0.5) / spread, (_DRAWS, types))
    return rng.standard_gamma(shape) * spread / area


def solve_shares(
    called: np.ndarray, rates: np.ndarray, invented: np.ndarray | float = 0.0
) -> np.ndarray:
    """Solves for the true shares that would result in the given calls.

    Args:
      called: (B, K) shares of the calls.
      rates: (B, K, K) or (1, K, K), fraction of the cells of type i that is called j; a row
        sums to less than 1 if cells are missed.
      invented: (B, K) or (1, K), number of invented cells divided by the number of all
        calls, by called type.

    Returns:
      (B, K) shares; each row is at least 0, sums to 1, and is the nearest such row to the
      solution of the equations (Duchi et al. 2008, doi:10.1145/1390156.1390176).
    """
    transposed = np.swapaxes(rates, -1, -2)
    real = np.maximum(called - invented, 0)
    # If all calls may be inventions, only the calls themselves are left to go by.
    real = np.where(real.sum(axis=-1, keepdims=True) > 0, real, called)
    found = np.linalg.solve(transposed, real[..., None])[..., 0]
    total = found.sum(axis=-1, keepdims=True)
    found = found / np.where(total > 0, total, 1)
    ordered = -np.sort(-found, axis=-1)
    places = np.arange(1, found.shape[-1] + 1)
    excess = (np.cumsum(ordered, axis=-1) - 1) / places
    last = (ordered > excess).sum(axis=-1, keepdims=True) - 1
    return np.maximum(found - np.take_along_axis(excess, last, axis=-1), 0)


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
      estimate: estimate from `estimate_shares` or `correct_shares`.
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


def _without_draws(counts: np.ndarray, reason: str) -> Estimate:
    types = len(counts)
    return Estimate(
        0,
        counts,
        np.full(types, np.nan),
        np.zeros((0, types)),
        np.zeros(0),
        reason=reason,
    )
