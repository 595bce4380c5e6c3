"""Estimates the proportion of each type from a run, for all fields and for each group."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cellclass_tf import process_state
from cellclass_tf.analysis import correction, held_out_cells, priors, shares
from cellclass_tf.analysis.spot_check import plan
from cellclass_tf.analysis.spot_check import result as spot_check
from cellclass_tf.analysis.units import FIELD, LEVEL, place_of, units_of
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.run_record import RunRecord
from cellclass_tf.core.type_names import UNKNOWN
from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json, ledger, lock

MIXTURE_FILE = "mixture.json"
_ALL = "all fields"
# Proportions are withheld if a larger fraction of the fields is unlike the training fields.
MOST_UNLIKE = 0.1


@process_state.keep()
@lock.writes("predictions")
def mixture(
    predictions: str | os.PathLike | Predictions,
    *,
    expected: Mapping[str, float] | str | None = None,
    width: float = 0.1,
    answer_anyway: bool | None = None,
    counting_frame: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Estimates the proportion of each type, with 95 % intervals, and writes mixture.json.

    Cells of unknown type are left out; uncertain calls are included. The statistical unit is
    the dish (acquisition group) if there are several dishes, otherwise the field; all time
    points of one scene are one field. With a single dish, the interval is valid for that
    dish only. The correction takes into account the wrong calls, missed cells and invented
    cells (false positives) on the model's held-out fields, as measured when the model was
    exported. See `shares.estimate_shares` and `correction.correct_shares` for the methods and
    their sources.

    Args:
      predictions: output folder of `predict`; mixture.json is written there.
      expected: proportions to test against, {type: proportion} or 'HEK=0.5,N2a=0.5'.
      width: width of an interval, from end to end, for which the numbers of units and of
        labels needed are computed.
      answer_anyway: whether to report proportions also for fields that do not resemble the
        model's training fields; None: as set for `predict`.
      counting_frame: whether to count only cells in an unbiased counting frame, that is
        cells that touch neither the left nor the lower edge of their field (Gundersen
        1977). Otherwise, if types differ in size, the larger type is counted too often.
      seed: seed of the random draws.

    Returns:
      The content of mixture.json:
        types, level, width, counting_frame.
        estimates: one estimate for 'all fields', and one for each group if there are
          several. Each has
          name; fields: number of fields with typed cells; cells; unknown; uncertain;
          unit: 'dish' or 'field'; units: their number;
          icc: {median, low, high} of the intraclass correlation; None without an interval;
          dominated_by_prior: whether the units are so few that the prior decides how wide
            the interval is; then types have logit_t_low and logit_t_high;
          withheld: why the proportions are withheld, or ''; see `MOST_UNLIKE`;
          labels_for_width: {as_held_out, twice_as_many}: number of cells to label in a spot
            check for intervals of the given width, if the model errs as often as on its
            held-out fields, and if it errs twice as often; None if no number is enough;
          interval_reason, corrected_reason: why there is no interval or correction, or '';
          types: {type: cells, share, low, high, corrected, corrected_low,
            corrected_high, logit_t_low, logit_t_high, units_for_width, by_probability,
            expected, p_value}; None where the reason says why. units_for_width is for the
            corrected interval if there is one, and None if no number of units is enough.
            by_probability is the proportion at which the cells' probabilities would be as
            observed (see `priors.em_shares`): a warning sign, not an estimate.
        confusion: {true type: {called type: held-out cells}}, with the column 'missed' and
          the row 'invented' if they are known; None if not measured.
        confusion_fields: number of held-out fields.
        confusion_dishes: {type: number of held-out dishes with its cells}.
        right_by_dish: {type: {dish: fraction of its cells found that got the type}}.
        spot_check: the estimate from a person's labels, see `result.spot_check_of`. None
          without labels, and with a counting frame, since labels cover all cells. It has
          only a reason if the model was trained or calibrated with labels of the same
          fields.
        warnings: what a reader should know about the correction, one line each.

    Raises:
      InputError: if there are no predictions, or `expected` does not fit the types.
    """
    predictions = Predictions.open(predictions)
    names = predictions.type_names
    wanted = _parse_expected(expected, names)
    check_width(width)
    rows = predictions.count_rows
    if counting_frame:
        rows = _in_frame(rows, predictions)
    record = predictions.record_if_any
    held_out = held_out_cells.held_out_of(record, names)
    areas = held_out_cells.areas_of(rows, record)
    groups = _groups(rows)
    tables = {_ALL: rows} | (groups if len(groups) > 1 else {})
    counted = {name: _counted(part, names, seed) for name, part in tables.items()}
    checked = None
    if not counting_frame:
        checked = _spot_check(
            predictions, rows, lambda: counted[_ALL].estimate.draws, seed
        )
    estimates = [
        _estimate(
            name,
            part,
            counted[name],
            predictions,
            held_out=held_out,
            areas=areas,
            expected=wanted,
            width=width,
            seed=seed,
        )
        for name, part in tables.items()
    ]
    if checked and not checked["reason"]:
        checked["warnings"] += spot_check.disagreements(checked, estimates[0])
    estimates = [
        _withheld(
            estimate,
            why_withheld([row["image"] for row in part], record, answer_anyway),
        )
        for estimate, part in zip(estimates, tables.values(), strict=True)
    ]
    result = {
        "types": list(names),
        "level": LEVEL,
        "width": width,
        "counting_frame": counting_frame,
        "spot_check": checked,
        "estimates": estimates,
        **held_out_cells.summary(held_out, record, names),
    }
    typed_groups = sum(estimate["units"] > 0 for estimate in estimates[1:])
    if typed_groups > 1 and estimates[0]["unit"] == FIELD:
        result["warnings"].append(
            "Each field is a group of its own and is treated as an independent unit. If several "
            "fields come from one dish, the interval is too narrow: tell the dishes apart with "
            "`cellclass convert --group`."
        )
    result["warnings"] += _probability_warnings(result["estimates"][0])
    folder = predictions.folder
    ledger.write_text(folder, folder / MIXTURE_FILE, csv_json.json_text(result))
    return result


