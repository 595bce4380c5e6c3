"""What a run of predictions says of the shares of types, by group and for all fields."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf import process_state
from cellclass_tf.analysis import shares
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.run_record import RunRecord
from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json, ledger, lock

MIXTURE_FILE = "mixture.json"
_ALL = "all fields"
# Where a larger part of the fields is unlike the training fields, shares are withheld.
MOST_UNLIKE = 0.1


@process_state.keep()
@lock.writes("predictions")
def mixture(
    predictions: str | os.PathLike | Predictions,
    *,
    expected: Mapping[str, float] | str | None = None,
    width: float = 0.1,
    answer_anyway: bool | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Estimates the share of each type, with 95 % intervals, and writes mixture.json.

    Shares are those of the cells with a type, uncertain calls among them. See
    `shares.estimate_shares` and
    `shares.correct_shares` for the methods and their sources. The
    confusion is that of the model's held-out fields, as its export measured it; it
    corrects for calls of the wrong type, not for cells that are missed or invented.

    Args:
      predictions: what `predict` wrote; mixture.json is put there.
      expected: shares to test against, {type: share} or 'HEK=0.5,N2a=0.5'.
      width: of an interval, end to end, for which the number of fields is wanted.
      answer_anyway: whether shares are reported of fields that do not resemble the model's
        training fields; None for what `predict` was asked for.
      seed: of the bootstrap.

    Returns:
      What mixture.json holds:
        types, level, width.
        estimates: one for 'all fields', and one for each group where there are several:
          name, fields (that have cells with a type), cells, unknown, uncertain,
          design_effect,
          withheld: why there are no shares, or ''; see `MOST_UNLIKE`.
          interval_reason, corrected_reason: why there is no interval or correction, or ''.
          types: {type: cells, share, low, high, corrected, corrected_low,
            corrected_high, fields_for_width (of the corrected interval if there is one;
            None where no number of fields will do), expected, p_value}; None where the
            reason says.
        confusion: {true type: {called type: held-out cells}}, None if not measured.
        confusion_fields: held-out fields.

    Raises:
      InputError: if there are no predictions, or `expected` does not fit the types.
    """
    if not isinstance(predictions, Predictions):
        predictions = Predictions(predictions)
    names = predictions.type_names
    wanted = _parse_expected(expected, names)
    if not 0 < width < 1:
        raise InputError(f"Expected a width in (0, 1), such as 0.1; got {width}.")
    rows = predictions.count_rows
    held_out = _confusions(predictions.record_if_any, names)
    record = predictions.record_if_any
    if answer_anyway is None:
        answer_anyway = bool(record.settings.get("answer_anyway"))
    images = () if answer_anyway else record.images
    unlike = {image.stem: bool(image.unlike) for image in images if image.compared}
    groups = _groups(rows)
    tables = {_ALL: rows} | (groups if len(groups) > 1 else {})
    result = {
        "types": list(names),
        "level": shares.LEVEL,
        "width": width,
        "estimates": [
            _withheld(
                _estimate(name, part, names, held_out, wanted, width, seed),
                part,
                unlike,
            )
            for name, part in tables.items()
        ],
        "confusion": None if held_out is None else _named(held_out.sum(0), names),
        "confusion_fields": 0 if held_out is None else len(held_out),
    }
    folder = predictions.folder
    ledger.write_text(folder, folder / MIXTURE_FILE, csv_json.json_text(result))
    return result


def _estimate(
    name: str,
    rows: Sequence[Mapping[str, str]],
    names: tuple[str, ...],
    held_out: np.ndarray | None,
    expected: np.ndarray | None,
    width: float,
    seed: int,
) -> dict[str, Any]:
    counts = np.array([[int(row[f"n_{n}"]) for n in names] for row in rows])
    raw = shares.estimate_shares(counts, seed=seed)
    if held_out is None:
        better, reason = None, "the model has no held-out fields with known cells"
    else:
        better = shares.correct_shares(raw, held_out, seed=seed)
        reason = better.reason
    best = raw if better is None or not len(better.draws) else better
    columns = {
        "cells": raw.counts,
        "share": raw.shares,
        **_ends(raw, "low", "high"),
        "corrected": None if better is None else better.shares,
        **_ends(better, "corrected_low", "corrected_high"),
        "fields_for_width": shares.fields_for(best, width),
        "expected": expected,
        "p_value": None if expected is None else best.p_values(expected),
    }
    return {
        "name": name,
        "fields": raw.fields,
        "cells": sum(int(row["cells"]) for row in rows),
        "unknown": sum(int(row["unknown"]) for row in rows),
        "uncertain": sum(int(row["uncertain"]) for row in rows),
        "design_effect": _plain(raw.design_effect),
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


def too_many_unlike(unlike: Sequence[bool]) -> bool:
    """Whether the shares of fields are withheld, of which some are unlike those known."""
    return sum(unlike) > MOST_UNLIKE * len(unlike)


def _withheld(
    estimate: dict[str, Any],
    rows: Sequence[Mapping[str, str]],
    unlike: Mapping[str, bool],
) -> dict[str, Any]:
    """Takes the shares out of an estimate whose fields the model does not know."""
    compared = [unlike[row["image"]] for row in rows if row["image"] in unlike]
    if not too_many_unlike(compared):
        return estimate | {"withheld": ""}
    types = {
        name: {key: None for key in told} | {"cells": told["cells"]}
        for name, told in estimate["types"].items()
    }
    why = (
        f"{sum(compared)} of {len(compared)} fields do not resemble the fields that the model "
        "was trained on"
    )
    return estimate | {"withheld": why, "types": types}


def _ends(estimate: shares.Estimate | None, low: str, high: str) -> dict[str, Any]:
    ends = None if estimate is None else estimate.interval()
    return dict(zip((low, high), (None, None) if ends is None else ends, strict=True))


def _confusions(record: RunRecord, names: Sequence[str]) -> np.ndarray | None:
    """(V, K, K) held-out cells by field, of the model that predicted; None if unknown."""
    calibration = record.calibration
    if not calibration or not calibration.confusions:
        return None
    confusions = np.array(calibration.confusions, np.int64)
    if confusions.shape[1:] != (len(names), len(names)):
        raise InputError(
            f"run.json: expected confusions of {len(names)} types, got the shape "
            f"{confusions.shape}. Export the model again, and predict again."
        )
    return confusions


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
                f"expected={expected!r}: write shares as {names[0]}=0.5,… ({error})."
            ) from error
    total = sum(expected.values())
    if set(expected) != set(names) or min(expected.values()) < 0 or not total > 0:
        raise InputError(
            f"expected: got {dict(expected)}; expected a share of at least 0 for each of "
            f"{', '.join(names)}."
        )
    return np.array([expected[name] / total for name in names])


def _named(confusion: np.ndarray, names: Sequence[str]) -> dict[str, dict[str, int]]:
    return {
        name: dict(zip(names, row, strict=True))
        for name, row in zip(names, confusion.tolist(), strict=True)
    }


def _plain(value: Any) -> Any:
    """A number that JSON can hold, None for NaN and infinity."""
    if value is None or not np.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else round(float(value), 6)
