"""Combines the probabilities of the detector and of the namer."""

from __future__ import annotations

import numpy as np

from cellclass_tf.core.model_metadata import BY_DETECTOR, BY_NAMER
from cellclass_tf.maskrcnn import postprocessing


def combine(detector: np.ndarray, namer: np.ndarray, named_by: str) -> np.ndarray:
    """Combines the probabilities of two networks.

    Args:
      detector: (N, K) probabilities by the detector; rows sum to 1.
      namer: (N, K) probabilities by the namer; rows sum to 1.
      named_by: 'detector' or 'namer' for one of them, 'both' for their geometric mean.

    Returns:
      (N, K) float32; rows sum to 1.
    """
    if named_by == BY_DETECTOR:
        return detector
    if named_by == BY_NAMER:
        return namer
    logs = postprocessing.log_of(detector) + postprocessing.log_of(namer)
    return postprocessing.softmax(logs / 2)
