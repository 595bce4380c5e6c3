"""Scores of predicted cells against the annotated cells of a study."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import logging

from cellclass_tf import average_precision, files, matching
from cellclass_tf.analysis.predictions import Predictions
from cellclass_tf.cells import UNKNOWN, Cells
from cellclass_tf.files import InputError
from cellclass_tf.study import MIXED, ImageRow, Study

MISSED = "missed"
INVENTED = "invented"


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
      predictions: what `predict` wrote; evaluation.json is put there.
      study: the study that has the truth.
      split: the only split of images.csv to evaluate; None takes all.

    Returns:
      What evaluation.json holds:
        images, cells_true, cells_predicted: what was evaluated.
        images_by_split: number of images of each split; '' has none.
        images_without_truth: predicted images left out, since the study has no cells.
        images_partly_typed: images with true cells of unknown type; they count only
          where types are ignored, and in type_accuracy and confusion.
        AP, AP50, AP75: COCO mask average precision over types (see `average_precision`).
        AP_cells, AP50_cells, AP75_cells: the same with types ignored.
        per_type: of each type AP, AP50, AP75, cells_true, cells_predicted.
        type_accuracy: share of the matched cells of known type that got their type.
        confusion: {true type: {called type: cells}}, with the column 'missed' and the
          row 'invented'.
        PQ, PQ_per_type: panoptic quality, types ignored and for each type alone.
        precision, recall: with types ignored, over the cells of all fields.
        average_precision_50: TP / (TP + FP + FN), as in cellpose and StarDist, over the
          cells of all fields.
        share_true, share_predicted: {type: share of the typed cells} in the fields that
          `share_fields` names: 'mixed', or 'all' if no mixed field has typed cells.
        share_error_points: {type: predicted minus true share, in percentage points}.

    Raises:
      InputError: if no predicted image has truth, or label images differ in size.
    """
    if not isinstance(predictions, Predictions):
        predictions = Predictions(predictions)
    if not isinstance(study, Study):
        study = Study.open(study)
    fields, without_truth = _fields_with_truth(predictions, study, split)
    tally = _Tally(_all_types(study, predictions))
    for stem, row in fields:
        tally.add(row, *_read_pair(predictions, stem, study, row, tally.type_names))
    result = tally.result() | {"images_without_truth": without_truth}
    if result["images_by_split"].get("train"):
        logging.warning(
            "%d of the %d images evaluated are of the training split; their scores say "
            "nothing about new images.",
            result["images_by_split"]["train"],
            result["images"],
        )
    files.write_json(predictions.folder / "evaluation.json", result)
    return result


