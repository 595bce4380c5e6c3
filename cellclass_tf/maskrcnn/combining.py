"""Combines the probabilities of several classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cellclass_tf.maskrcnn import postprocessing


def combine(found: Mapping[str, np.ndarray], named_by: Sequence[str]) -> np.ndarray:
    """Combines the probabilities of several classifiers.

    The logarithms are summed and divided by the square root of the number of classifiers.
    This lies between the product, which is right for independent errors, and the geometric
    mean, which is right for equal ones.

    Args:
      found: (N, K) probabilities of each classifier by its name; rows sum to 1.
      named_by: the classifiers to combine; at least one.

    Returns:
      (N, K) float32; rows sum to 1.
    """
    if len(named_by) == 1:
        return found[named_by[0]]
    logs = sum(postprocessing.log_of(found[name]) for name in named_by)
    return postprocessing.softmax(logs / np.sqrt(len(named_by)))
