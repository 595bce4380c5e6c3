"""Computes the part of mixture.json that comes from the labels of a spot check."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf.analysis.spot_check import labels as labelling
from cellclass_tf.analysis.spot_check import sample as sampling
from cellclass_tf.analysis.spot_check.estimate import (
    LabelledSample,
    estimate_by_sample,
)
from cellclass_tf.analysis.spot_check.labels import LabelledWindow, Labels
from cellclass_tf.analysis.spot_check.sample import Sample
from cellclass_tf.core.cells import UNKNOWN
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.errors import InputError

# Smallest numbers of windows with cells, and without, for an estimate.
_LEAST_OCCUPIED, _LEAST_EMPTY = 5, 2
# A larger fraction of cells labelled CANNOT_TELL gives a warning.
_MANY_UNDECIDED = 0.1
# A smaller kappa gives a warning (Landis & Koch 1977: 'substantial' begins at 0.61).
_LEAST_KAPPA = 0.61


def spot_check_of(
    predictions: Predictions, unit_draws: Callable[[], np.ndarray], seed: int
) -> dict[str, Any] | None:
    """Estimates the proportions from the spot check of a run.

    Args:
      predictions: predictions of the culture.
      unit_draws: returns the `unit_draws` of `estimate.estimate_by_sample`; called only if
        there are labels.
      seed: seed of the random draws.

    Returns:
      None without labels; otherwise
        reason: why there is no estimate, or ''. If there is a reason, the result has only
          `reason` and `warnings`.
        types: {type: share, low, high}.
        of_units: whether the interval includes the differences between units; if not, it is
          valid only for these fields.
        accuracy, accuracy_low, accuracy_high: fraction of the cells found that are called as
          they were labelled, and its interval.
        confusion: {labelled type: {called type, 'unknown', 'missed': cells}}, and the row
          'not a cell'; mean over the people who labelled.
        windows, drawn: number of labelled windows, and of windows in the sample.
        cells: number of outlined cells with a label.
        tuning: weight of the calls beside the labels, 0 to 1.
        labellers: names of the people; agreement: {cells, differ, kappa} of several people,
          otherwise None.
        warnings: what a reader should know, one line each.
    """
    if not labelling.labels_path(predictions).exists():
        return None
    try:
        drawn = labelling.current_sample(predictions)
        labels = labelling.read_labels(predictions, drawn)
    except InputError as error:
        return {
            "reason": f"the labels cannot be used: {error}".rstrip("."),
            "warnings": [],
        }
    drawn, labels = _counted_once(predictions, drawn, labels)
    found = estimate_of(drawn, labels, unit_draws(), seed)
    seen = predictions.record_if_any.labelled_stems
    if seen:
        found["warnings"].append(
            "The spot check is valid only for the other fields, since "
            f"{sampling.why_seen(len(seen), len(predictions.stems))}."
        )
    return found


def _counted_once(
    predictions: Predictions, drawn: Sample, labels: Labels
) -> tuple[Sample, Labels]:
    """Leaves out cells that count in another field, which earlier versions also drew.

    The windows stay as they were drawn, so that their probabilities do.
    """
    repeated = predictions.repeated_cells
    if not repeated:
        return drawn, labels

    def counting(number: int, said: LabelledWindow) -> LabelledWindow:
        elsewhere = repeated.get(drawn.windows[number].image, set())
        left = {
            cell: name for cell, name in said.cells.items() if cell not in elsewhere
        }
        # What was missed between cells that count elsewhere counts there, too.
        return LabelledWindow(left, () if said.cells and not left else said.missed)

    seen = predictions.record_if_any.labelled_stems
    rows = [row for row in predictions.count_rows if row["image"] not in seen]
    called = {name: sum(int(row[f"n_{name}"]) for row in rows) for name in drawn.types}
    kept = {
        name: {number: counting(number, said) for number, said in windows.items()}
        for name, windows in labels.items()
    }
    return dataclasses.replace(drawn, called=called), kept


def estimate_of(
    drawn: Sample, labels: Labels, unit_draws: np.ndarray | None, seed: int
) -> dict[str, Any]:
    """Estimates the proportions from a sample and its labels; see `spot_check_of`."""
    windows = sorted(set().union(*labels.values()))
    empty = sum(drawn.windows[number].is_empty for number in windows)
    least_empty = min(_LEAST_EMPTY, drawn.empty)
    least = min(_LEAST_OCCUPIED, drawn.occupied)
    if len(windows) - empty < least or empty < least_empty:
        return {
            "reason": f"{len(windows) - empty} windows with cells and {empty} without cells "
            f"are labelled; at least {least} and {least_empty} are needed",
            "warnings": [],
        }
    found = labelled_sample(drawn, labels, windows)
    if not (found.true.sum() and found.called_in_all.sum() and found.real.sum()):
        return {"reason": "no labelled cell has a type", "warnings": []}
    estimate = estimate_by_sample(found, unit_draws, seed=seed)
    low, high = estimate.interval()
    several = labelling.agreement(labels)
    cells = sum(len(_people(labels, number)[0].cells) for number in windows)
    return {
        "reason": "",
        "types": {
            name: {
                "share": round(float(estimate.shares[i]), 6),
                "low": round(float(low[i]), 6),
                "high": round(float(high[i]), 6),
            }
            for i, name in enumerate(drawn.types)
        },
        "of_units": bool(unit_draws is not None and len(unit_draws)),
        "accuracy": round(estimate.accuracy, 6),
        "accuracy_low": round(estimate.accuracy_ends[0], 6),
        "accuracy_high": round(estimate.accuracy_ends[1], 6),
        "confusion": _confusion(drawn, labels),
        "windows": len(windows),
        "drawn": len(drawn.windows),
        "cells": cells,
        "tuning": round(estimate.tuning, 3),
        "labellers": list(labels),
        "agreement": several
        and {
            "cells": several.cells,
            "differ": several.differ,
            "kappa": None if several.kappa is None else round(several.kappa, 3),
        },
        "warnings": _warnings(drawn, labels, several),
    }


def _people(labels: Labels, number: int) -> list[LabelledWindow]:
    """Returns what each person said about a window; each labelled the same cells."""
    return [of[number] for of in labels.values() if number in of]


def labelled_sample(
    drawn: Sample, labels: Labels, windows: Sequence[int]
) -> LabelledSample:
    """Counts labels and calls in the labelled windows, averaged over the people.

    Cells labelled CANNOT_TELL are assumed to be like the other cells that were found: the
    counts of the latter, labelled and called, are scaled up accordingly.

    Args:
      drawn: the sample.
      labels: labels by person.
      windows: indices of the labelled windows.
    """
    types = len(drawn.types)
    strata = np.array([drawn.windows[i].is_empty for i in windows], np.int64)
    population = np.array([drawn.occupied, drawn.empty])
    sizes = np.bincount(strata, minlength=2)
    true, called = np.zeros((2, len(windows), types))
    missed = np.zeros((len(windows), types))
    right, real, judged, outlined = np.zeros((4, len(windows)))
    ids = {name: i for i, name in enumerate(drawn.types)}
    for place, number in enumerate(windows):
        people = _people(labels, number)
        part = 1 / len(people)
        calls = drawn.windows[number].cells
        outlined[place] = len(people[0].cells)
        for said in people:
            for name in said.missed:
                missed[place, ids[name]] += part
            for cell, label in said.cells.items():
                if label == (labelling.CANNOT_TELL,):
                    continue
                judged[place] += part
                call = calls[cell]
                if call in ids:
                    called[place, ids[call]] += part
                if label == (labelling.NOT_A_CELL,):
                    continue
                for name in label:
                    true[place, ids[name]] += part
                real[place] += part
                right[place] += part * (call in label)
    weights = (population / np.maximum(sizes, 1))[strata]
    raised = (
        (weights @ outlined) / max(weights @ judged, 1e-9) if outlined.any() else 1.0
    )
    return LabelledSample(
        strata,
        population,
        true * raised + missed,
        called * raised,
        right,
        real,
        np.array([drawn.called[name] for name in drawn.types], np.float64),
    )


def _confusion(drawn: Sample, labels: Labels) -> dict[str, dict[str, float]]:
    names = (*drawn.types, UNKNOWN)
    table = {name: dict.fromkeys((*names, "missed"), 0.0) for name in drawn.types}
    table[labelling.NOT_A_CELL] = dict.fromkeys(names, 0.0)
    for windows in labels.values():
        for number, said in windows.items():
            part = 1 / sum(number in of for of in labels.values())
            for name in said.missed:
                table[name]["missed"] += part
            for cell, label in said.cells.items():
                call = drawn.windows[number].cells[cell]
                if label == (labelling.CANNOT_TELL,):
                    continue
                first = call if call in label else label[0]
                table[first][call] += part
                # An outline counts as one found cell; a second cell in it was missed.
                for other in _without_one(label, first):
                    table[other]["missed"] += part
    return {
        name: {key: round(value, 3) for key, value in row.items()}
        for name, row in table.items()
    }


def _without_one(label: Sequence[str], first: str) -> list[str]:
    rest = list(label)
    rest.remove(first)
    return rest


def _warnings(
    drawn: Sample, labels: Labels, several: labelling.Agreement | None
) -> list[str]:
    said = [
        label
        for windows in labels.values()
        for window in windows.values()
        for label in window.cells.values()
    ]
    undecided = said.count((labelling.CANNOT_TELL,))
    warnings = []
    finished = max(map(len, labels.values()))
    if finished < len(drawn.windows):
        warnings.append(
            f"{finished} of {len(drawn.windows)} windows of the spot check are labelled. "
            "Labelling the others would make its intervals narrower."
        )
    if said and undecided > _MANY_UNDECIDED * len(said):
        warnings.append(
            f"{undecided} of {len(said)} cells of the spot check were labelled 'cannot tell'; "
            "they are assumed to be like the others."
        )
    if several is not None and several.differ:
        advice = ""
        if several.kappa is None or several.kappa < _LEAST_KAPPA:
            advice = " They seem to define the types differently: agree on that first."
        warnings.append(
            f"{labelling.in_words(several)} The labels are averaged.{advice}"
        )
    return warnings


def disagreements(found: Mapping[str, Any], estimate: Mapping[str, Any]) -> list[str]:
    """Returns a warning for each proportion that the spot check contradicts.

    Args:
      found: result of `spot_check_of`, with an estimate.
      estimate: estimate of `mixture` without labels, before anything is withheld.
    """
    warnings = []
    for name, of in found["types"].items():
        other = estimate["types"][name]
        kind = "corrected" if other["corrected"] is not None else "counted"
        share = other["corrected"] if kind == "corrected" else other["share"]
        if share is not None and not of["low"] <= share <= of["high"]:
            warnings.append(
                f"The {kind} proportion of {name}, {100 * share:.1f} %, is outside the spot "
                f"check's interval ({100 * of['low']:.1f} to {100 * of['high']:.1f} %): in "
                "this culture the model makes other errors than on its held-out fields. Rely "
                "on the spot check."
            )
    return warnings