def check_width(width: float) -> None:
    """Raises InputError unless `width` can be the width of an interval of proportions."""
    if not 0 < width < 1:
        raise InputError(f"Expected a width between 0 and 1, such as 0.1; got {width}.")


class _Counted(NamedTuple):
    """The kind of unit, cells (U, K) by unit and type, and the proportions as counted."""

    unit: str
    counts: np.ndarray
    estimate: shares.Estimate


def _counted(
    rows: Sequence[Mapping[str, str]], names: Sequence[str], seed: int
) -> _Counted:
    unit, counts = _by_unit(rows, names)
    return _Counted(unit, counts, shares.estimate_shares(counts, seed=seed))


def _estimate(
    name: str,
    rows: Sequence[Mapping[str, str]],
    counted: _Counted,
    predictions: Predictions,
    *,
    held_out: correction.HeldOut | None,
    areas: Mapping[str, float],
    expected: np.ndarray | None,
    width: float,
    seed: int,
) -> dict[str, Any]:
    """Returns one of the estimates of `mixture`, before anything is withheld.

    Args:
      name: name of the group, or 'all fields'.
      rows: rows of counts.csv of its fields.
      counted: its proportions as counted.
      predictions: predictions of the run.
      held_out: how cells of held-out fields were called; None does not correct.
      areas: {stem: area} of the fields, in the unit of `held_out.areas`.
      expected: (K,) proportions to test against; None tests nothing.
      width: width of an interval, see `mixture`.
      seed: seed of the random draws.
    """
    names = predictions.type_names
    unit, counts, raw = counted
    if held_out is None:
        better, reason = None, "the model has no held-out fields with known cells"
    else:
        area = sum(areas[row["image"]] for row in rows)
        better = correction.correct_shares(raw, held_out, area=area, seed=seed)
        reason = better.reason
    best = raw if better is None or not len(better.draws) else better
    is_few = 0 < len(raw.draws) and raw.units < shares.FEW_UNITS
    plain = shares.logit_t(counts) if is_few else None
    columns = {
        "cells": raw.counts,
        "share": raw.shares,
        **_ends(raw.interval(), "low", "high"),
        "corrected": None if better is None else better.shares,
        **_ends(
            None if better is None else better.interval(),
            "corrected_low",
            "corrected_high",
        ),
        **_ends(plain, "logit_t_low", "logit_t_high"),
        "units_for_width": shares.units_for(best, width),
        "by_probability": None
        if held_out is None
        else _by_probability(rows, held_out, predictions),
        "expected": expected,
        "p_value": None if expected is None else best.p_values(expected),
    }
    return {
        "name": name,
        "unit": unit,
        "units": raw.units,
        "fields": sum(any(int(row[f"n_{n}"]) for n in names) for row in rows),
        "cells": sum(int(row["cells"]) for row in rows),
        "unknown": sum(int(row["unknown"]) for row in rows),
        "uncertain": sum(int(row["uncertain"]) for row in rows),
        "icc": _icc(raw),
        "dominated_by_prior": is_few,
        "labels_for_width": _labels_for(raw, best, held_out, width),
        "interval_reason": raw.reason,
        "corrected_reason": reason,
        "types": {
            type_name: {
                key: None if values is None else _plain(values[i])
                for key, values in columns.items()
            }
            for i, type_name in enumerate(names)
        },
    }


