"""Computes how many cells to label for an interval of a given width."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from cellclass_tf.analysis import correction
from cellclass_tf.analysis.units import LEVEL

_REACH = float(stats.norm.ppf((1 + LEVEL) / 2))


def variance_a_cell(
    share: np.ndarray, held_out: correction.HeldOut | None, times: float = 1.0
) -> np.ndarray:
    """Returns the (K,) variance of the estimated shares for a single labelled cell.

    This is the mean squared error of a call, computed from the error rates on held-out
    fields. If they are unknown, or the variance of the labels themselves is smaller, it is
    the latter.

    Args:
      share: (K,) shares of the types.
      held_out: how the cells of held-out fields were called.
      times: how often the model errs, relative to its held-out fields.
    """
    alone = share * (1 - share)
    if held_out is None or held_out.problem:
        return alone
    joint = share[:, np.newaxis] * held_out.rates
    missed = share - joint.sum(axis=1)
    wrong = joint.sum(axis=0) + joint.sum(axis=1) - 2 * np.diag(joint)
    # A missed cell changes the share of its own type by 1 - share, of others by -share.
    lost = missed * (1 - share) ** 2 + (missed.sum() - missed) * share**2
    return np.minimum(alone, times * (wrong + lost))


def cells_for_width(
    width: float, variances: np.ndarray, of_units: np.ndarray | float
) -> int | None:
    """Returns the smallest number of labels that makes all intervals narrow enough.

    Args:
      width: width of an interval, from end to end.
      variances: (K,) variances from `variance_a_cell`.
      of_units: (K,) variance due to differences between units, which labels do not reduce.

    Returns:
      The number of labels; None if no number is enough.
    """
    room = (width / (2 * _REACH)) ** 2 - np.asarray(of_units, np.float64)
    if (room <= 0).any():
        return None
    # The variance with n labels is v / n, plus 1 / n² for one more wrong cell.
    needed = (variances + np.sqrt(variances**2 + 4 * room)) / (2 * room)
    return math.ceil(float(needed.max()))
