"""Scores of predicted cells against the annotated cells of a study."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from cellclass_tf import process_state
from cellclass_tf.analysis.metrics import Metrics
from cellclass_tf.analysis.units import units_of
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.study import MIXED, ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.messages import logger
from cellclass_tf.storage import csv_json, ledger, lock

EVALUATION_FILE = "evaluation.json"


@process_state.keep()
@lock.writes("predictions")
def evaluate(
    predictions: str | os.PathLike | Predictions,
    study: str | os.PathLike | Study,
    *,
    split: str | None = None,
) -> dict[str, Any]:
    """Compares every predicted field with its annotated cells, where there are any.

    A predicted image 'TYPE/NAME' is that image of the study; 'NAME' alone is the image
    of that name if the study has only one. Cells are the same if their IoU is 0.5 or
    more, one to one. Numbers without a basis (a type that does not occur) are None.
    The scores of fields that the model was trained on say nothing about new fields: see
    `images_by_split`.

    Args:
      predictions: output folder of `predict`; evaluation.json is written there, and
        evaluation_fields.csv with one row per field (cells, errors, errors of the shares).
      study: folder of the study with the true cells.
      split: evaluate only the fields of this split in images.csv; all if not given.

    Returns:
      What evaluation.json holds:
        images, cells_true, cells_predicted: what was evaluated.
        images_by_split: number of images of each split; '' has none.
        images_without_truth: predicted images left out, since the study has no cells.
        failures: {predicted image: why}, left out since one of the label images cannot be
          read, or they differ in size.
        images_partly_typed: images with true cells of unknown type; they count only
          where types are ignored, and in type_accuracy and confusion.
        AP, AP50, AP75: COCO mask average precision over types (see `coco_ap`).
        AP_cells, AP50_cells, AP75_cells: the same with types ignored.
        per_type: of each type AP, AP50, AP75, cells_true, cells_predicted.
        type_accuracy: share of the matched cells of known type that got their type.
        balanced_accuracy: mean over types of that share.
        confusion: {true type: {called type: cells}}, with the column 'missed' and the
          row 'invented'.
        confusion_rates: {true type: {called type: share of its matched cells}}.
        PQ, SQ, RQ, PQ_per_type, panoptic_per_type: panoptic quality and its factors,
          segmentation and recognition, types ignored and for each type alone.
        precision, recall, F1: with types ignored, over the cells of all fields.
        average_precision_50, _75, _90: TP / (TP + FP + FN) at these IoU, as in cellpose
          and StarDist, over the cells of all fields.
        errors: cells that are wrong by kind; see `metrics.CellErrors`.
        interval_unit, interval_units: what was sampled, 'dish' or 'field', and how many;
          see `units.units_of`.
        intervals: {score: [low, high]}, 95 %, from what the scores are without each unit
          (see `units.interval_of`); None of fewer than five units, as intervals_reason
          says.
        share_true, share_predicted: {type: share of the typed cells} in the fields that
          `share_fields` names: 'mixed', or 'all' if no mixed field has typed cells.
        share_error_points: {type: predicted minus true share, in percentage points}.

    Raises:
      InputError: if no predicted image has truth, or none that can be compared.
    """
    if not isinstance(predictions, Predictions):
        predictions = Predictions(predictions)
    study = Study.open(study)
    fields, without_truth = _fields_with_truth(predictions, study, split)
    metrics, partly_typed = Metrics(_all_types(study, predictions)), 0
    failures, compared = {}, []
    for stem, row in fields:
        try:
            pair = _read_pair(predictions, stem, study, row, metrics.type_names)
        except InputError as error:
            failures[stem] = str(error)
            logger.error("%s is left out: %s", stem, error)
            continue
        true, predicted = pair
        is_mixed = row.cell_type == MIXED
        metrics.add(true, predicted, name=stem, split=row.split, is_mixed=is_mixed)
        compared.append(row)
        partly_typed += not true.type_ids.all()
    if len(failures) == len(fields):
        raise InputError(next(iter(failures.values())))
    splits = Counter(row.split for stem, row in fields if stem not in failures)
    result = {
        "images": len(fields) - len(failures),
        "images_by_split": dict(sorted(splits.items())),
        "images_partly_typed": partly_typed,
        "images_without_truth": without_truth,
        "failures": failures,
        **metrics.result(
            *units_of(
                [row.group for row in compared],
                [row.place or row.image for row in compared],
            )
        ),
    }
    if result["images_by_split"].get("train"):
        logger.warning(
            "%d of the %d images evaluated are of the training split; their scores say "
            "nothing about new images.",
            result["images_by_split"]["train"],
            result["images"],
        )
    if partly_typed:
        logger.warning(
            "%d of the %d images evaluated have cells of unknown type. Training learns the "
            "outlines of such images (split untyped of the dataset); of a model that has "
            "seen them, the scores of outlines say nothing about new images.",
            partly_typed,
            result["images"],
        )
    folder, columns = predictions.folder, list(metrics.fields[0])
    table = csv_json.csv_text(columns, metrics.fields)
    ledger.write_text(folder, folder / "evaluation_fields.csv", table)
    ledger.write_text(folder, folder / EVALUATION_FILE, csv_json.json_text(result))
    return result


def _fields_with_truth(
    predictions: Predictions, study: Study, split: str | None
) -> tuple[list[tuple[str, ImageRow]], int]:
    """Returns the (stem, row) to evaluate, and how many predicted fields have no truth."""
    rows = study.rows()
    annotated = [row for row in rows if study.has_cells(row)]
    by_stem = {row.stem: row for row in annotated}
    # A name that two folders share does not tell which of them is meant, even if only
    # one of them has cells.
    shared = Counter(_name(row) for row in rows)
    by_name = {_name(row): row for row in annotated if shared[_name(row)] == 1}
    found = [(s, by_stem.get(s) or by_name.get(s)) for s in predictions.stems]
    without = [stem for stem, row in found if row is None]
    if without:
        logger.warning(
            "%d predicted images have no annotated cells in %s and are left out: %s%s",
            len(without),
            study.root,
            ", ".join(without[:5]),
            ", …" if len(without) > 5 else "",
        )
    fields = [(s, r) for s, r in found if r and split in (None, r.split)]
    if not fields:
        wanted = "" if split is None else f" in the split {split!r}"
        raise InputError(
            f"{predictions.folder}: none of its {len(found)} images has annotated cells"
            f"{wanted} in {study.root}. Names must agree: the predictions have "
            f"{_some(predictions.stems)}; the study has {_some(by_stem)}."
        )
    return fields, len(without)


def _name(row: ImageRow) -> str:
    return row.stem.partition("/")[2]


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "") or "none"


def _all_types(study: Study, predictions: Predictions) -> tuple[str, ...]:
    """The study's types, and after them those that only the model knows."""
    strangers = (n for n in predictions.type_names if n not in study.cell_types)
    return (*study.cell_types, *strangers)


def _read_pair(
    predictions: Predictions,
    stem: str,
    study: Study,
    row: ImageRow,
    type_names: Sequence[str],
) -> tuple[Cells, Cells]:
    true = study.read_cells(row).with_types(type_names)
    predicted = predictions.read(stem).with_types(type_names)
    if true.labels.shape != predicted.labels.shape:
        raise InputError(
            f"{predictions.labels_path(stem)} has {predicted.labels.shape} px, but its "
            f"truth {study.cells_path(row)} has {true.labels.shape}. Predict on the "
            "study's own image."
        )
    return true, predicted
