"""Reads how the model's held-out cells were called, as its export measured it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf.analysis import correction
from cellclass_tf.core.model_metadata import OF_DATASET
from cellclass_tf.core.run_record import RunRecord
from cellclass_tf.errors import InputError

# Thresholds that differ by less are the same number, written and read.
_SAME_THRESHOLD = 1e-6


def held_out_of(record: RunRecord, names: Sequence[str]) -> correction.HeldOut | None:
    """Returns how held-out cells were called by the model of a run; None if unknown.

    Args:
      record: record of the run.
      names: names of the types, in class order.

    Raises:
      InputError: if the model has another number of types.
    """
    calibration = record.calibration
    if not calibration or not calibration.held_out:
        return None
    fields = calibration.held_out
    # Without them only wrong calls are corrected.
    counts = 0 if _other_threshold(record) else 1
    found = correction.HeldOut(
        confusions=np.array([field.confusion for field in fields], np.int64),
        missed=np.array([field.missed for field in fields], np.int64) * counts,
        invented=np.array([field.invented for field in fields], np.int64) * counts,
        areas=np.array([field.area for field in fields], np.float64) * counts,
        units=[field.group for field in fields],
    )
    if found.missed.shape[1:] != (len(names),):
        raise InputError(
            f"run.json: expected held-out cells of {len(names)} types, got "
            f"{found.missed.shape[1]}. Export the model again, and predict again."
        )
    return found


def areas_of(rows: Sequence[Mapping[str, str]], record: RunRecord) -> dict[str, float]:
    """Returns the area of each field in squared median cell diameters; 0 if unknown."""
    sizes_um = {image.stem: image.pixel_size_um for image in record.images}
    metadata = record.model_metadata
    return {
        row["image"]: metadata.area_in_cells(
            float(row.get("area_px") or 0), sizes_um.get(row["image"])
        )
        if metadata
        else 0.0
        for row in rows
    }


def why_only_calls(record: RunRecord) -> str:
    """Returns why only wrong calls are corrected, or '' if missed and invented cells are too."""
    if record.naming and record.naming.outlines == OF_DATASET:
        return (
            "outlines of this kind were not compared with the outlines of the held-out "
            "fields"
        )
    calibration = record.calibration
    if calibration and not any(field.area for field in calibration.held_out):
        return "the model was exported by a version that did not count them"
    return _other_threshold(record)


def _other_threshold(record: RunRecord) -> str:
    """Returns a reason if the score threshold is not that of the held-out cells, or ''.

    With another threshold, other numbers of cells are missed and invented.
    """
    used = record.settings.get("score_threshold")
    measured = record.naming or record.model_metadata
    if used is None or measured is None:
        return ""
    if abs(float(used) - measured.score_threshold) < _SAME_THRESHOLD:
        return ""
    return (
        f"these cells have scores of at least {used:g}, and the cells of the held-out "
        f"fields were counted from {measured.score_threshold:g} on"
    )


def summary(
    held_out: correction.HeldOut | None, record: RunRecord, names: Sequence[str]
) -> dict[str, Any]:
    """Returns what mixture.json contains about the held-out fields."""
    if held_out is None:
        return {
            "confusion": None,
            "confusion_fields": 0,
            "confusion_dishes": {},
            "right_by_dish": {},
            "warnings": [],
        }
    total = held_out.confusions.sum(axis=0)
    confusion = _named(total, names, names)
    if held_out.areas.any():
        for name, missed in zip(names, held_out.missed.sum(axis=0), strict=True):
            confusion[name]["missed"] = int(missed)
        invented = held_out.invented.sum(axis=0).tolist()
        confusion["invented"] = dict(zip(names, invented, strict=True))
    right, dishes, warnings = {}, {}, []
    for i, name in enumerate(names):
        by_dish: dict[str, np.ndarray] = {}
        for dish, calls in zip(held_out.units, held_out.confusions[:, i], strict=True):
            # A model of an older version does not record the dishes of its fields.
            if dish and calls.sum():
                by_dish[dish] = by_dish.get(dish, 0) + calls
        dishes[name] = len(by_dish)
        right[name] = {
            dish: round(float(calls[i] / calls.sum()), 6)
            for dish, calls in by_dish.items()
        }
        if dishes[name] == 1:
            warnings.append(
                f"The held-out cells of {name} come from one dish: the interval does not "
                "include that other dishes may have other error rates."
            )
    why = why_only_calls(record)
    if why:
        warnings.append(
            f"Missed and invented cells are not corrected for, since {why}."
        )
    return {
        "confusion": confusion,
        "confusion_fields": len(held_out.units),
        "confusion_dishes": dishes,
        "right_by_dish": right,
        "warnings": warnings,
    }


def _named(
    table: np.ndarray, rows: Sequence[str], columns: Sequence[str]
) -> dict[str, dict[str, int]]:
    return {
        name: dict(zip(columns, row, strict=True))
        for name, row in zip(rows, table.tolist(), strict=True)
    }
