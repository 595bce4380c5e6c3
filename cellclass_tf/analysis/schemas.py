"""Writes JSON Schemas of run.json, mixture.json and evaluation.json for other programs."""

from __future__ import annotations

import os
import pathlib
from typing import Any, Literal

# Before Python 3.12, Pydantic does not accept TypedDict from `typing`.
from typing_extensions import TypedDict

from cellclass_tf.analysis.evaluation import EVALUATION_FILE
from cellclass_tf.analysis.mixture import MIXTURE_FILE
from cellclass_tf.core.run_record import RUN_FILE, RunRecord
from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json
from cellclass_tf.storage import json_schema as schemas

# None if the value is undefined.
_Number = float | None
_Whole = int | None


class Share(TypedDict):
    """Proportion of one type; see `mixture.mixture`."""

    cells: int
    share: _Number
    low: _Number
    high: _Number
    corrected: _Number
    corrected_low: _Number
    corrected_high: _Number
    logit_t_low: _Number
    logit_t_high: _Number
    units_for_width: _Whole
    by_probability: _Number
    expected: _Number
    p_value: _Number


class Icc(TypedDict):
    """Intraclass correlation, with the ends of its 95 % interval."""

    median: _Number
    low: _Number
    high: _Number


class LabelsForWidth(TypedDict):
    """Number of cells to label in a spot check for intervals of a given width."""

    as_held_out: _Whole
    twice_as_many: _Whole


class Estimate(TypedDict):
    """Proportions in all fields, or in the fields of one group."""

    name: str
    unit: Literal["dish", "field"]
    units: int
    fields: int
    cells: int
    unknown: int
    uncertain: int
    icc: Icc | None
    dominated_by_prior: bool
    labels_for_width: LabelsForWidth
    interval_reason: str
    corrected_reason: str
    withheld: str
    types: dict[str, Share]


class NoSpotCheck(TypedDict):
    """Why the labels of a spot check give no estimate."""

    reason: str
    warnings: list[str]


class CheckedShare(TypedDict):
    """Proportion of one type, estimated from a spot check."""

    share: float
    low: float
    high: float


class Agreement(TypedDict):
    """Agreement of several people on cells that more than one of them labelled."""

    cells: int
    differ: int
    kappa: _Number


class SpotCheck(TypedDict):
    """Estimate from a spot check; see `spot_check.result.spot_check_of`."""

    reason: Literal[""]
    types: dict[str, CheckedShare]
    of_units: bool
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    confusion: dict[str, dict[str, float]]
    windows: int
    drawn: int
    cells: int
    tuning: float
    labellers: list[str]
    agreement: Agreement | None
    warnings: list[str]


class Mixture(TypedDict):
    """Proportions of the types in a culture, as `mixture.mixture` writes them."""

    types: list[str]
    level: float
    width: float
    counting_frame: bool
    spot_check: SpotCheck | NoSpotCheck | None
    estimates: list[Estimate]
    confusion: dict[str, dict[str, int]] | None
    confusion_fields: int
    confusion_dishes: dict[str, int]
    right_by_dish: dict[str, dict[str, float]]
    warnings: list[str]


class TypeScores(TypedDict):
    """COCO average precision of one type."""

    AP: _Number
    AP50: _Number
    AP75: _Number
    cells_true: int
    cells_predicted: int


class Panoptic(TypedDict):
    """Panoptic quality and its factors."""

    PQ: _Number
    SQ: _Number
    RQ: _Number


class Errors(TypedDict):
    """Number of wrong cells by kind; see `metrics.CellErrors`."""

    merged: int
    split: int
    missed: int
    invented: int
    wrong_type: int


class Evaluation(TypedDict):
    """Scores against the ground truth, as `evaluation.evaluate` writes them."""

    images: int
    images_by_split: dict[str, int]
    images_partly_typed: int
    images_without_truth: int
    failures: dict[str, str]
    cells_true: int
    cells_predicted: int
    AP: _Number
    AP50: _Number
    AP75: _Number
    AP_cells: _Number
    AP50_cells: _Number
    AP75_cells: _Number
    per_type: dict[str, TypeScores]
    confusion: dict[str, dict[str, int]]
    confusion_rates: dict[str, dict[str, _Number]]
    type_accuracy: _Number
    balanced_accuracy: _Number
    PQ: _Number
    SQ: _Number
    RQ: _Number
    precision: _Number
    recall: _Number
    F1: _Number
    average_precision_50: _Number
    average_precision_75: _Number
    average_precision_90: _Number
    PQ_per_type: dict[str, _Number]
    panoptic_per_type: dict[str, Panoptic]
    errors: Errors
    share_fields: Literal["mixed", "all"]
    share_true: dict[str, _Number]
    share_predicted: dict[str, _Number]
    share_error_points: dict[str, _Number]
    interval_unit: Literal["dish", "field"]
    interval_units: int
    intervals: dict[str, tuple[_Number, _Number] | None] | None
    intervals_reason: str
    study: str
    folder: str
    truth: dict[str, str]


_KINDS = {
    RUN_FILE: (RunRecord, "Record of a run of `cellclass predict`"),
    MIXTURE_FILE: (
        Mixture,
        "Proportions of cell types, as `cellclass predict` writes them",
    ),
    EVALUATION_FILE: (Evaluation, "Scores, as `cellclass evaluate` writes them"),
}
FILES = tuple(_KINDS)


def json_schema(file: str) -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a file that this version writes.

    The schema is strict: every key is required, and an unknown key is an error. Files of
    other versions of cellclass_tf may have other keys.

    Args:
      file: 'run.json', 'mixture.json' or 'evaluation.json'.

    Raises:
      InputError: if `file` is another name.
    """
    if file not in _KINDS:
        raise InputError(
            f"Expected the name of a file with a schema, {', '.join(FILES)}; got {file!r}."
        )
    kind, title = _KINDS[file]
    return schemas.schema_of(kind, title=title)


def write_schemas(output: str | os.PathLike) -> list[pathlib.Path]:
    """Writes run.schema.json, mixture.schema.json and evaluation.schema.json.

    Args:
      output: folder to write to; schemas in it are replaced.

    Returns:
      Paths of the files.
    """
    written = []
    for file in FILES:
        path = pathlib.Path(output) / file.replace(".json", ".schema.json")
        csv_json.write_json(path, json_schema(file))
        written.append(path)
    return written
