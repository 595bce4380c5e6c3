"""Estimates the shares of types from a labelled random sample and the calls of all cells.

The network calls all cells, but some calls are wrong; a person's labels are correct, but few.
The estimate takes the calls of all cells and corrects them for the errors that the sample
shows in this culture.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import special, stats

from cellclass_tf.analysis.units import LEVEL

# Number of random draws for the interval.
_DRAWS = 4000
# With fewer labelled cells of a type, the calls count at least this much.
_FEW_LABELS, _LEAST_FACTOR = 10, 0.5
# Lower limit of `_slope`, by which differences of calls between units are divided.
_LEAST_SLOPE = 0.3
# Shares nearer to 0 or 1 than this number of standard errors get intervals without a
# logit: a share of 0 has no finite logit.
_LEAST_FOR_LOGIT = 2.0
_NEARLY = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledSample:
    """Labels and calls in a stratified random sample of W windows.

    All windows of one stratum have the same probability of being drawn.

    Attributes:
      strata: (W,) int, index of each window's stratum.
      population: (S,) number of windows in each stratum, drawn or not.
      true: (W, K) number of cells that the person labelled as each type, including cells
        that the network missed.
      called: (W, K) number of labelled cells that the network called each type.
      right: (W,) number of labelled cells that are called as they are labelled.
      real: (W,) number of outlined cells that are cells according to the person.
      called_in_all: (K,) number of cells called each type in all windows, drawn or not.
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
        """(S,) number of sampled windows in each stratum."""
        return np.bincount(self.strata, minlength=len(self.population))

    @property
    def weights(self) -> np.ndarray:
        """(W,) number of windows in the population that each sampled window represents."""
        sizes = np.maximum(self.sizes, 1)
        return (self.population / sizes)[self.strata]


@dataclasses.dataclass(frozen=True, eq=False)
class SampleEstimate:
    """Shares of K types, estimated from a labelled sample.

    Attributes:
      shares: (K,) shares among all real cells.
      draws: (B, K) random draws of the shares, which include the uncertainty of the sample
        and the differences between units.
      tuning: weight of the calls, in [0, 1]; 0 uses the labels alone.
      errors: (K,) standard errors due to the sample.
      accuracy: fraction of the cells found that are called as they are labelled.
      accuracy_ends: ends of the interval of `accuracy`.
    """

    shares: np.ndarray
    draws: np.ndarray
    tuning: float
    errors: np.ndarray
    accuracy: float
    accuracy_ends: tuple[float, float]

    def interval(self, level: float = LEVEL) -> np.ndarray:
        """Returns the (2, K) ends of the interval of each share."""
        tail = (1 - level) / 2
        ends = np.quantile(self.draws, [tail, 1 - tail], axis=0)
        # The interval always contains the share, also if it is 0 or 1.
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

    The number of cells of each type is the number of calls times a factor, plus the
    difference between labels and calls in the sample, in which each window is weighted by
    the number of windows that it represents. Shares are ratios of these numbers (a
    difference estimator: Särndal, Swensson & Wretman 1992, Model Assisted Survey Sampling,
    6.3; prediction-powered inference: Angelopoulos et al. 2023,
    doi:10.1126/science.adi6000). The factor minimizes the variance (PPI++,
    arXiv:2311.01453). With fewer than 10 labelled cells of a type it is at least 0.5: a
    sample that by chance has few cells of a rare type gives a low estimate, a small variance
    and a small factor at once, and too many intervals would be below the share. The variance
    is that of residuals, linearized at the shares, in a stratified sample without
    replacement. The variance of one more wrong cell is added, so that a sample without
    errors does not give an interval of width 0. Intervals are Student's t intervals of the
    logit; for a share within two standard errors of 0 or 1, they are intervals of the share
    itself.

    The sample describes the cells in these fields. Differences between units are added from
    `unit_draws`, as differences from the mean of the draws. Calls differ between units by
    less than the true shares do, the more so the more calls are wrong; the differences are
    scaled up accordingly.

    Args:
      sample: labels and calls.
      unit_draws: (B, K) draws of the shares as called, which include the differences between
        units (see `shares.estimate_shares`); None for an interval that is valid only for the
        cells in these fields.
      tuning: factor of the calls, in [0, 1]; None chooses it as above.
      seed: seed of the random draws.

    Returns:
      The estimate.

    Raises:
      ValueError: if a stratum that has windows has fewer than two in the sample, or if there
        are no cells.
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
    # A stratum whose windows are all labelled has no sampling error.
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
    """Returns the (K,) shares, and the estimated number of all cells."""
    missing = sample.weights @ (sample.true - factor * sample.called)
    # The number of cells of a rare type may be below 0 by chance.
    cells = np.maximum(factor * sample.called_in_all + missing, 0)
    if not cells.sum():
        cells = sample.weights @ sample.true
    return cells / cells.sum(), float(cells.sum())


