"""The share of each type among the cells of a culture, with intervals.

Cells of one dish are more alike than cells of two, so that the dish is what is sampled. How much
they are alike, the intraclass correlation (ICC), is itself unknown, and with few dishes it is
this that decides how wide an honest interval is.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from cellclass_tf.analysis.units import LEVEL, t_interval

# With fewer units the prior of the ICC decides how wide an interval is.
FEW_UNITS = 4
_DRAWS = 4000
# Proposals for each draw, and how many equally likely values of the ICC are tried.
_PROPOSALS, _GRID = 3, 200
_NUMBERS_AT_ONCE = 2_000_000
# By how much proposals are spread wider than the posterior is thought to be.
_WIDER = 0.6
# Beta priors of the ICC: of the types in dishes, and of errors in held-out dishes.
_ICC_OF_TYPES, _ICC_OF_ERRORS = (0.5, 3.0), (1.0, 20.0)
# Calls of two types that are so alike say nothing of which type a cell is.
_WORST_CONDITION = 50.0
_MOST_UNITS = 100_000


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """What became of the true cells of V held-out fields, each cell once.

    Attributes:
      confusions: (V, K, K) cells by field, true type and called type.
      missed: (V, K) cells by field and true type that were not found.
      invented: (V, K) found cells by called type that are none.
      areas: (V,) of the fields, in the unit in which those of the culture are given.
      units: (V,) name of the dish of each field.
    """

    confusions: np.ndarray
    missed: np.ndarray
    invented: np.ndarray
    areas: np.ndarray
    units: Sequence[str]

    def rows(self, type_index: int) -> np.ndarray:
        """What became of the cells of one type, (U, K + 1) by unit; the last are missed.

        Units are dishes, or fields where a single dish has cells of the type.
        """
        found = np.column_stack(
            [self.confusions[:, type_index], self.missed[:, type_index]]
        )
        has_cells = found.sum(axis=1) > 0
        dishes = {name for name, has in zip(self.units, has_cells, strict=True) if has}
        return summed(found, self.units) if len(dishes) > 1 else found[has_cells]

    @functools.cached_property
    def rates(self) -> np.ndarray:
        """(K, K): of the cells of each type, the share that is called each type."""
        calls = self.confusions.sum(axis=0)
        cells = calls.sum(axis=1) + self.missed.sum(axis=0)
        return calls / np.maximum(cells, 1)[:, np.newaxis]

    def invented_on(self, area: float) -> np.ndarray:
        """(K,): how many cells are invented on an area, by called type."""
        counted = self.areas.sum()
        return self.invented.sum(axis=0) * (area / counted if counted else 0.0)

    @property
    def problem(self) -> str:
        """Why nothing can be corrected by these fields, or ''."""
        found = self.rates.sum(axis=1, keepdims=True)
        if not found.all():
            return "a type has no held-out cells, so that its errors are not known"
        if np.linalg.cond(self.rates / found) > _WORST_CONDITION:
            return "on held-out cells the model does not tell the types apart"
        return ""


def summed(counts: np.ndarray, units: Sequence[str]) -> np.ndarray:
    """Adds the rows (F, ...) of each unit, in the order of their names."""
    names, of = np.unique(np.asarray(units, str), return_inverse=True)
    sums = np.zeros((len(names), *np.shape(counts)[1:]), np.asarray(counts).dtype)
    np.add.at(sums, of, counts)
    return sums


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """Shares of K types in the cells of U units, such as dishes.

    Attributes:
      units: U, those that have cells with a type.
      counts: (K,) int64, cells called each type.
      shares: (K,) float64, counts over all; corrected ones after `correct_shares`.
      draws: (B, K) of their posterior; empty where `reason` says why.
      icc: (B,) of the posterior of the intraclass correlation.
      cells_a_unit: mean number of cells.
      gain: by how many times the correction widens the variance of the shares, (K,) or 1.
      left_open: (K,) or 0, variance that is due to the number of held-out cells.
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
        """(2, K): the ends of the interval of each share; None without draws."""
        if not len(self.draws):
            return None
        tail = (1 - level) / 2
        return np.quantile(self.draws, [tail, 1 - tail], axis=0)

    def p_values(self, expected: np.ndarray) -> np.ndarray | None:
        """(K,) two-sided, of each type's expected share (K,); None without draws.

        A value is below 1 - level where the interval of that level leaves the expected
        share out.
        """
        if not len(self.draws):
            return None
        below = (self.draws <= expected).mean(axis=0)
        above = (self.draws >= expected).mean(axis=0)
        return np.minimum(1, 2 * np.maximum(np.minimum(below, above), 1 / _DRAWS))


def estimate_shares(counts: np.ndarray, *, seed: int = 0) -> Estimate:
    """Estimates the shares as they were called.

    Args:
      counts: (U, K) cells called each type, by unit.
      seed: of the draws.

    Returns:
      The estimate, with draws of `posterior`; of fewer than two units with cells it has no
      draws, since one says nothing of how units differ.
    """
    counts = np.asarray(counts, np.int64)
    counts = counts[counts.sum(axis=1) > 0]
    units, total = len(counts), counts.sum(axis=0)
    if not units:
        return _without_draws(total, "no cells with a type")
    shares = total / total.sum()
    if units == 1:
        reason = "one field says nothing of how fields differ"
        return dataclasses.replace(
            _without_draws(total, reason), units=1, shares=shares
        )
    draws, icc = posterior(counts, _ICC_OF_TYPES, np.random.default_rng(seed))
    return Estimate(units, total, shares, draws, icc, total.sum() / units)


