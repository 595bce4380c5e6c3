"""Scores predicted cells of many fields against the true cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellclass_tf.analysis.units import (
    FIELD,
    LEAST_FOR_SCORES,
    interval_of,
    left_out,
)
from cellclass_tf.core.cells import UNKNOWN, Cells
from cellclass_tf.labels import coco_ap, matching

MISSED = "missed"
INVENTED = "invented"
# IoU thresholds at which TP / (TP + FP + FN) is reported.
_IOUS = (0.5, 0.75, 0.9)
# A cell is inside another cell if more than this fraction of its pixels is.
_INSIDE = 0.5


@dataclasses.dataclass(frozen=True)
class CellErrors:
    """Numbers of wrong cells in one field, each cell counted once.

    Attributes:
      merged: true cells without a match that are inside a predicted cell together with
        another true cell.
      split: true cells without a match that contain two or more predicted cells.
      missed: other true cells without a match (false negatives).
      invented: predicted cells without a match (false positives) that are not inside a
        split cell and do not contain merged cells.
      wrong_type: matched cells of known type that were predicted as another type.
    """

    merged: int = 0
    split: int = 0
    missed: int = 0
    invented: int = 0
    wrong_type: int = 0


def errors_of(true: Cells, predicted: Cells, matches: matching.Matches) -> CellErrors:
    """Sorts the errors of one field by kind.

    Args:
      true: N cells.
      predicted: M cells, of the same types.
      matches: matches of true and predicted cells.
    """
    shared = matching.shared_pixels(true.labels, predicted.labels).tocsr()
    shared = shared[: len(true) + 1, : len(predicted) + 1]
    inner = shared[1:, 1:].tocoo()
    rows, columns = inner.coords
    in_predicted = inner.data > _INSIDE * true.areas_px[rows]
    in_true = inner.data > _INSIDE * predicted.areas_px[columns]
    held = np.bincount(columns[in_predicted], minlength=len(predicted))
    pieces = np.bincount(rows[in_true], minlength=len(true))
    lost = np.zeros(len(true), bool)
    lost[matches.missed - 1] = True
    stray = np.zeros(len(predicted), bool)
    stray[matches.invented - 1] = True
    merged = np.zeros(len(true), bool)
    merged[rows[in_predicted & (held[columns] > 1)]] = True
    merged &= lost
    split = lost & ~merged & (pieces > 1)
    explained = np.zeros(len(predicted), bool)
    explained[columns[in_true & split[rows]]] = True
    explained[columns[in_predicted & merged[rows]]] = True
    i, j = (matches.pairs - 1).T
    known = true.type_ids[i] > 0
    return CellErrors(
        merged=int(merged.sum()),
        split=int(split.sum()),
        missed=int((lost & ~merged & ~split).sum()),
        invented=int((stray & ~explained).sum()),
        wrong_type=int((known & (true.type_ids[i] != predicted.type_ids[j])).sum()),
    )


def compare_cells(true: Cells, predicted: Cells) -> dict[str, Any]:
    """Scores the predicted cells of one field against the true ones.

    Args:
      true: N cells.
      predicted: M cells of the same types, in a label image of the same size.

    Returns:
      The scores of `Metrics.result`; without intervals, which need several fields.

    Raises:
      ValueError: if types or sizes differ.
    """
    metrics = Metrics(true.type_names)
    metrics.add(true, predicted)
    return metrics.result()


class Metrics:
    """Adds up the results of fields and computes scores of all of them.

    Of each field it keeps some counts, and for each cell a score and ten bits (whether it
    is matched at each of COCO's IoU thresholds), so that memory does not limit the number
    of fields.
    """

    def __init__(self, type_names: Sequence[str]) -> None:
        self.type_names = tuple(type_names)
        types = len(self.type_names)
        self._typed = coco_ap.AveragePrecision(types)
        self._untyped = coco_ap.AveragePrecision(1)
        self._sums: list[dict[str, np.ndarray]] = []
        self.fields: list[dict[str, Any]] = []

    def add(
        self,
        true: Cells,
        predicted: Cells,
        *,
        name: str = "",
        split: str = "",
        is_mixed: bool = False,
    ) -> None:
        """Adds one field.

        Args:
          true: annotated cells, with the types of these metrics.
          predicted: predicted cells.
          name: name of the field.
          split: split of the field.
          is_mixed: whether the field shows a mixed culture, and counts for the errors of
            the proportions.

        Raises:
          ValueError: if types or sizes differ.
        """
        if not true.type_names == predicted.type_names == self.type_names:
            raise ValueError(
                f"{name}: expected the types {self.type_names} on both sides; got "
                f"{true.type_names} and {predicted.type_names}."
            )
        matches = matching.match_cells(true.labels, predicted.labels)
        self._untyped.add(true, predicted, use_types=False)
        fully = bool(true.type_ids.all())
        if fully:
            self._typed.add(true, predicted, use_types=True)
        errors = errors_of(true, predicted, matches)
        sums = self._sums_of(true, predicted, matches)
        counts = np.stack([self._counts(true), self._counts(predicted)])
        sums["typed_counts"] = counts * fully
        sums["mixed_counts"] = counts * (fully and is_mixed)
        self._sums.append(sums)
        self.fields.append(
            {
                "image": name,
                "split": split,
                "cells_true": len(true),
                "cells_predicted": len(predicted),
                "matched": len(matches.pairs),
                **dataclasses.asdict(errors),
                **self._share_errors(counts, fully),
            }
        )

    def result(
        self, unit: str = FIELD, units: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Computes the scores of the added fields; `evaluate` describes them.

        Args:
          unit: kind of the statistical unit; see `units.units_of`.
          units: unit of each field, in the order in which they were added; None if each
            field is a unit.
        """
        if units is None:
            units = [str(number) for number in range(len(self.fields))]
        count = len(set(units))
        total = {
            key: np.sum([s[key] for s in self._sums], axis=0) for key in self._sums[0]
        }
        typed, untyped = self._typed.scores(), self._untyped.scores()
        confusion, panoptic = total["confusion"], self._panoptic(total)
        return {
            "cells_true": int(confusion[:-1].sum()),
            "cells_predicted": int(confusion[:, :-1].sum()),
            **typed.mean(),
            **{f"{key}_cells": value for key, value in untyped.mean().items()},
            "per_type": self._per_type(typed, total),
            "confusion": _named(confusion, self.type_names),
            "confusion_rates": self._rates(confusion),
            **{key: _number(value) for key, value in _scores(total).items()},
            "PQ_per_type": {name: of["PQ"] for name, of in panoptic.items()},
            "panoptic_per_type": panoptic,
            "errors": {
                field.name: sum(row[field.name] for row in self.fields)
                for field in dataclasses.fields(CellErrors)
            },
            **self._shares(total),
            "interval_unit": unit,
            "interval_units": count,
            "intervals": self._intervals(units),
            "intervals_reason": ""
            if count >= LEAST_FOR_SCORES
            else f"{count} statistical units ({unit}) are too few to estimate how much units "
            f"differ; at least {LEAST_FOR_SCORES} are needed",
        }

    def _sums_of(
        self, true: Cells, predicted: Cells, matches: matching.Matches
    ) -> dict[str, np.ndarray]:
        types = len(self.type_names)
        # Row and column 0: cells of unknown type; last row: invented, last column: missed.
        confusion = np.zeros((types + 2, types + 2), np.int64)
        i, j = (matches.pairs - 1).T
        np.add.at(confusion, (true.type_ids[i], predicted.type_ids[j]), 1)
        np.add.at(confusion, (true.type_ids[matches.missed - 1], -1), 1)
        np.add.at(confusion, (-1, predicted.type_ids[matches.invented - 1]), 1)
        # Panoptic quality counts pairs with IoU > 0.5; index 0: types ignored, then by type.
        above = matches.ious > 0.5
        pairs, ious = np.zeros(types + 1, np.int64), np.zeros(types + 1)
        pairs[0], ious[0] = above.sum(), matches.ious[above].sum()
        same = above & (true.type_ids[i] == predicted.type_ids[j])
        same &= bool(true.type_ids.all()) & (true.type_ids[i] > 0)
        np.add.at(pairs, true.type_ids[i[same]], 1)
        np.add.at(ious, true.type_ids[i[same]], matches.ious[same])
        found = [
            len(matching.match_cells(true.labels, predicted.labels, iou).pairs)
            for iou in _IOUS[1:]
        ]
        return {
            "confusion": confusion,
            "pairs": pairs,
            "ious": ious,
            "found": np.array([len(matches.pairs), *found]),
        }

    def _counts(self, cells: Cells) -> np.ndarray:
        return np.bincount(cells.type_ids, minlength=len(self.type_names) + 1)

    def _share_errors(self, counts: np.ndarray, fully: bool) -> dict[str, float | None]:
        totals = counts[:, 1:].sum(axis=1)
        known = fully and totals.all()
        shares = counts[:, 1:] / np.maximum(totals, 1)[:, np.newaxis]
        return {
            f"share_error_points_{name}": 100 * float(shares[1, i] - shares[0, i])
            if known
            else None
            for i, name in enumerate(self.type_names)
        }

    def _per_type(
        self, scores: coco_ap.Scores, total: Mapping[str, np.ndarray]
    ) -> dict[str, dict[str, Any]]:
        return {
            name: {
                **scores.of_type(i),
                "cells_true": int(total["typed_counts"][0, i]),
                "cells_predicted": int(total["typed_counts"][1, i]),
            }
            for i, name in enumerate(self.type_names, start=1)
        }

    def _rates(self, confusion: np.ndarray) -> dict[str, dict[str, float | None]]:
        """Returns the fraction of the matched cells of each type that was called each type.

        Cells that were called 'unknown' are matched, too, so fractions may sum to less than 1.
        """
        matched = confusion[:-1, :-1]
        return {
            name: {
                called: _ratio(matched[i, j], matched[i].sum())
                for j, called in enumerate(self.type_names, start=1)
            }
            for i, name in enumerate(self.type_names, start=1)
        }

    def _panoptic(
        self, total: Mapping[str, np.ndarray]
    ) -> dict[str, dict[str, float | None]]:
        return {
            name: {
                key: _number(value)
                for key, value in _panoptic(
                    total["pairs"][i],
                    total["ious"][i],
                    total["typed_counts"][0, i],
                    total["typed_counts"][1, i],
                ).items()
            }
            for i, name in enumerate(self.type_names, start=1)
        }

    def _shares(self, total: Mapping[str, np.ndarray]) -> dict[str, Any]:
        mixed = total["mixed_counts"][0].any()
        counts = total["mixed_counts" if mixed else "typed_counts"][:, 1:]
        true, predicted = (
            {
                name: _ratio(n, side.sum())
                for name, n in zip(self.type_names, side, strict=True)
            }
            for side in counts
        )
        return {
            "share_fields": "mixed" if mixed else "all",
            "share_true": true,
            "share_predicted": predicted,
            "share_error_points": {
                name: _points(predicted[name], true[name]) for name in self.type_names
            },
        }

    def _intervals(
        self, units: Sequence[str]
    ) -> dict[str, list[float | None] | None] | None:
        """Returns 95 % jackknife intervals of the scores; None with too few units."""
        if len(set(units)) < LEAST_FOR_SCORES:
            return None
        stays = left_out(units).astype(np.int64)
        weights = np.concatenate([np.ones_like(stays[:1]), stays])
        drawn = {
            key: np.tensordot(weights, np.stack([s[key] for s in self._sums]), axes=1)
            for key in self._sums[0]
        }
        found = dict(_scores(drawn))
        found["AP_cells"], found["AP50_cells"] = self._untyped.resample(weights)
        if self._typed.fields == len(units):
            found["AP"], found["AP50"] = self._typed.resample(weights)
        confusion = drawn["confusion"][0]
        matched = int(confusion[1:-1, :-1].sum())
        basis = dict.fromkeys(found, int(confusion[:-1].sum()))
        basis |= {"type_accuracy": matched, "balanced_accuracy": matched}
        ends = {
            key: interval_of(float(values[0]), values[1:], basis[key])
            for key, values in found.items()
        }
        return {
            key: pair and [_number(end) for end in pair] for key, pair in ends.items()
        }


def _scores(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Computes scores from sums, which may have leading dimensions; NaN is undefined."""
    confusion = sums["confusion"]
    true = confusion[..., :-1, :].sum(axis=(-2, -1))
    predicted = confusion[..., :-1].sum(axis=(-2, -1))
    found, known = sums["found"], confusion[..., 1:-1, :-1]
    types = confusion[..., 1:-1, 1:-1]
    right = np.trace(types, axis1=-2, axis2=-1)
    diagonal = np.diagonal(types, axis1=-2, axis2=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        recalls = diagonal / known.sum(axis=-1)
        seen = np.isfinite(recalls)
        balanced = np.where(seen, recalls, 0).sum(axis=-1) / seen.sum(axis=-1)
        scores = {
            "type_accuracy": right / known.sum(axis=(-2, -1)),
            "balanced_accuracy": balanced,
            **_panoptic(sums["pairs"][..., 0], sums["ious"][..., 0], true, predicted),
            "precision": found[..., 0] / predicted,
            "recall": found[..., 0] / true,
            "F1": 2 * found[..., 0] / (true + predicted),
        }
        for place, iou in enumerate(_IOUS):
            hits = found[..., place]
            key = f"average_precision_{round(100 * iou)}"
            scores[key] = hits / (true + predicted - hits)
    return scores


def _panoptic(
    pairs: np.ndarray, ious: np.ndarray, true: np.ndarray, predicted: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns PQ = SQ * RQ (Kirillov et al. 2019, doi:10.1109/CVPR.2019.00963)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        pairs, ious = np.asarray(pairs, float), np.asarray(ious, float)
        cells = (np.asarray(true) + np.asarray(predicted)) / 2
        return {"PQ": ious / cells, "SQ": ious / pairs, "RQ": pairs / cells}


def _named(
    confusion: np.ndarray, type_names: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Names the rows and columns; 'unknown' is left out if there are no such cells."""
    order = [*range(1, len(type_names) + 1), 0, -1]
    rows = dict(zip(order, (*type_names, UNKNOWN, INVENTED), strict=True))
    columns = dict(zip(order, (*type_names, UNKNOWN, MISSED), strict=True))
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


def _points(predicted: float | None, true: float | None) -> float | None:
    """Returns predicted minus true share in percentage points; None if one is unknown."""
    if predicted is None or true is None:
        return None
    return 100 * (predicted - true)


def _number(value: float | np.ndarray) -> float | None:
    return float(value) if np.isfinite(value) else None
