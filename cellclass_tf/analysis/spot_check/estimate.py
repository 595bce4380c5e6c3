"""Shares of types from a labelled random sample of windows and the calls of all cells.

A network's calls cost nothing and may be wrong; a person's labels are right and few. The
estimate takes the calls of all cells, and corrects them by what the sample shows of their
errors, in this very culture.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import special, stats

from cellclass_tf.analysis.units import LEVEL

# Draws of the interval.
_DRAWS = 4000
# How far calls follow the truth at least, for the differences between units.
_LEAST_SLOPE = 0.3
# Nearer to 0 or 1 than so many standard errors, a logit is no help: a share of 0 may be
# any small one.
_LEAST_FOR_LOGIT = 2.0
_NEARLY = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledSample:
    """What a person found in a random sample of windows, by stratum.

    Windows of one stratum were drawn with one probability. Of each the cells are counted
    that the person found in it, and those that the network called.

    Attributes:
      strata: (W,) int, number of each window's stratum.
      population: (S,) windows of each stratum that there are.
      true: (W, K) cells of each type by the person, missed ones among them.
      called: (W, K) cells called each type, of those that got a label.
      right: (W,) cells with a label that are called as they are labelled.
      real: (W,) cells with a label that are cells.
      called_in_all: (K,) cells called each type in all windows.
    """

    strata: np.ndarray
    population: np.ndarray
    true: np.ndarray
    called: np.ndarray
    right: np.ndarray
    real: np.ndarray
    called_in_all: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """(S,) windows in the sample, by stratum."""
        return np.bincount(self.strata, minlength=len(self.population))

    @property
    def weights(self) -> np.ndarray:
        """(W,): for how many windows of the population each one stands."""
        sizes = np.maximum(self.sizes, 1)
        return (self.population / sizes)[self.strata]


@dataclasses.dataclass(frozen=True, eq=False)
class SampleEstimate:
    """Shares of K types that a labelled sample gives.

    Attributes:
      shares: (K,) in the cells that exist.
      draws: (B, K): how far the sample, and the differences between units, leave them open.
      tuning: how much the calls count, in [0, 1]; at 0 the labels stand alone.
      errors: (K,) standard errors that are due to the sample.
      accuracy: share of the found cells that are called as they are labelled.
      accuracy_ends: of its interval.
    """

    shares: np.ndarray
    draws: np.ndarray
    tuning: float
    errors: np.ndarray
    accuracy: float
    accuracy_ends: tuple[float, float]

    def interval(self, level: float = LEVEL) -> np.ndarray:
        """(2, K): the ends of the interval of each share."""
        tail = (1 - level) / 2
        ends = np.quantile(self.draws, [tail, 1 - tail], axis=0)
        # The share itself lies in it, also where it is 0 or 1.
        return np.stack(
            [np.minimum(ends[0], self.shares), np.maximum(ends[1], self.shares)]
        )


def estimate_by_sample(
    sample: LabelledSample,
    unit_draws: np.ndarray | None = None,
    *,
    tuning: float | None = None,
    seed: int = 0,
) -> SampleEstimate:
    """Estimates shares by prediction-powered inference.

    The numbers of cells by type are those of the calls, times a factor, plus what the
    sample shows to be missing, each window for as many as it stands for; shares are their
    ratios (a difference estimator: Särndal, Swensson & Wretman 1992, Model Assisted Survey
    Sampling, 6.3; prediction-powered inference: Angelopoulos et al. 2023,
    doi:10.1126/science.adi6000). The factor is the one of the smallest variance (PPI++,
    arXiv:2311.01453). The variance is that of a stratified sample without replacement, of
    residuals linearized at the shares, and that of one more cell, so that a sample without
    an error does not pass for certainty. Intervals are those of the logit, with Student's t;
    of a share within two standard errors of 0 or 1 those of the share itself.

    The sample tells of the cells in these fields. How units differ is added from
    `unit_draws`: calls differ between units by less than the truth does, the less the
    fewer calls are right beyond what chance would give.

    Args:
      sample: the labels and calls.
      unit_draws: (B, K) draws of the shares as called, of units such as these (see
        `shares.estimate_shares`); None for an interval of the cells in these fields alone.
      tuning: the factor of the calls; None for the best.
      seed: of the draws.

    Returns:
      The estimate.

    Raises:
      ValueError: if a stratum with windows has fewer than two in the sample, or if there is
        no cell.
    """
    sizes, population = sample.sizes, sample.population
    if (sizes[population > 1] < 2).any() or (sizes > population).any():
        raise ValueError("Expected two windows or more of each stratum.")
    if not (sample.true.sum() and sample.called_in_all.sum()):
        raise ValueError("Expected cells.")
    factor = 1.0 if tuning is None else tuning
    shares, total = _shares(sample, factor)
    for _ in range(3 if tuning is None else 0):
        factor = _best_factor(sample, shares)
        shares, total = _shares(sample, factor)
    residuals = _linear(sample.true, shares) - factor * _linear(sample.called, shares)
    variances = np.diag(_covariance(sample, residuals, residuals)) / total**2
    variances = variances + _one_cell(sample, shares) / total**2
    errors = np.sqrt(variances)
    rng = np.random.default_rng([seed, 2])
    # Of a stratum that was labelled as a whole nothing is left to chance.
    freedom = max(1, int(np.maximum(sizes - 1, 0)[sizes < population].sum()))
    chance = rng.standard_t(freedom, (_DRAWS, 1)) * errors
    units = _unit_draws(unit_draws, rng)
    draws = np.where(
        np.minimum(shares, 1 - shares) >= _LEAST_FOR_LOGIT * errors,
        _around_logit(sample, shares, chance, units),
        _around_share(sample, shares, chance, units),
    )
    accuracy, ends = _accuracy(sample)
    return SampleEstimate(shares, draws, factor, errors, accuracy, ends)


def _shares(sample: LabelledSample, factor: float) -> tuple[np.ndarray, float]:
    """(K,) shares, and the number of all cells."""
    missing = sample.weights @ (sample.true - factor * sample.called)
    # Below 0 only by chance, of a type that is hardly there.
    cells = np.maximum(factor * sample.called_in_all + missing, 0)
    if not cells.sum():
        cells = sample.weights @ sample.true
    return cells / cells.sum(), float(cells.sum())


def _linear(cells: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(W, K): by how much each window's cells move the shares, times all cells."""
    return cells - cells.sum(axis=1, keepdims=True) * shares