def _linear(cells: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Returns (W, K) linearized contributions of the windows to the shares, times all cells."""
    return cells - cells.sum(axis=1, keepdims=True) * shares


def _covariance(sample: LabelledSample, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the (K, K) covariance of two estimated totals in a stratified sample.

    Args:
      sample: the sample.
      a: (W, K) values of the windows for the first total.
      b: (W, K) values of the windows for the second total.
    """
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
    least = _LEAST_FACTOR if sample.true.sum(axis=0).min() < _FEW_LABELS else 0
    return float(np.clip(both / variance, least, 1))


def _one_cell(sample: LabelledSample, shares: np.ndarray) -> np.ndarray:
    """Returns the (K,) variance of the totals due to one more wrong cell in each stratum.

    In a stratum with calls the cell is called wrongly; in a stratum without, it is missed.
    """
    sizes, population = sample.sizes, np.maximum(sample.population, 1)
    has_calls = np.zeros(len(sizes), bool)
    np.logical_or.at(has_calls, sample.strata, sample.called.sum(axis=1) > 0)
    # (S,) squared number of windows that a cell represents; 0 if all windows are labelled.
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
    """Returns (B, K) draws of the shares, distributed around the estimate as logits."""
    middle = np.clip(shares, _NEARLY, 1 - _NEARLY)
    steepness = middle * (1 - middle)
    logits = special.logit(middle) + chance / steepness
    if units is not None:
        centre = np.clip(units.mean(axis=0), _NEARLY, 1 - _NEARLY)
        drawn = special.logit(np.clip(units, _NEARLY, 1 - _NEARLY))
        # The same difference of shares is a larger difference of logits near 0 and 1.
        per_logit = centre * (1 - centre) / steepness / _slope(sample)
        logits = logits + (drawn - special.logit(centre)) * per_logit
    return special.expit(logits)


def _around_share(
    sample: LabelledSample,
    shares: np.ndarray,
    chance: np.ndarray,
    units: np.ndarray | None,
) -> np.ndarray:
    """Returns (B, K) draws of the shares around the estimate, clipped to [0, 1]."""
    draws = shares + chance
    if units is not None:
        draws = draws + (units - units.mean(axis=0)) / _slope(sample)
    return np.clip(draws, 0, 1)


def _slope(sample: LabelledSample) -> float:
    """Returns by how much the shares as called change per change of the true shares."""
    called = sample.called_in_all / sample.called_in_all.sum()
    right = sample.weights @ sample.right
    right = right / max((sample.weights @ sample.called).sum(), _NEARLY)
    # Accuracy of calls that are independent of the true type.
    by_chance = float((called**2).sum())
    slope = (right - by_chance) / max(1 - by_chance, _NEARLY)
    return float(np.clip(slope, _LEAST_SLOPE, 1))


def _accuracy(sample: LabelledSample) -> tuple[float, tuple[float, float]]:
    """Returns the fraction of found cells with the correct call, and its interval.

    The interval is that of Clopper and Pearson for the effective number of independent cells
    in the sample (Korn & Graubard 1998, Survey Methodology 24, 193).
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
