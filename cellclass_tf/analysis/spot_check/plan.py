"""How many cells have to be labelled for an interval of a wanted width."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from cellclass_tf.analysis import shares
from cellclass_tf.analysis.units import LEVEL

_REACH = float(stats.norm.ppf((1 + LEVEL) / 2))


def variance_a_cell(
    share: np.ndarray, held_out: shares.HeldOut | None, times: float = 1.0
) -> np.ndarray:
    """By how much one labelled cell leaves shares open, (K,).

    It is the mean square of what a cell's call is off, by the errors on held-out fields; and
    the variance of the labels themselves where those are not known, or are less.

    Args:
      share: (K,) of the types.
      held_out: what became of the cells of held-out fields.
      times: as often as there the model errs.
    """
    alone = share * (1 - share)
    if held_out is None or held_out.problem:
        return alone
    joint = share[:, np.newaxis] * held_out.rates
    missed = share - joint.sum(axis=1)
    wrong = joint.sum(axis=0) + joint.sum(axis=1) - 2 * np.diag(joint)
    # A missed cell of a type moves its share by 1 - share, and one of another by -share.
    lost = missed * (1 - share) ** 2 + (missed.sum() - missed) * share**2
    return np.minimum(alone, times * (wrong + lost))


def cells_for_width(
    width: float, variances: np.ndarray, of_units: np.ndarray | float
) -> int | None:
    """The smallest number of labels for which the intervals of all types are so narrow.

    Args:
      width: of an interval, end to end.
      variances: (K,) of `variance_a_cell`.
      of_units: (K,) variance of the shares that labels do not lessen, since units differ.

    Returns:
      The number; None where no number of labels will do.
    """
    room = (width / (2 * _REACH)) ** 2 - np.asarray(of_units, np.float64)
    if (room <= 0).any():
        return None
    # The variance of n labels is v / n, and 1 / n² of one more cell.
    needed = (variances + np.sqrt(variances**2 + 4 * room)) / (2 * room)
    return math.ceil(float(needed.max()))