def checked_by_labels(predictions: Predictions, seed: int = 0) -> dict[str, Any] | None:
    """Returns what `mixture` returns as spot_check: the estimate from a person's labels."""
    rows = predictions.count_rows

    def draws() -> np.ndarray:
        return _counted(rows, predictions.type_names, seed).estimate.draws

    return _spot_check(predictions, rows, draws, seed)


def labels_for_width(
    predictions: Predictions, width: float, seed: int = 0
) -> dict[str, int | None]:
    """Returns what `mixture` returns as labels_for_width of all fields."""
    rows, names = predictions.count_rows, predictions.type_names
    record = predictions.record_if_any
    estimate = _estimate(
        _ALL,
        rows,
        _counted(rows, names, seed),
        predictions,
        held_out=held_out_cells.held_out_of(record, names),
        areas=held_out_cells.areas_of(rows, record),
        expected=None,
        width=width,
        seed=seed,
    )
    return estimate["labels_for_width"]


def _spot_check(
    predictions: Predictions,
    rows: Sequence[Mapping[str, str]],
    draws_of_all: Callable[[], np.ndarray],
    seed: int,
) -> dict[str, Any] | None:
    """Returns the estimate from labels; the calls show how much units differ."""
    seen = predictions.record_if_any.labelled_stems

    def draws() -> np.ndarray:
        others = [row for row in rows if row["image"] not in seen]
        if len(others) == len(rows):
            return draws_of_all()
        return _counted(others, predictions.type_names, seed).estimate.draws

    return spot_check.spot_check_of(predictions, draws, seed)


def _labels_for(
    raw: shares.Estimate,
    best: shares.Estimate,
    held_out: correction.HeldOut | None,
    width: float,
) -> dict[str, int | None]:
    if not raw.units:
        return {"as_held_out": None, "twice_as_many": None}
    share = best.shares if len(best.shares) else raw.shares
    of_units = raw.draws.var(axis=0) * best.gain if len(raw.draws) else 0.0
    return {
        key: plan.cells_for_width(
            width, plan.variance_a_cell(share, held_out, times), of_units
        )
        for key, times in (("as_held_out", 1), ("twice_as_many", 2))
    }


def _by_probability(
    rows: Sequence[Mapping[str, str]],
    held_out: correction.HeldOut,
    predictions: Predictions,
) -> np.ndarray:
    """Returns (K,) proportions by `priors.em_shares` from the cells of some fields."""
    true = held_out.confusions.sum(axis=(0, 2))
    cells = [predictions.probabilities(row["image"]) for row in rows]
    every = np.concatenate([np.zeros((0, len(true))), *cells])
    return priors.em_shares(every, true / max(true.sum(), 1))


def _in_frame(
    rows: Sequence[Mapping[str, str]], predictions: Predictions
) -> list[dict[str, str]]:
    """Returns the rows of counts.csv with only the cells in the frame counted.

    The area is that in which they lie, as the fraction of the cells that are counted.
    """
    counts: dict[str, Counter[str]] = {}
    for cell in predictions.cell_rows():
        if cell.get("in_frame") not in ("True", "False"):
            raise InputError(
                f"{predictions.cells_path} does not say which cells are in the counting frame. "
                "Run `cellclass predict` again."
            )
        if cell["in_frame"] == "True" != cell.get("repeated"):
            of_field = counts.setdefault(cell["image"], Counter())
            of_field[f"n_{cell['cell_type']}"] += 1
            of_field["cells"] += 1
            of_field["unknown"] += cell["cell_type"] == UNKNOWN
            of_field["uncertain"] += cell["call"] == "uncertain"
    columns = [f"n_{name}" for name in predictions.type_names]
    columns += ["cells", "unknown", "uncertain"]
    framed = []
    for row in rows:
        found = counts.get(row["image"], Counter())
        share = found["cells"] / max(int(row["cells"]), 1)
        area = float(row.get("area_px") or 0) * share
        framed.append(
            dict(row)
            | {name: str(found[name]) for name in columns}
            | {"area_px": str(area)}
        )
    return framed