@dataclasses.dataclass
class _Tally:
    """What is kept of each field after its label images are let go."""

    type_names: tuple[str, ...]
    splits: Counter = dataclasses.field(default_factory=Counter)
    partly_typed: int = 0
    typed: average_precision.AveragePrecision = dataclasses.field(init=False)
    untyped: average_precision.AveragePrecision = dataclasses.field(init=False)
    ious: list[np.ndarray] = dataclasses.field(default_factory=list)
    same_type_ious: dict[int, list[float]] = dataclasses.field(init=False)
    confusion: np.ndarray = dataclasses.field(init=False)
    typed_counts: np.ndarray = dataclasses.field(init=False)
    mixed_counts: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self):
        types = len(self.type_names)
        self.typed = average_precision.AveragePrecision(types)
        self.untyped = average_precision.AveragePrecision(1)
        self.same_type_ious = {i: [] for i in range(1, types + 1)}
        # Row 0 and column 0 are cells of no type; the last are invented and missed.
        self.confusion = np.zeros((types + 2, types + 2), np.int64)
        # (true or predicted, type id) of the fields whose true types are all known.
        self.typed_counts = np.zeros((2, types + 1), np.int64)
        self.mixed_counts = np.zeros((2, types + 1), np.int64)

    def add(self, row: ImageRow, true: Cells, predicted: Cells) -> None:
        """Takes in one field."""
        self.splits[row.split] += 1
        matches = matching.match_cells(true.labels, predicted.labels)
        self._add_matches(matches, true.type_ids, predicted.type_ids)
        self.untyped.add(true, predicted, use_types=False)
        if not true.type_ids.all():
            self.partly_typed += 1
            return
        self.typed.add(true, predicted, use_types=True)
        counts = np.stack(
            [
                np.bincount(cells.type_ids, minlength=len(self.type_names) + 1)
                for cells in (true, predicted)
            ]
        )
        self.typed_counts += counts
        self.mixed_counts += counts * (row.cell_type == MIXED)
        pairs = zip(matches.pairs - 1, matches.ious, strict=True)
        for (i, j), iou in pairs:
            if true.type_ids[i] == predicted.type_ids[j]:
                self.same_type_ious[int(true.type_ids[i])].append(float(iou))

    def _add_matches(
        self, matches: matching.Matches, true_ids: np.ndarray, called_ids: np.ndarray
    ) -> None:
        self.ious.append(matches.ious)
        i, j = (matches.pairs - 1).T
        np.add.at(self.confusion, (true_ids[i], called_ids[j]), 1)
        np.add.at(self.confusion, (true_ids[matches.missed - 1], -1), 1)
        np.add.at(self.confusion, (-1, called_ids[matches.invented - 1]), 1)

    def result(self) -> dict[str, Any]:
        """Turns the sums into scores."""
        typed, untyped = self.typed.scores(), self.untyped.scores()
        matched = self.confusion[1:-1, :-1]
        right = np.trace(matched[:, 1:])
        return {
            "images": sum(self.splits.values()),
            "images_by_split": dict(sorted(self.splits.items())),
            "images_partly_typed": self.partly_typed,
            "cells_true": int(self.confusion[:-1].sum()),
            "cells_predicted": int(self.confusion[:, :-1].sum()),
            **typed.mean(),
            **{f"{key}_cells": value for key, value in untyped.mean().items()},
            "per_type": self._per_type(typed),
            "type_accuracy": _ratio(right, matched.sum()),
            "confusion": _named(self.confusion, self.type_names),
            **self._detection(),
            "PQ_per_type": self._panoptic_per_type(),
            **self._shares(),
        }

    def _per_type(self, scores: average_precision.Scores) -> dict[str, dict]:
        return {
            name: {
                **scores.of_type(i),
                "cells_true": int(self.typed_counts[0, i]),
                "cells_predicted": int(self.typed_counts[1, i]),
            }
            for i, name in enumerate(self.type_names, start=1)
        }

    def _detection(self) -> dict[str, float | None]:
        ious = np.concatenate(self.ious)
        true, predicted = self.confusion[:-1].sum(), self.confusion[:, :-1].sum()
        return {
            "PQ": _number(matching.panoptic_quality_of(ious, true, predicted)),
            "precision": _ratio(len(ious), predicted),
            "recall": _ratio(len(ious), true),
            "average_precision_50": _ratio(len(ious), true + predicted - len(ious)),
        }

    def _panoptic_per_type(self) -> dict[str, float | None]:
        return {
            name: _number(
                matching.panoptic_quality_of(
                    self.same_type_ious[i], *self.typed_counts[:, i]
                )
            )
            for i, name in enumerate(self.type_names, start=1)
        }

    def _shares(self) -> dict[str, Any]:
        mixed = self.mixed_counts[0].any()
        counts = (self.mixed_counts if mixed else self.typed_counts)[:, 1:]
        true, predicted = (
            {name: _ratio(n, side.sum()) for name, n in zip(self.type_names, side)}
            for side in counts
        )
        known = counts.sum(axis=1).all()
        return {
            "share_fields": MIXED if mixed else "all",
            "share_true": true,
            "share_predicted": predicted,
            "share_error_points": {
                name: 100 * (predicted[name] - true[name]) if known else None
                for name in self.type_names
            },
        }


def _fields_with_truth(
    predictions: Predictions, study: Study, split: str | None
) -> tuple[list[tuple[str, ImageRow]], int]:
    """Returns the (stem, row) to evaluate, and how many predicted fields have no truth."""
    rows = study.rows()
    annotated = [row for row in rows if study.cells_path(row).exists()]
    by_stem = {row.stem: row for row in annotated}
    # A name that two folders share does not tell which of them is meant, even if only
    # one of them has cells.
    shared = Counter(_name(row) for row in rows)
    by_name = {_name(row): row for row in annotated if shared[_name(row)] == 1}
    found = [(s, by_stem.get(s) or by_name.get(s)) for s in predictions.stems]
    without = [stem for stem, row in found if row is None]
    if without:
        logging.warning(
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
    true = _with_types(study.read_cells(row), type_names)
    predicted = _with_types(predictions.read(stem), type_names)
    if true.labels.shape != predicted.labels.shape:
        raise InputError(
            f"{predictions.labels_path(stem)} has {predicted.labels.shape} px, but its "
            f"truth {study.cells_path(row)} has {true.labels.shape}. Predict on the "
            "study's own image."
        )
    return true, predicted


def _with_types(cells: Cells, type_names: Sequence[str]) -> Cells:
    """Returns the cells with their types numbered as in `type_names`."""
    if cells.type_names == tuple(type_names):
        return cells
    where = [type_names.index(name) for name in cells.type_names]
    probabilities = np.zeros((len(cells), len(type_names)), np.float32)
    probabilities[:, where] = cells.probabilities
    ids = np.array([0, *(i + 1 for i in where)], np.int32)[cells.type_ids]
    return dataclasses.replace(
        cells, type_names=tuple(type_names), type_ids=ids, probabilities=probabilities
    )


def _named(confusion: np.ndarray, type_names: Sequence[str]) -> dict[str, dict]:
    """Gives the rows and columns their names; 'unknown' only where there are any."""
    order = [*range(1, len(type_names) + 1), 0, -1]
    rows = dict(zip(order, (*type_names, UNKNOWN, INVENTED)))
    columns = dict(zip(order, (*type_names, UNKNOWN, MISSED)))
    return {
        row: {
            column: int(confusion[i, j])
            for j, column in columns.items()
            if (i, j) != (-1, -1) and (j != 0 or confusion[:, 0].any())
        }
        for i, row in rows.items()
        if i != 0 or confusion[0].any()
    }


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
