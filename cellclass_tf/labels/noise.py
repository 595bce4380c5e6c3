"""Estimates the noise of a channel, and decides whether a signal stands out of it."""

from __future__ import annotations

import numpy as np

# Grey levels, and standard deviations of the noise, by which nuclei rise above the
# background. Otsu's method cuts pure noise 1.6 standard deviations apart.
_LEAST_RISE, _LEAST_RISE_SD = 8.0, 4.0
# Number of rows from which the noise is estimated.
_ROWS = 200


def noise_sd(channel: np.ndarray) -> float:
    """Estimates the standard deviation of a channel's noise, in its grey levels.

    In most of a field neighbouring pixels differ by their noise alone.

    Args:
      channel: (H, W) whole numbers below 2**31, or floats.
    """
    rows = channel[:: max(1, channel.shape[0] // _ROWS)]
    steps = np.diff(rows.astype(np.float32 if rows.dtype.kind == "f" else np.int32))
    return robust_sd(steps) / 2**0.5 if steps.size else 0.0


def robust_sd(deviations: np.ndarray) -> float:
    """Estimates a standard deviation about 0 by the median absolute deviation."""
    from scipy import special

    return float(np.median(np.abs(deviations)) / special.ndtri(0.75))


def stands_out(rise: float, noise: float) -> bool:
    """Returns whether a rise above the background, in grey levels, is more than noise."""
    return bool(rise > max(_LEAST_RISE, _LEAST_RISE_SD * noise))
