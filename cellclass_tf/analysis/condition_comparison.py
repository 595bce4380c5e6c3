"""Tests whether the proportions of types differ between conditions."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf import process_state
from cellclass_tf.analysis import charts, contrasts, held_out_cells, mixture
from cellclass_tf.analysis.conditions import (
    CONDITIONS_FILE,
    Assignment,
    read_conditions,
)
from cellclass_tf.analysis.methods_text import ends_text, methods_text
from cellclass_tf.analysis.replicates import (
    Replicate,
    compare,
    hides_rare_types,
    logits_by_condition,
    replicates_of,
)
from cellclass_tf.analysis.units import LEVEL
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.run_record import RunRecord
from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError, first_names
from cellclass_tf.storage import csv_json, ledger, lock

_REPLICATE_COLUMNS = ("condition", "replicate", "groups", "fields", "cells")


@dataclasses.dataclass(frozen=True)
class ConditionComparison:
    """Result of `compare_conditions`.

    Attributes:
      folder: folder with the files that were written.
      result: content of conditions.json.
    """

    folder: pathlib.Path
    result: Mapping[str, Any]

    def __str__(self) -> str:
        lines = []
        for condition in self.result["conditions"]:
            means = ", ".join(
                f"{name} {_percent(of['mean'])}{ends_text(of['low'], of['high'])}"
                for name, of in condition["types"].items()
            )
            count = condition["replicates"]
            lines.append(f"{condition['name']}: {count} replicates, {means}")
        for pair in self.result["contrasts"]:
            what = f"{pair['second']} compared with {pair['first']}, {pair['type']}"
            if pair["p_value"] is None:
                lines.append(f"{what}: not tested, since {pair['reason']}")
            else:
                lines.append(
                    f"{what}: {100 * pair['difference']:+.1f} percentage points, odds ratio "
                    f"{pair['odds_ratio']:.2f} ({pair['odds_ratio_low']:.2f} to "
                    f"{pair['odds_ratio_high']:.2f}), p = {pair['p_value']:.3g} "
                    f"({pair['test']}: {pair['test_reason']})"
                )
        lines += self.result["warnings"]
        return "\n".join([*lines, f"Tables, figure and text: {self.folder}"])


@process_state.keep()
@lock.writes("output", creates=True)
def compare_conditions(
    predictions: str | os.PathLike | Predictions,
    output: str | os.PathLike,
    *,
    conditions: str | os.PathLike | None = None,
    answer_anyway: bool | None = None,
) -> ConditionComparison:
    """Compares the proportions of types between conditions.

    The statistical unit is the replicate: the dishes of one condition and replicate, with
    all their fields and time points added up, corrected as in `mixture`. If no replicate is
    in both conditions, the test is Welch's t-test of the logits of the replicates'
    proportions. If all replicates are in both, it is the paired t-test of the differences
    within replicates. If only some are in both, there is no test. With several tests, p
    values are also adjusted by Holm's method. The uncertainty of the correction is the same
    for all conditions and is not included in the intervals. In means and tests, the
    proportions of all replicates are clipped by half a cell of the smallest one; if all of
    them are then equal, there is no interval and no test.

    Writes conditions.json, replicates.csv (one row per replicate), times.csv (one row per
    replicate and time point, if there are several time points), conditions.svg and .pdf (a
    figure with one point per replicate) and methods.txt (what was done, in words for a
    paper).

    Args:
      predictions: output folder of `predict`.
      output: folder for tables, figure and text.
      conditions: table with the condition of each dish; the study's conditions.csv if not
        given.
      answer_anyway: compare also conditions with fields that do not resemble the training
        fields; as set for `predict` if not given. Otherwise these are left out with a
        warning; see `mixture.MOST_UNLIKE`.

    Returns:
      The comparison, whose result has
        types, level; corrected: whether proportions are corrected; not_corrected: why not,
          or ''.
        conditions: for each condition name, replicates, groups, scenes, fields (one per
          scene and time point), cells, rejected (number of rejected fields, if the study is
          found), types: {type: {mean, low, high}}.
        contrasts: for each pair and type first, second, type, difference (second minus
          first), difference_low, difference_high, odds_ratio, odds_ratio_low,
          odds_ratio_high, test ("Welch's t-test", "paired t-test" or ''), test_reason (why
          this test), p_value, p_adjusted, reason (why there is no test). With two types,
          only the first is compared, since the second has the opposite differences.
        spot_check: the estimate from a person's labels, see `mixture`; None without labels.
          The comparison does not use it.
        warnings: one line each.

    Raises:
      InputError: if there are no predictions or no table, the table does not fit the
        predictions, or the proportions of all conditions are withheld.
    """
    predictions = Predictions.open(predictions)
    output = pathlib.Path(output)
    record, names = predictions.record_if_any, predictions.type_names
    study = record.find_study(predictions.folder)
    if conditions is None:
        if study is None:
            raise InputError(
                f"The study of {predictions.folder} is not found, so its {CONDITIONS_FILE} "
                "is not found either. Give the path of the table as --conditions."
            )
        conditions = study.root / CONDITIONS_FILE
    if not pathlib.Path(conditions).exists():
        raise InputError(
            f"{conditions} does not exist. `cellclass conditions --study="
            f"{study.root if study else 'STUDY'}` writes it; then fill it in."
        )
    rows = predictions.count_rows
    assigned = read_conditions(conditions, (row.get("group") or "" for row in rows))
    withheld = _withheld(rows, assigned, record, answer_anyway)
    known = {
        group: of for group, of in assigned.items() if of.condition not in withheld
    }
    if not known:
        raise InputError(
            f"{predictions.folder}: {'; '.join(withheld.values())}, so their proportions are "
            "not reliable. Train with fields such as these, or set --answer_anyway."
        )
    held_out = held_out_cells.held_out_of(record, names)
    problem = (
        "the model has no held-out fields with known cells"
        if held_out is None
        else held_out.problem
    )
    replicates, empty = replicates_of(
        rows, names, known, None if problem else held_out, record
    )
    result = {
        "types": list(names),
        "level": LEVEL,
        "corrected": not problem,
        "not_corrected": problem,
        "conditions": _condition_entries(
            replicates, names, _rejected(record, study, known)
        ),
        "contrasts": _contrasts(replicates, names),
        "spot_check": mixture.checked_by_labels(predictions),
        "warnings": [
            *_left_out(rows, assigned, withheld, empty),
            *_warnings(replicates, problem),
        ],
    }
    _write(output, result, replicates, names, record)
    return ConditionComparison(output, result)


def _withheld(
    rows: Sequence[Mapping[str, str]],
    known: Mapping[str, Assignment],
    record: RunRecord,
    answer_anyway: bool | None,
) -> dict[str, str]:
    """Returns {condition: why its proportions are withheld}; see `mixture.why_withheld`."""
    stems: dict[str, list[str]] = {}
    for row in rows:
        of = known.get(row.get("group") or "")
        if of is not None:
            stems.setdefault(of.condition, []).append(row["image"])
    reasons = {
        condition: mixture.why_withheld(of, record, answer_anyway)
        for condition, of in sorted(stems.items())
    }
    return {name: f"{name}: {reason}" for name, reason in reasons.items() if reason}


def _tested(names: Sequence[str]) -> Sequence[str]:
    """Returns the types to test; of two types only the first, since they are complements."""
    return names[:1] if len(names) == 2 else names


def _contrasts(
    replicates: Sequence[Replicate], names: Sequence[str]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for place, name in enumerate(_tested(names)):
        logits = logits_by_condition(replicates, place)
        for first, second in itertools.combinations(logits, 2):
            contrast, why = compare(logits[first], logits[second])
            low, high = contrast.difference_ends or (None, None)
            odds_low, odds_high = contrast.odds_ratio_ends or (None, None)
            found.append(
                {
                    "first": first,
                    "second": second,
                    "type": name,
                    "difference": contrast.difference,
                    "difference_low": low,
                    "difference_high": high,
                    "odds_ratio": contrast.odds_ratio,
                    "odds_ratio_low": odds_low,
                    "odds_ratio_high": odds_high,
                    "test": contrast.test,
                    "test_reason": why,
                    "p_value": contrast.p_value,
                    "p_adjusted": None,
                    "reason": contrast.reason,
                }
            )
    tested = [one for one in found if one["p_value"] is not None]
    adjusted = contrasts.holm([one["p_value"] for one in tested])
    for one, p_value in zip(tested, adjusted, strict=True):
        one["p_adjusted"] = p_value
    return found


def _condition_entries(
    replicates: Sequence[Replicate],
    names: Sequence[str],
    rejected: Mapping[str, int] | None,
) -> list[dict[str, Any]]:
    logits = {name: logits_by_condition(replicates, i) for i, name in enumerate(names)}
    entries = []
    for condition in logits[names[0]]:
        of = [one for one in replicates if one.condition == condition]
        types = {}
        for name in names:
            values = np.array(list(logits[name][condition].values()))
            mean, low, high = contrasts.mean_interval(values)
            ends = (low, high) if np.isfinite(low) else (None, None)
            types[name] = dict(zip(("mean", "low", "high"), (mean, *ends), strict=True))
        entries.append(
            {
                "name": condition,
                "replicates": len(of),
                "groups": sum(len(one.groups) for one in of),
                "scenes": sum(one.scenes for one in of),
                "fields": sum(one.fields for one in of),
                "cells": sum(one.cells for one in of),
                "rejected": None if rejected is None else rejected.get(condition, 0),
                "types": types,
            }
        )
    return entries


def _rejected(
    record: RunRecord, study: Study | None, known: Mapping[str, Assignment]
) -> Mapping[str, int] | None:
    """Returns the number of rejected fields by condition; None if the study is unknown."""
    if study is None:
        return None
    groups = {row.image: row.group for row in study.rows()}
    found: Counter[str] = Counter()
    for image in record.rejected:
        of = known.get(groups.get(image.image, ""))
        if of is not None:
            found[of.condition] += 1
    return found


def _left_out(
    rows: Sequence[Mapping[str, str]],
    known: Mapping[str, Assignment],
    withheld: Mapping[str, str],
    empty: Sequence[str],
) -> list[str]:
    """Returns a warning for each kind of conditions and replicates that are left out."""
    warnings = []
    if withheld:
        warnings.append(
            "Conditions are left out, since their proportions are not reliable: "
            f"{'; '.join(withheld.values())}. Train with fields such as these, or set "
            "--answer_anyway."
        )
    without = {row.get("group") or "" for row in rows} - known.keys()
    if without:
        some = first_names(sorted(without))
        warnings.append(
            f"{len(without)} groups have no condition and are left out: {some}."
        )
    if empty:
        warnings.append(
            f"Replicates without typed cells are left out: {'; '.join(empty)}."
        )
    return warnings


def _warnings(replicates: Sequence[Replicate], problem: str) -> list[str]:
    """Returns what a reader should know about the replicates that are compared."""
    warnings = []
    if len(replicates) > 1 and all(one.scenes == 1 for one in replicates):
        warnings.append(
            "Each replicate is a single field. If several of these fields come from one dish, "
            "the intervals are too narrow and the p values too small: give the fields of one "
            "dish the same name in the column replicate, or tell the dishes apart with "
            "`cellclass convert --group`."
        )
    small = hides_rare_types(replicates)
    if small is not None:
        least = contrasts.least_share(small.cells)
        low, high = f"{100 * least:.2f} %", f"{100 * (1 - least):.2f} %"
        warnings.append(
            f"{small.condition}, {small.replicate} has only {small.cells} typed cells. In "
            f"means and tests, proportions below {low} are set to {low}, and those above "
            f"{high} to {high}. Remove its condition from the table if a rare type matters."
        )
    if problem:
        warnings.append(f"The proportions are as counted, not corrected: {problem}.")
    return warnings


def _write(
    output: pathlib.Path,
    result: Mapping[str, Any],
    replicates: Sequence[Replicate],
    names: Sequence[str],
    record: RunRecord,
) -> None:
    columns = (*_REPLICATE_COLUMNS, *(f"share_{name}" for name in names))
    rows = [
        {
            "condition": one.condition,
            "replicate": one.replicate,
            "groups": " ".join(one.groups),
            "fields": one.fields,
            "cells": one.cells,
            **_named(one.shares, names),
        }
        for one in replicates
    ]
    times = [
        {"condition": one.condition, "replicate": one.replicate, "time": time}
        | _named(of, names)
        for one in replicates
        for time, of in one.by_time.items()
    ]
    texts = {
        "conditions.json": csv_json.json_text(result),
        "replicates.csv": csv_json.csv_text(columns, rows),
        "methods.txt": methods_text(result, record),
    }
    if times:
        time_columns = ("condition", "replicate", "time", *columns[5:])
        texts["times.csv"] = csv_json.csv_text(time_columns, times)
    for name, text in texts.items():
        ledger.write_text(output, output / name, text)
    for name in {"times.csv"} - texts.keys():
        ledger.remove(output, output / name)
    shown = [
        charts.Drawn(
            one.condition,
            one.replicate,
            dict(zip(names, one.shares.tolist(), strict=True)),
            one.by_time,
        )
        for one in replicates
    ]
    pictures = charts.conditions_figure(result, shown, _tested(names))
    for suffix, content in pictures.items():
        # People edit drawings for their papers.
        path = output / f"conditions.{suffix}"
        ledger.write_bytes(output, path, content, overwrite=True)


def _named(values: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    return {
        f"share_{name}": round(float(value), 6)
        for name, value in zip(names, values, strict=True)
    }


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
