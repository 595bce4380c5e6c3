"""The share of each type, corrected for the classifier's errors, with intervals."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import stats

LEVEL = 0.95
_DRAWS = 4000
# Calls of two types that are so alike say nothing of which type a cell is.
_WORST_CONDITION = 50.0
_MOST_FIELDS = 100_000


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """Shares of K types in the cells of F fields.

    Attributes:
      fields: F, those that have cells with a type.
      counts: (K,) int64, cells called each type.
      shares: (K,) float64, counts over all.
      draws: (B, K), shares as they would come out again; empty where `reason` says why.
      design_effect: by how many times the variance of the shares is that of independent
        cells; None of fewer than two fields.
      variance: (2, K), of the draws: what fields differ by, and what the confusion leaves
        open; empty without draws.
      reason: why there is no interval, or ''.
    """

    fields: int
    counts: np.ndarray
    shares: np.ndarray
    draws: np.ndarray
    design_effect: float | None = None
    variance: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((2, 0)))
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


def estimate_shares(
    counts: np.ndarray, *, seed: int = 0, level: float = LEVEL
) -> Estimate:
    """Estimates the shares as they were called, by bootstrap over fields.

    Cells of one field are not independent, so that whole fields are drawn (cluster
    bootstrap; Davison & Hinkley 1997, ch. 3.8). The share is a ratio of sums. Deviations
    are widened by sqrt(F / (F - 1)) * t / z, without which the interval of few fields is
    too narrow (Hesterberg 2015, doi:10.1080/00031305.2015.1089789). Where fields differ
    less than independent cells would by chance, cells are drawn in place of fields
    (Dirichlet, Jeffreys' prior), so that pure fields do not give an interval of no width.

    Args:
      counts: (F, K) cells called each type, by field.
      seed: of the draws.
      level: for which the widening is right.

    Returns:
      The estimate; of fewer than two fields with cells it has no draws, since one says
      nothing of how fields differ.
    """
    counts = np.asarray(counts, np.int64)
    counts = counts[counts.sum(axis=1) > 0]
    fields, total = len(counts), counts.sum(axis=0)
    if not fields:
        return _without_draws(total, "no cells with a type")
    shares = total / total.sum()
    if fields == 1:
        reason = "one field says nothing of how fields differ"
        return dataclasses.replace(
            _without_draws(total, reason), fields=1, shares=shares
        )
    effect = _design_effect(counts)
    rng = np.random.default_rng(seed)
    if effect < 1:
        draws = rng.dirichlet(total + 0.5, _DRAWS)
    else:
        picked = rng.multinomial(fields, np.full(fields, 1 / fields), _DRAWS)
        sums = picked @ counts
        draws = sums / sums.sum(axis=1, keepdims=True)
        draws = shares + (draws - shares) * _widening(fields, level)
        draws = np.clip(draws, 0, None)
        draws /= draws.sum(axis=1, keepdims=True)
    variance = np.stack([draws.var(axis=0), np.zeros(len(total))])
    return Estimate(fields, total, shares, draws, effect, variance)


def correct_shares(
    estimate: Estimate, confusions: np.ndarray, *, seed: int = 0
) -> Estimate:
    """Corrects shares for misclassification, and widens their intervals for it.

    Of two types this is the estimator of Rogan & Gladen (1978,
    doi:10.1093/oxfordjournals.aje.a112510); of more the inverse of the confusion matrix
    (Castleman & White 1981, doi:10.1002/cyto.990010611), brought to the nearest shares
    that are none below 0. The confusion is itself measured on a sample: each draw of the
    shares is corrected with a draw of the confusion (Dirichlet, Jeffreys' prior, as in
    Lang & Reiczigel 2014, doi:10.1016/j.prevetmed.2013.09.015), of as many cells as the
    held-out cells are worth, since errors of one field go together (Rao & Scott 1992,
    doi:10.2307/2532311).

    Args:
      estimate: what `estimate_shares` gave.
      confusions: (V, K, K) held-out cells by field, true type and called type.
      seed: of the draws.

    Returns:
      The corrected estimate. Without shares that can be had `reason` says why: a type has
      no held-out cells, or types are not told apart.
    """
    confusions = np.asarray(confusions, np.int64)
    total = confusions.sum(axis=0)
    reason = estimate.reason if not estimate.fields else ""
    if not reason and not total.sum(axis=1).all():
        reason = "a type has no held-out cells, so that its errors are not known"
    if not reason:
        rates = _rates(total)
        if np.linalg.cond(rates) > _WORST_CONDITION:
            reason = "on held-out cells the model does not tell the types apart"
    if reason:
        return dataclasses.replace(
            _without_draws(estimate.counts, reason), fields=estimate.fields
        )
    shares = solve_shares(estimate.shares[None], rates[None])
    if not len(estimate.draws):
        return dataclasses.replace(estimate, shares=shares[0])
    rng = np.random.default_rng([seed, 1])
    drawn = [
        rng.dirichlet(_worth(rows) + 0.5, len(estimate.draws))
        for rows in np.swapaxes(confusions, 0, 1)
    ]
    drawn = np.stack(drawn, axis=1)
    parts = (
        solve_shares(estimate.draws, rates[None]),
        solve_shares(estimate.shares[None], drawn),
    )
    return dataclasses.replace(
        estimate,
        shares=shares[0],
        draws=solve_shares(estimate.draws, drawn),
        variance=np.stack([part.var(axis=0) for part in parts]),
    )


def solve_shares(called: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """The true shares that would be called so.

    Args:
      called: (B, K) shares of the calls.
      rates: (B, K, K) or (1, K, K): of cells of type i, the share that is called j.

    Returns:
      (B, K): rows are at least 0 and sum to 1; the nearest to `called @ inverse(rates)`
      (Duchi et al. 2008, doi:10.1145/1390156.1390176).
    """
    transposed = np.swapaxes(rates, -1, -2)
    found = np.linalg.solve(transposed, called[..., None])[..., 0]
    ordered = -np.sort(-found, axis=-1)
    places = np.arange(1, found.shape[-1] + 1)
    excess = (np.cumsum(ordered, axis=-1) - 1) / places
    last = (ordered > excess).sum(axis=-1, keepdims=True) - 1
    return np.maximum(found - np.take_along_axis(excess, last, axis=-1), 0)


def fields_for(estimate: Estimate, width: float, level: float = LEVEL) -> np.ndarray:
    """The fewest fields that would give each share an interval of a width.

    More fields of the same kind narrow what fields differ by, not what the confusion
    leaves open.

    Args:
      estimate: what `estimate_shares` or `correct_shares` gave.
      width: from end to end of the interval.
      level: of the interval.

    Returns:
      (K,) float64: fields, at least 2; inf where no number will do, NaN without draws.
    """
    types = len(estimate.shares)
    if not len(estimate.draws):
        return np.full(types, np.nan)
    wanted = (width / (2 * stats.norm.ppf((1 + level) / 2))) ** 2
    # What one field would leave open if the interval were not widened for being few.
    of_one = estimate.variance[0] * estimate.fields
    of_one /= _widening(estimate.fields, level) ** 2
    needed = np.full(types, np.inf)
    numbers = np.unique(np.geomspace(2, _MOST_FIELDS, 4000).astype(int))
    for number in numbers[::-1]:
        spread = of_one / number * _widening(number, level) ** 2 + estimate.variance[1]
        needed = np.where(spread <= wanted, number, needed)
    return needed


def _without_draws(counts: np.ndarray, reason: str) -> Estimate:
    types = len(counts)
    nothing = np.full(types, np.nan), np.zeros((0, types))
    return Estimate(0, counts, *nothing, reason=reason)


def _widening(fields: int, level: float) -> float:
    """By how much the bootstrap of few fields is too narrow."""
    tail = (1 + level) / 2
    few = stats.t.ppf(tail, fields - 1) / stats.norm.ppf(tail)
    return float(few * np.sqrt(fields / (fields - 1)))


def _design_effect(counts: np.ndarray) -> float:
    """Variance of shares of (F, K) counts by field, over that of independent cells.

    The ratio estimator's variance by linearisation, summed over types (Kish 1965).
    Of one field it is 1; of fields of one type it is 0.
    """
    counts = counts[counts.sum(axis=1) > 0]
    fields, sizes = len(counts), counts.sum(axis=1)
    if fields < 2:
        return 1.0
    shares = counts.sum(axis=0) / sizes.sum()
    off = counts - sizes[:, None] * shares
    variance = fields / (fields - 1) * (off**2).sum() / sizes.sum() ** 2
    independent = (shares * (1 - shares)).sum() / sizes.sum()
    return float(variance / independent) if independent else 0.0


def _worth(counts: np.ndarray) -> np.ndarray:
    """As many independent cells (K,) as the cells (F, K) of some fields are worth."""
    fields = int((counts.sum(axis=1) > 0).sum())
    widening = _widening(fields, LEVEL) if fields > 1 else 1.0
    return counts.sum(axis=0) / max(1.0, _design_effect(counts) * widening**2)


def _rates(confusion: np.ndarray) -> np.ndarray:
    """Rows of a (K, K) confusion as shares."""
    return confusion / confusion.sum(axis=1, keepdims=True)