def posterior(
    counts: np.ndarray, prior: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws from the posterior of shares and ICC of a Dirichlet-multinomial.

    Each unit has shares of its own, which are Dirichlet with a mean that is wanted and a
    concentration (1 - ICC) / ICC (Mosimann 1962, Biometrika 49, 65; Williams 1982,
    Appl. Stat. 31, 144). The mean has Jeffreys' prior, the ICC a Beta prior, which is weak
    but bounds what two or three units leave open (Gelman 2006, Bayesian Anal. 1, 515).
    Draws are proposals, resampled by their weights (Rubin 1988): the ICC from a grid, by
    the likelihood at the mean that fits it best, the mean from the Dirichlet of as many
    cells as the units are worth at that ICC (Kish 1965).

    Args:
      counts: (U, C) cells by unit and category.
      prior: a and b of the ICC's Beta prior.
      rng: source of chance.

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
    # A tenth spread evenly, so that no value of the ICC is left out.
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
    """(B,) of shares (B, C) and ICC (B,), of (U, C) counts by unit, but for a constant."""
    total = ((1 - icc) / icc)[:, None]
    alphas = (total * shares)[:, None]
    sums = np.zeros(len(icc))
    # Of thousands of fields a few at a time, so that memory stays bounded.
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

    Calls are what the true cells of each type give by the rates of the held-out fields,
    and inventions by area; solved for the numbers of true cells. Of two types and without
    cells missed or invented this is the estimator of Rogan & Gladen (1978,
    doi:10.1093/oxfordjournals.aje.a112510); of more the inverse of the confusion matrix
    (Hay 1988, Int. J. Remote Sens. 9, 1395), brought to the nearest shares that are none
    below 0. The rates are themselves measured on a sample: each draw of the shares is
    corrected with a draw of their `posterior` (as in Lang & Reiczigel 2014,
    doi:10.1016/j.prevetmed.2013.09.015).

    Args:
      estimate: what `estimate_shares` gave.
      held_out: what became of the cells of held-out fields.
      area: of all fields of the culture, in the unit of `held_out.areas`.
      seed: of the draws.

    Returns:
      The corrected estimate. Without shares that can be had `reason` says why: a type has
      no held-out cells, or types are not told apart.
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
    """Draws of `HeldOut.rates` (B, K, K), and of inventions on a unit of area (B, K).

    They are the same for all groups of a run.
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
    """The shares of each unit by itself, corrected as by `correct_shares`.

    Args:
      counts: (U, K) cells called each type, by unit, of which each has some.
      held_out: what became of the cells of held-out fields; None does not correct.
      areas: (U,) of the units, in the unit of `held_out.areas`; 0 if not given.

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
    """Draws (B, K) of the cells invented on one unit of area, by called type."""
    area, types = held_out.areas.sum(), held_out.invented.shape[1]
    if not area:
        return np.zeros((_DRAWS, types))
    total = held_out.invented.sum(axis=0)
    expected = np.outer(held_out.areas / area, total)
    # By how much fields differ more than chance would have it.
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.nan_to_num((held_out.invented - expected) ** 2 / expected)
    fields = np.count_nonzero(held_out.areas)
    spread = np.maximum(1, excess.sum(axis=0) / max(1, fields - 1))
    shape = np.broadcast_to((total + 0.5) / spread, (_DRAWS, types))
    return rng.standard_gamma(shape) * spread / area


def solve_shares(
    called: np.ndarray, rates: np.ndarray, invented: np.ndarray | float = 0.0
) -> np.ndarray:
    """The true shares that would be called so.

    Args:
      called: (B, K) shares of the calls.
      rates: (B, K, K) or (1, K, K): of cells of type i, the share that is called j; a row
        sums to less than 1 if some are missed.
      invented: (B, K) or (1, K), cells that are none over all calls, by called type.

    Returns:
      (B, K): rows are at least 0 and sum to 1; the nearest to what solves the equations
      (Duchi et al. 2008, doi:10.1145/1390156.1390176).
    """
    transposed = np.swapaxes(rates, -1, -2)
    real = np.maximum(called - invented, 0)
    # Where all calls are inventions, nothing is known but the calls.
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
    """(2, K): intervals from the units' own shares, without a prior; None of one unit.

    Student's t of the logits of each unit's share, half a cell added to both sides.

    Args:
      counts: (U, K) cells called each type, by unit.
      level: of the intervals.
    """
    counts = np.asarray(counts, np.float64)
    counts = counts[counts.sum(axis=1) > 0]
    if len(counts) < 2:
        return None
    rest = counts.sum(axis=1, keepdims=True) - counts
    logits = np.log((counts + 0.5) / (rest + 0.5))
    return special.expit(t_interval(logits, level))


def units_for(estimate: Estimate, width: float, level: float = LEVEL) -> np.ndarray:
    """The fewest units that would give each share an interval of a width.

    More units of the same kind narrow what units differ by, not what the held-out cells
    leave open.

    Args:
      estimate: what `estimate_shares` or `correct_shares` gave.
      width: from end to end of the interval.
      level: of the interval.

    Returns:
      (K,) float64: units, at least 2; inf where no number will do, NaN without draws.
    """
    types = len(estimate.shares)
    if not len(estimate.draws):
        return np.full(types, np.nan)
    cells = max(estimate.cells_a_unit, 1.0)
    called = (estimate.counts + 0.5) / (estimate.counts.sum() + 1)
    # Over all that the ICC may be.
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
