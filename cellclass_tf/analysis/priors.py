"""Estimates shares from the network's own probabilities, as a warning sign only."""

from __future__ import annotations

import numpy as np

_STEPS, _CLOSE = 500, 1e-6


def em_shares(probabilities: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns the shares of types for which the calibrated probabilities are most likely.

    Uses expectation maximization (Saerens et al. 2002, Neural Comput. 14, 21). With
    overconfident probabilities, intervals of this estimate contain the true value too
    rarely. It is therefore only compared with the estimate from calls, as a check.

    Args:
      probabilities: (N, K) probabilities of the types of each cell.
      known: (K,) shares of the types in the fields on which probabilities were calibrated.

    Returns:
      (K,) float64 shares; NaN without cells.
    """
    probabilities = np.asarray(probabilities, np.float64)
    if not len(probabilities):
        return np.full(len(known), np.nan)
    shares = np.asarray(known, np.float64)
    # Divided by the shares of the calibration, probabilities are likelihoods.
    likelihoods = probabilities / np.maximum(shares, 1e-9)
    for _ in range(_STEPS):
        posterior = likelihoods * shares
        posterior /= np.maximum(posterior.sum(axis=1, keepdims=True), 1e-300)
        before, shares = shares, posterior.mean(axis=0)
        if np.abs(shares - before).max() < _CLOSE:
            break
    return shares
