"""Combines the probabilities of several classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cellclass_tf.core.model_metadata import BY_DETECTOR
from cellclass_tf.maskrcnn import postprocessing


def combine(found: Mapping[str, np.ndarray], named_by: Sequence[str]) -> np.ndarray:
    """Combines the probabilities of several classifiers.

    The logarithms are summed and divided by the square root of the number of classifiers.
    This lies between the product, which is right for independent errors, and the geometric
    mean, which is right for equal ones.

    Args:
      found: (N, K) probabilities of each classifier by its name; rows sum to 1. A cell that
        a classifier cannot see has a row of NaN; the detector's replaces it.
      named_by: the classifiers to combine; at least one.

    Returns:
      (N, K) float32; rows sum to 1.
    """
    seen = [_with_detector(found[name], found) for name in named_by]
    if len(seen) == 1:
        return seen[0]
    logs = sum(postprocessing.log_of(probabilities) for probabilities in seen)
    return postprocessing.softmax(logs / np.sqrt(len(named_by)))


def _with_detector(
    probabilities: np.ndarray, found: Mapping[str, np.ndarray]
) -> np.ndarray:
    unseen = np.isnan(probabilities)
    if not unseen.any():
        return probabilities
    return np.where(unseen, found[BY_DETECTOR], probabilities)
