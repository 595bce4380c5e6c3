"""What was sampled: dishes, or fields, and what can be said of others like them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special, stats

LEVEL = 0.95
# What is sampled.
DISH, FIELD = "dish", "field"
# From so many units on there is an interval of a score.
LEAST_FOR_SCORES = 5
# Units are left out in so many groups at most.
_MOST_GROUPS = 40


def units_of(groups: Sequence[str], places: Sequence[str]) -> tuple[str, list[str]]:
    """Says what was sampled, and the unit of each field.

    It is the acquisition group (a dish, well, animal or coverslip) where there are several,
    since cells of one dish are more alike than cells of two; of a single group the field.
    Where each field is a group of its own, as without `convert --group`, nobody has said
    which fields are of one dish, and fields are the units, too.

    Args:
      groups: of each field; '' if unknown.
      places: of each field, the same for all times of one scene.

    Returns:
      DISH or FIELD, and the name of each field's unit.
    """
    several = len(set(groups))
    if several > 1 and several < len(set(zip(groups, places, strict=True))):
        return DISH, list(groups)
    return FIELD, list(places)


def left_out(units: Sequence[str]) -> np.ndarray:
    """(G, F) bool: which of F fields stay when a unit, or a group of units, is left out.

    More than 40 units are left out in 40 groups of about one size (delete-a-group
    jackknife; Kott 2001, J. Official Statistics 17, 521).

    Args:
      units: of each field.
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
    """The interval of a score in [0, 1], from what it is without each unit.

    Student's t with the jackknife's standard error of the logit (Tukey 1958; Efron & Stein
    1981, Ann. Stat. 9, 586). Where everything is right, or nothing, units do not differ, and
    the interval is that of Clopper & Pearson (1934, Biometrika 26, 404) of as many
    independent cells.

    Args:
      score: of all units; NaN if there is none.
      without: (G,), of all but one, for each; NaN where there is none.
      cells: on which the score is based.
      level: of the interval.

    Returns:
      Its ends; None of a score without a basis, or of fewer than LEAST_FOR_SCORES units with
      one.
    """
    without = without[np.isfinite(without)]
    if not np.isfinite(score) or len(without) < LEAST_FOR_SCORES or not cells:
        return None
    tail = (1 - level) / 2
    if score in (0.0, 1.0) and (without == score).all():
        end = tail ** (1 / cells)
        return (end, 1.0) if score else (0.0, 1 - end)
    # Half a cell is as near to 0 or 1 as so many cells can tell.
    least = 1 / (2 * cells + 2)
    logits = special.logit(np.clip(without, least, 1 - least))
    count = len(logits)
    error = np.sqrt((count - 1) / count * ((logits - logits.mean()) ** 2).sum())
    reach = stats.t.ppf(1 - tail, count - 1) * error
    middle = special.logit(np.clip(score, least, 1 - least))
    low, high = special.expit([middle - reach, middle + reach])
    return float(min(low, score)), float(max(high, score))
