"""Multinomial logistic regression on standardised features of cells."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import optimize

# Inverse strength of the penalty on the squared weights, as in scikit-learn.
_C = 0.1
_MOST_ITERATIONS = 2000
_LEAST_SPREAD = 1e-6


@dataclasses.dataclass(frozen=True)
class LinearClassifier:
    """A linear classifier of features.

    Attributes:
      weights: (F, K) float32.
      bias: (K,) float32.
    """

    weights: np.ndarray
    bias: np.ndarray


def fit(features: np.ndarray, type_ids: np.ndarray, types: int) -> LinearClassifier:
    """Fits a classifier in which all types have equal weight, however many cells they have.

    Args:
      features: (N, F) features of training cells.
      type_ids: (N,) their types, counted from 0.
      types: K, number of types; each has at least one cell.
    """
    middles = features.mean(axis=0, dtype=np.float64)
    spreads = np.maximum(features.std(axis=0, dtype=np.float64), _LEAST_SPREAD)
    seen = (features - middles) / spreads
    count, width = seen.shape
    importance = count / (types * np.bincount(type_ids, minlength=types))[type_ids]
    wanted = np.eye(types)[type_ids]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = flat[:-types].reshape(width, types), flat[-types:]
        logits = seen @ weights + bias
        logits -= logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        value = -_C * (importance * (wanted * logs).sum(axis=1)).sum()
        slope = _C * importance[:, np.newaxis] * (np.exp(logs) - wanted)
        gradient = np.concatenate([(seen.T @ slope + weights).ravel(), slope.sum(0)])
        return value + 0.5 * np.square(weights).sum(), gradient

    found = optimize.minimize(
        loss,
        np.zeros(width * types + types),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MOST_ITERATIONS},
    )
    weights = found.x[:-types].reshape(width, types) / spreads[:, np.newaxis]
    bias = found.x[-types:] - middles @ weights
    return LinearClassifier(weights.astype(np.float32), bias.astype(np.float32))
