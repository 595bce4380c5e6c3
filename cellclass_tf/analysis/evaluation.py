"""Scores predicted cells against the annotated cells of a study."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cellclass_tf import process_state
from cellclass_tf.analysis.metrics import Metrics
from cellclass_tf.analysis.sources import are_other_images, check_types
from cellclass_tf.analysis.units import units_of
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.study import MIXED, ImageRow, Study
from cellclass_tf.errors import InputError, first_names
from cellclass_tf.messages import logger
from cellclass_tf.storage import csv_json, digests, ledger, lock, paths

EVALUATION_FILE = "evaluation.json"
EVALUATION_FIELDS_FILE = "evaluation_fields.csv"


@process_state.keep()
@lock.writes("predictions")
def evaluate(
    predictions: str | os.PathLike | Predictions,
    study: str | os.PathLike | Study,
    *,
    split: str | None = None,
) -> dict[str, Any]:
    """Compares every predicted field with its annotated cells, if it has any.

    A predicted image 'TYPE/NAME' is that image of the study; 'NAME' alone is the image of
    that name if the study has only one. Cells are matched one to one, at an IoU of at least
    0.5. A score that is undefined (for a type that does not occur) is None. The scores of
    fields that the model was trained on do not hold for new fields: see `images_by_split`.
    There are no ignored regions: cells that the annotation leaves out, such as crowds of a
    COCO file (`iscrowd`), are false positives where they are predicted. COCO's own tools
    ignore them, so that their scores may be higher.

    Args:
      predictions: output folder of `predict`; evaluation.json is written there, and
        evaluation_fields.csv with one row per field (cells, errors, errors of the shares).
      study: folder of the study with the true cells.
      split: evaluate only the fields of this split in images.csv; all if not given.

    Returns:
      The content of evaluation.json:
        images, cells_true, cells_predicted: numbers of evaluated images and cells.
        images_by_split: number of images in each split; '' for images without a split.
        images_without_truth: number of predicted images without cells in the study; they
          are left out.
        failures: {predicted image: reason} for images that are left out, since one of the
          label images cannot be read, their sizes differ, or run.json and images.csv record
          different images.
        images_partly_typed: number of images with true cells of unknown type; they count
          only where types are ignored, and in type_accuracy and confusion.
        AP, AP50, AP75: COCO mask average precision, mean over types (see `coco_ap`).
        AP_cells, AP50_cells, AP75_cells: the same with types ignored.
        per_type: {type: AP, AP50, AP75, cells_true, cells_predicted}.
        type_accuracy: fraction of the matched cells of known type that got their type.
        balanced_accuracy: mean over types of that fraction.
        confusion: {true type: {called type: cells}}, with the column 'missed' (false
          negatives) and the row 'invented' (false positives).
        confusion_rates: {true type: {called type: fraction of its matched cells}}; they sum
          to less than 1 if some of these cells were called 'unknown'.
        PQ, SQ, RQ, PQ_per_type, panoptic_per_type: panoptic quality and its factors,
          segmentation and recognition quality, with types ignored and for each type alone.
        precision, recall, F1: with types ignored, over the cells of all fields.
        average_precision_50, _75, _90: TP / (TP + FP + FN) at these IoU, as in cellpose
          and StarDist, over the cells of all fields.
        errors: number of wrong cells by kind; see `metrics.CellErrors`.
        interval_unit, interval_units: the statistical unit, 'dish' or 'field', and the
          number of units; see `units.units_of`.
        intervals: {score: [low, high]}, 95 % intervals by the jackknife over units (see
          `units.interval_of`); None with fewer than five units, and intervals_reason says
          so.
        share_true, share_predicted: {type: proportion of the typed cells} in the fields
          that `share_fields` names: 'mixed', or 'all' if no mixed field has typed cells.
        share_error_points: {type: predicted minus true proportion, in percentage points}.
        study, folder: paths of the study and of the predictions.
        truth: {image of the study: SHA-256 of its true cells}, see `changed_truth`.

    Raises:
      InputError: if no predicted image has annotated cells, none can be compared, or two
        types differ only in upper and lower case.
    """
    predictions = Predictions.open(predictions)
    study = Study.open(study)
    places = str(predictions.cells_path), str(study.settings_path)
    check_types(predictions.type_names, study.cell_types, places)
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
        "study": paths.recorded_path(study.root),
        "folder": paths.recorded_path(predictions.folder),
        "truth": {row.image: _digest(study, row) for row in compared},
    }
    if result["images_by_split"].get("train"):
        logger.warning(
            "%d of the %d evaluated images belong to the training split; their scores do "
            "not hold for new images.",
            result["images_by_split"]["train"],
            result["images"],
        )
    if partly_typed:
        logger.warning(
            "%d of the %d evaluated images have cells of unknown type. A model learns the "
            "outlines of such images if they are in its dataset (split untyped); then the "
            "scores of outlines do not hold for new images.",
            partly_typed,
            result["images"],
        )
    folder, columns = predictions.folder, list(metrics.fields[0])
    table = csv_json.csv_text(columns, metrics.fields)
    ledger.write_text(folder, folder / EVALUATION_FIELDS_FILE, table)
    ledger.write_text(folder, folder / EVALUATION_FILE, csv_json.json_text(result))
    return result


def read_evaluation(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the content of evaluation.json; None if `evaluate` was not run.

    Raises:
      InputError: if the file is not valid JSON.
    """
    path = folder / EVALUATION_FILE
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path} is not valid JSON ({error}). Run `cellclass evaluate` again, or remove "
            "the file."
        ) from error