def _covariance(sample: LabelledSample, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(K, K) of the totals that windows' (W, K) values give in a stratified sample."""
    sums = np.zeros((a.shape[1], b.shape[1]))
    for stratum, (size, of) in enumerate(
        zip(sample.sizes, sample.population, strict=True)
    ):
        if size < 2:
            continue
        here = sample.strata == stratum
        parts = [values[here] - values[here].mean(axis=0) for values in (a, b)]
        sums += of**2 * (1 - size / of) / size * parts[0].T @ parts[1] / (size - 1)
    return sums


def _best_factor(sample: LabelledSample, shares: np.ndarray) -> float:
    true, called = (_linear(cells, shares) for cells in (sample.true, sample.called))
    variance = np.trace(_covariance(sample, called, called))
    if not variance > 0:
        return 1.0
    both = np.trace(_covariance(sample, true, called))
    return float(np.clip(both / variance, 0, 1))


def _one_cell(sample: LabelledSample, shares: np.ndarray) -> np.ndarray:
    """(K,) variance of one more cell in each stratum, of the totals.

    Where cells were called, it is called wrongly; where none were, it was missed.
    """
    sizes, population = sample.sizes, np.maximum(sample.population, 1)
    has_calls = np.zeros(len(sizes), bool)
    np.logical_or.at(has_calls, sample.strata, sample.called.sum(axis=1) > 0)
    # (S,): windows that a cell stands for, squared, as far as not all were labelled.
    each = (population / np.maximum(sizes, 1)) ** 2 * (1 - sizes / population)
    each = np.where(sizes > 0, each, 0)
    missed = np.maximum(shares * (1 - shares), 1e-4)
    return each[has_calls].sum() + each[~has_calls].sum() * missed


def _unit_draws(
    draws: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray | None:
    if draws is None or not len(draws):
        return None
    return draws[rng.integers(len(draws), size=_DRAWS)]


def _around_logit(
    sample: LabelledSample,
    shares: np.ndarray,
    chance: np.ndarray,
    units: np.ndarray | None,
) -> np.ndarray:
    """(B, K) shares whose logits lie around those of the estimate."""
    middle = np.clip(shares, _NEARLY, 1 - _NEARLY)
    steepness = middle * (1 - middle)
    logits = special.logit(middle) + chance / steepness
    if units is not None:
        called = _called_shares(sample)
        drawn = special.logit(np.clip(units, _NEARLY, 1 - _NEARLY))
        # A logit moves more for the same difference where the share is small.
        per_logit = called * (1 - called) / steepness / _slope(sample)
        logits = logits + (drawn - special.logit(called)) * per_logit
    return special.expit(logits)


def _around_share(
    sample: LabelledSample,
    shares: np.ndarray,
    chance: np.ndarray,
    units: np.ndarray | None,
) -> np.ndarray:
    """(B, K) shares around those of the estimate, cut to [0, 1]."""
    draws = shares + chance
    if units is not None:
        draws = draws + (units - _called_shares(sample)) / _slope(sample)
    return np.clip(draws, 0, 1)


def _called_shares(sample: LabelledSample) -> np.ndarray:
    called = sample.called_in_all / sample.called_in_all.sum()
    return np.clip(called, _NEARLY, 1 - _NEARLY)


def _slope(sample: LabelledSample) -> float:
    """By how much the shares as called move when the true ones do."""
    called = _called_shares(sample)
    right = sample.weights @ sample.right
    right = right / max((sample.weights @ sample.called).sum(), _NEARLY)
    # Calls that say nothing of the types would be right so often.
    by_chance = float((called**2).sum())
    slope = (right - by_chance) / max(1 - by_chance, _NEARLY)
    return float(np.clip(slope, _LEAST_SLOPE, 1))


def _accuracy(sample: LabelledSample) -> tuple[float, tuple[float, float]]:
    """The share of found cells with the right call, and the ends of its interval.

    The interval is that of Clopper and Pearson for as many independent cells as the sample
    is worth (Korn & Graubard 1998, Survey Methodology 24, 193).
    """
    weights = sample.weights
    real = float(weights @ sample.real)
    if not real:
        return float("nan"), (0.0, 1.0)
    right = float(weights @ sample.right) / real
    residuals = (sample.right - right * sample.real)[:, np.newaxis]
    variance = _covariance(sample, residuals, residuals)[0, 0] / real**2
    worth = float(sample.real.sum())
    if variance > 0:
        worth = min(worth, right * (1 - right) / variance)
    tail = (1 - LEVEL) / 2
    hits, others = right * worth, (1 - right) * worth
    low = stats.beta.ppf(tail, hits, others + 1) if hits else 0.0
    high = stats.beta.ppf(1 - tail, hits + 1, others) if others > 1e-9 else 1.0
    return right, (float(low), float(high))
