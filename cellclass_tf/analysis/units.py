"""Chooses the statistical unit, dishes or fields, and computes intervals over units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special, stats

LEVEL = 0.95
# Kinds of statistical units.
DISH, FIELD = "dish", "field"
# Smallest number of units for an interval of a score.
LEAST_FOR_SCORES = 5
# Largest number of groups in which the jackknife leaves units out.
_MOST_GROUPS = 40


def units_of(groups: Sequence[str], places: Sequence[str]) -> tuple[str, list[str]]:
    """Chooses the statistical unit, and returns the unit of each field.

    The unit is the acquisition group (a dish, well, animal or coverslip) if there are
    several groups, since cells of one dish are more alike than cells of two. With a single
    group it is the field. It is also the field if each field is a group of its own, as
    without `convert --group`, since it is then unknown which fields belong to one dish.

    Args:
      groups: group of each field; '' if unknown.
      places: scene of each field, the same for all its time points.

    Returns:
      DISH or FIELD, and the name of each field's unit.
    """
    several = len(set(groups))
    if several > 1 and several < len(set(zip(groups, places, strict=True))):
        return DISH, list(groups)
    return FIELD, list(places)


def place_of(row: Mapping[str, str]) -> str:
    """Returns the scene in a row of counts.csv, or the image if the row has no scene."""
    return row.get("scene") or f"image {row['image']}"


def left_out(units: Sequence[str]) -> np.ndarray:
    """Returns which fields remain when a unit, or a group of units, is left out.

    More than 40 units are left out in 40 groups of about the same size (delete-a-group
    jackknife; Kott 2001, J. Official Statistics 17, 521).

    Args:
      units: unit of each of F fields.

    Returns:
      (G, F) bool, one row per unit or group that is left out.
    """
    names = sorted(set(units))
    group = {name: number % _MOST_GROUPS for number, name in enumerate(names)}
    of = np.array([group[name] for name in units], np.int64)
    return of != np.arange(min(len(names), _MOST_GROUPS))[:, np.newaxis]


def t_interval(values: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Returns the (2, ...) ends of Student's intervals of the means of (U, ...) values."""
    reach = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    return np.mean(values, axis=0) + np.stack([-reach, reach])


def interval_of(
    score: float, without: np.ndarray, cells: int, level: float = LEVEL
) -> tuple[float, float] | None:
    """Computes the interval of a score in [0, 1] by the jackknife over units.

    Uses Student's t with the jackknife standard error of the logit (Tukey 1958; Efron &
    Stein 1981, Ann. Stat. 9, 586). If the score is 0 or 1 with and without each unit, units
    show no differences, and the interval is that of Clopper & Pearson (1934, Biometrika 26,
    404) for as many independent cells.

    Args:
      score: score of all units; NaN if undefined.
      without: (G,) scores with one unit, or group of units, left out; NaN if undefined.
      cells: number of cells on which the score is based.
      level: level of the interval.

    Returns:
      The ends of the interval; None if the score is undefined, or if fewer than
      LEAST_FOR_SCORES of `without` are defined.
    """
    without = without[np.isfinite(without)]
    if not np.isfinite(score) or len(without) < LEAST_FOR_SCORES or not cells:
        return None
    tail = (1 - level) / 2
    if score in (0.0, 1.0) and (without == score).all():
        end = tail ** (1 / cells)
        return (end, 1.0) if score else (0.0, 1 - end)
    # Scores are clipped by half a cell, so that logits are finite.
    least = 1 / (2 * cells + 2)
    logits = special.logit(np.clip(without, least, 1 - least))
    count = len(logits)
    error = np.sqrt((count - 1) / count * ((logits - logits.mean()) ** 2).sum())
    reach = stats.t.ppf(1 - tail, count - 1) * error
    middle = special.logit(np.clip(score, least, 1 - least))
    low, high = special.expit([middle - reach, middle + reach])
    return float(min(low, score)), float(max(high, score))
