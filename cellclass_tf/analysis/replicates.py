"""Adds up the dishes of each replicate, and compares conditions by their replicates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from cellclass_tf.analysis import contrasts, correction, held_out_cells
from cellclass_tf.analysis.conditions import Assignment
from cellclass_tf.analysis.units import place_of
from cellclass_tf.core.run_record import RunRecord
from cellclass_tf.errors import InputError, first_names


@dataclasses.dataclass(frozen=True)
class Replicate:
    """One replicate of one condition.

    Attributes:
      condition: name of the condition.
      replicate: name of the replicate.
      groups: names of its dishes.
      scenes: number of scenes with typed cells; all time points of a scene count as one.
      fields: number of fields with typed cells, one per scene and time point.
      cells: number of typed cells.
      shares: (K,) shares of the types, corrected if possible.
      by_time: {time point: (K,) shares}; empty if there is only one time point.
    """

    condition: str
    replicate: str
    groups: tuple[str, ...]
    scenes: int
    fields: int
    cells: int
    shares: np.ndarray
    by_time: Mapping[int, np.ndarray]


def replicates_of(
    rows: Sequence[Mapping[str, str]],
    names: Sequence[str],
    known: Mapping[str, Assignment],
    held_out: correction.HeldOut | None,
    record: RunRecord,
) -> tuple[list[Replicate], list[str]]:
    """Returns the replicates that have typed cells, and the names of those that have none.

    Args:
      rows: rows of counts.csv.
      names: names of the types, in class order.
      known: condition and replicate of each group.
      held_out: how the cells of held-out fields were called; None does not correct.
      record: record of the run.

    Raises:
      InputError: if no replicate has typed cells.
    """
    areas = held_out_cells.areas_of(rows, record)
    by_replicate: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        of = known.get(row.get("group") or "")
        if of is not None:
            by_replicate.setdefault((of.condition, of.replicate), []).append(row)
    found, empty = [], []
    for (condition, replicate), part in sorted(by_replicate.items()):
        times = sorted({int(row.get("time") or 0) for row in part})
        of_all_times = _shares(part, names, held_out, areas)
        if of_all_times is None:
            empty.append(f"{condition}, {replicate}")
            continue
        by_time = {}
        for time in times if len(times) > 1 else ():
            at = [row for row in part if int(row.get("time") or 0) == time]
            of_time = _shares(at, names, held_out, areas)
            if of_time is not None:
                by_time[time] = of_time
        typed = [row for row in part if _cells(row, names)]
        found.append(
            Replicate(
                condition,
                replicate,
                tuple(sorted({row.get("group") or "" for row in part})),
                len({(row.get("group") or "", place_of(row)) for row in typed}),
                len(typed),
                sum(_cells(row, names) for row in part),
                of_all_times,
                by_time,
            )
        )
    if not found:
        raise InputError("None of the replicates has typed cells.")
    return found, empty


def _shares(
    rows: Sequence[Mapping[str, str]],
    names: Sequence[str],
    held_out: correction.HeldOut | None,
    areas: Mapping[str, float],
) -> np.ndarray | None:
    """Returns the (K,) shares in the fields together; None if they have no typed cells."""
    counts = np.array([[int(row[f"n_{n}"]) for n in names] for row in rows]).sum(axis=0)
    if not counts.any():
        return None
    area = sum(areas[row["image"]] for row in rows)
    return correction.shares_by_unit(counts[None], held_out, np.array([area]))[0]


def _cells(row: Mapping[str, str], names: Sequence[str]) -> int:
    return sum(int(row[f"n_{name}"]) for name in names)


def logits_by_condition(
    replicates: Sequence[Replicate], place: int
) -> dict[str, dict[str, float]]:
    """Returns {condition: {replicate: logit of the share of one type}}.

    Args:
      replicates: all replicates that are compared.
      place: index of the type.
    """
    found: dict[str, dict[str, float]] = {}
    shares = np.array([one.shares[place] for one in replicates])
    logits = contrasts.logits_of(shares, min(one.cells for one in replicates))
    for one, logit in zip(replicates, logits.tolist(), strict=True):
        found.setdefault(one.condition, {})[one.replicate] = logit
    return found


def hides_rare_types(replicates: Sequence[Replicate]) -> Replicate | None:
    """Returns the smallest replicate if it limits the logits of larger ones, otherwise None.

    See `contrasts.logits_of`: it limits them if a replicate has a share that is less than half
    a cell of the smallest replicate, but more than half a cell of its own.
    """
    smallest = min(replicates, key=lambda one: one.cells)
    limit = contrasts.least_share(smallest.cells)
    for one in replicates:
        distance = np.minimum(one.shares, 1 - one.shares)
        own = contrasts.least_share(one.cells)
        if ((own < distance) & (distance < limit)).any():
            return smallest
    return None


def compare(
    first: Mapping[str, float], second: Mapping[str, float]
) -> tuple[contrasts.Contrast, str]:
    """Compares two conditions by the logits of their replicates, paired if possible.

    Args:
      first: {replicate: logit} of the first condition.
      second: {replicate: logit} of the second condition.

    Returns:
      (contrast, why this test was chosen). If only some of the replicates are in both
      conditions, the contrast has no test, and its reason says so.
    """
    both = sorted(first.keys() & second.keys())
    alone = sorted(first.keys() ^ second.keys())
    values = [np.array(list(of.values())) for of in (first, second)]
    if both and not alone:
        values = [np.array([of[name] for name in both]) for of in (first, second)]
    contrast = contrasts.contrast(*values, paired=bool(both and not alone))
    if both and alone:
        reason = (
            f"the replicates {first_names(both, 3)} are in both conditions, but "
            f"{first_names(alone, 3)} only in one: leave the latter out for a paired "
            "test, or give independent replicates different names in the column replicate"
        )
        plain = contrasts.Contrast(
            contrast.difference, contrast.odds_ratio, reason=reason
        )
        return plain, ""
    if not contrast.test:
        return contrast, ""
    if both:
        return contrast, f"all {len(both)} replicates are in both conditions"
    return contrast, "no replicate is in both conditions"
