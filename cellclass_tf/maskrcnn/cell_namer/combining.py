"""What the detector and the namer say of a cell, put together."""

from __future__ import annotations

import numpy as np

from cellclass_tf.core.model_metadata import BY_DETECTOR, BY_NAMER
from cellclass_tf.maskrcnn import postprocessing


def combine(detector: np.ndarray, namer: np.ndarray, named_by: str) -> np.ndarray:
    """Combines the probabilities of two networks.

    Args:
      detector: (N, K) probabilities of the detector, rows summing to 1.
      namer: the same of the namer.
      named_by: 'detector' or 'namer' for one of them, 'both' for the geometric mean.

    Returns:
      (N, K) float32, rows summing to 1.
    """
    if named_by == BY_DETECTOR:
        return detector
    if named_by == BY_NAMER:
        return namer
    floor = 1e-9
    product = np.maximum(detector, floor) * np.maximum(namer, floor)
    # This also lets the rows sum to 1.
    return postprocessing.at_temperature(np.sqrt(product), 1.0)