def changed_truth(evaluation: Mapping[str, Any], folder: pathlib.Path) -> list[str]:
    """Returns the images whose true cells have changed since they were evaluated.

    Args:
      evaluation: content of evaluation.json.
      folder: the folder in which it lies.

    Returns:
      Images of the study, sorted; none if the study is no longer there, or if an earlier
      version evaluated, which did not record the true cells.
    """
    places = paths.places_of(
        evaluation.get("study", ""), folder, evaluation.get("folder", "")
    )
    place = next(filter(Study.exists, places), None)
    if place is None:
        return []
    study = Study.open(place)
    rows = {row.image: row for row in study.rows()}
    return sorted(
        image
        for image, digest in evaluation["truth"].items()
        if image not in rows or _digest(study, rows[image]) != digest
    )


def _digest(study: Study, row: ImageRow) -> str:
    """Returns the SHA-256 of an image's cells and of their types."""
    path = study.cells_path(row)
    files = [file for file in (path, path.with_suffix(".csv")) if file.exists()]
    together = "".join(digests.sha256_of_file(file) for file in files)
    return hashlib.sha256(together.encode()).hexdigest()


def _fields_with_truth(
    predictions: Predictions, study: Study, split: str | None
) -> tuple[list[tuple[str, ImageRow]], int]:
    """Returns (stem, row) of the fields to evaluate, and how many have no annotated cells."""
    rows = study.rows()
    annotated = [row for row in rows if study.has_cells(row)]
    by_stem = {row.stem: row for row in annotated}
    # A name that occurs in two folders is ambiguous, even if only one of the images has
    # cells.
    shared = Counter(_name(row) for row in rows)
    by_name = {_name(row): row for row in annotated if shared[_name(row)] == 1}
    found = [(s, by_stem.get(s) or by_name.get(s)) for s in predictions.stems]
    without = [stem for stem, row in found if row is None]
    if without:
        logger.warning(
            "%d predicted images have no annotated cells in %s and are left out: %s",
            len(without),
            study.root,
            first_names(without),
        )
    fields = [(s, r) for s, r in found if r and split in (None, r.split)]
    if not fields:
        wanted = "" if split is None else f" in the split {split!r}"
        raise InputError(
            f"{predictions.folder}: none of its {len(found)} images has annotated cells"
            f"{wanted} in {study.root}. The names must agree: the predictions have "
            f"{first_names(predictions.stems, 3)}; the study has "
            f"{first_names(sorted(by_stem), 3)}."
        )
    return fields, len(without)


def _name(row: ImageRow) -> str:
    return row.stem.partition("/")[2]


def _all_types(study: Study, predictions: Predictions) -> tuple[str, ...]:
    """Returns the study's types, followed by types that only the model has."""
    strangers = (n for n in predictions.type_names if n not in study.cell_types)
    return (*study.cell_types, *strangers)


def _read_pair(
    predictions: Predictions,
    stem: str,
    study: Study,
    row: ImageRow,
    type_names: Sequence[str],
) -> tuple[Cells, Cells]:
    recorded = predictions.recorded_images.get(stem)
    if recorded and are_other_images(
        (recorded.sha256, recorded.raw_sha256), (row.image_sha256, row.raw_sha256)
    ):
        raise InputError(
            f"{stem} was predicted in another image of that name: neither its raw file "
            f"({recorded.raw_file or 'not recorded'}) nor its merged image is that of "
            f"{row.image} in {study.root} ({row.raw_file or 'not recorded'}). Predict the "
            "study's own image."
        )
    true = study.read_cells(row).with_types(type_names)
    predicted = predictions.read(stem).with_types(type_names)
    if true.labels.shape != predicted.labels.shape:
        raise InputError(
            f"{predictions.labels_path(stem)} has {predicted.labels.shape} px, but the "
            f"annotated cells {study.cells_path(row)} have {true.labels.shape}. Predict the "
            "study's own image."
        )
    return true, predicted