def _by_unit(
    rows: Sequence[Mapping[str, str]], names: Sequence[str]
) -> tuple[str, np.ndarray]:
    """Returns the kind of unit, and cells (U, K) by unit and type."""
    counts = [[int(row[f"n_{n}"]) for n in names] for row in rows]
    # Units without a typed cell are left out.
    typed = [(row, of) for row, of in zip(rows, counts, strict=True) if any(of)]
    unit, of_unit = units_of(
        [row.get("group") or "" for row, _ in typed],
        [place_of(row) for row, _ in typed],
    )
    cells = np.array([of for _, of in typed], np.int64).reshape(-1, len(names))
    return unit, shares.summed(cells, of_unit)


def _icc(estimate: shares.Estimate) -> dict[str, float] | None:
    if not len(estimate.icc):
        return None
    tail = (1 - LEVEL) / 2
    found = np.quantile(estimate.icc, [0.5, tail, 1 - tail])
    return dict(zip(("median", "low", "high"), map(_plain, found), strict=True))


def _probability_warnings(estimate: Mapping[str, Any]) -> list[str]:
    """Returns a warning for each type whose probabilities contradict the interval."""
    warnings = []
    for name, of in estimate["types"].items():
        found, low, high = (
            of[key] for key in ("by_probability", "corrected_low", "corrected_high")
        )
        if None not in (found, low) and not low <= found <= high:
            warnings.append(
                f"Estimated from the probabilities of the cells, the proportion of {name} would "
                f"be {100 * found:.1f} %, which is outside the interval: the cells of this "
                "culture may look unlike the held-out cells."
            )
    return warnings


def why_withheld(
    stems: Iterable[str], record: RunRecord, answer_anyway: bool | None
) -> str:
    """Returns why the proportions in some fields are withheld, or '' if they are not.

    Args:
      stems: names of the fields.
      record: record of the run.
      answer_anyway: whether to report them nevertheless; None: as set for `predict`.
    """
    if answer_anyway is None:
        answer_anyway = bool(record.settings.get("answer_anyway"))
    stems = set(stems)
    unlike = [
        bool(image.unlike)
        for image in record.images
        if image.compared and image.stem in stems
    ]
    if answer_anyway or sum(unlike) <= MOST_UNLIKE * len(unlike):
        return ""
    return (
        f"{sum(unlike)} of {len(unlike)} fields do not resemble the fields that the model was "
        "trained on"
    )


def _withheld(estimate: dict[str, Any], why: str) -> dict[str, Any]:
    """Removes the proportions from an estimate if there is a reason to withhold them."""
    if not why:
        return estimate | {"withheld": ""}
    types = {
        name: dict.fromkeys(of) | {"cells": of["cells"]}
        for name, of in estimate["types"].items()
    }
    return estimate | {"withheld": why, "types": types}


def _ends(interval: np.ndarray | None, low: str, high: str) -> dict[str, Any]:
    ends = (None, None) if interval is None else interval
    return dict(zip((low, high), ends, strict=True))


def _groups(rows: Sequence[Mapping[str, str]]) -> dict[str, list[Mapping[str, str]]]:
    groups: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault(row.get("group") or "", []).append(row)
    return dict(sorted(groups.items()))


def _parse_expected(
    expected: Mapping[str, float] | str | None, names: Sequence[str]
) -> np.ndarray | None:
    if not expected:
        return None
    if isinstance(expected, str):
        pairs = [part.partition("=") for part in expected.split(",")]
        try:
            expected = {name.strip(): float(share) for name, _, share in pairs}
        except ValueError as error:
            raise InputError(
                f"expected={expected!r}: write proportions as {names[0]}=0.5,… ({error})."
            ) from error
    total = sum(expected.values())
    if set(expected) != set(names) or min(expected.values()) < 0 or not total > 0:
        raise InputError(
            f"expected: got {dict(expected)}; expected a proportion of at least 0 for each of "
            f"{', '.join(names)}."
        )
    return np.array([expected[name] / total for name in names])


def _plain(value: Any) -> Any:
    """Returns a number that JSON can hold; None for NaN and infinity."""
    if value is None or not np.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else round(float(value), 6)
