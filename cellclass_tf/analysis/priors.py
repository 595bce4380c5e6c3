"""Shares by the network's own probabilities: no estimate, but a warning sign."""

from __future__ import annotations

import numpy as np

_STEPS, _CLOSE = 500, 1e-6


def em_shares(probabilities: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Shares of types for which calibrated probabilities would be as they are.

    By expectation maximization (Saerens et al. 2002, Neural Comput. 14, 21). Probabilities
    that are too sure give intervals that hold the truth too seldom, so that this serves only
    to see whether calls and probabilities tell of the same culture.

    Args:
      probabilities: (N, K) of the types of each cell.
      known: (K,) shares of the types where the probabilities were calibrated.

    Returns:
      (K,) float64; NaN without cells.
    """
    probabilities = np.asarray(probabilities, np.float64)
    if not len(probabilities):
        return np.full(len(known), np.nan)
    shares = np.asarray(known, np.float64)
    # Without the shares that they were calibrated with, they are likelihoods.
    likelihoods = probabilities / np.maximum(shares, 1e-9)
    for _ in range(_STEPS):
        posterior = likelihoods * shares
        posterior /= np.maximum(posterior.sum(axis=1, keepdims=True), 1e-300)
        before, shares = shares, posterior.mean(axis=0)
        if np.abs(shares - before).max() < _CLOSE:
            break
    return shares
