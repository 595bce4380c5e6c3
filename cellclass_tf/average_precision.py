"""COCO's mask average precision, field by field, for any number of cells."""

from __future__ import annotations

import dataclasses

import numpy as np

from cellclass_tf import matching
from cellclass_tf.cells import Cells

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)


class AveragePrecision:
    """Gathers the fields one by one; of a cell it keeps a score and ten answers.

    The numbers are those of pycocotools with no limit on the detections of a field and
    no ranges of area. Since one pixel belongs to one cell, all overlaps of a field come
    from one count of label pairs, without a mask a cell and without an annotation file.
    """

    def __init__(self, types: int):
        self._true = np.zeros(types + 1, np.int64)
        self._found = [_Found() for _ in range(types + 1)]

    def add(self, true: Cells, predicted: Cells, *, use_types: bool) -> None:
        """Adds one field.

        Args:
          true: the annotated cells.
          predicted: a cell ranks by its score, times the probability of its type where
            types are used; cells of unknown type are then no detections.
          use_types: whether types count; otherwise all cells are of type 1.

        Raises:
          ValueError: if the label images differ in shape.
        """
        ious = matching.iou_matrix(true.labels, predicted.labels)
        scores = predicted.scores.astype(np.float64)
        true_ids, ids = np.ones(len(true), int), np.ones(len(predicted), int)
        if use_types:
            scores = scores * predicted.called_probabilities
            true_ids, ids = true.type_ids, predicted.type_ids
        for type_id in range(1, len(self._found)):
            wanted, called = true_ids == type_id, np.flatnonzero(ids == type_id)
            order = called[np.argsort(-scores[called], kind="stable")]
            self._true[type_id] += wanted.sum()
            self._found[type_id].scores.append(scores[order])
            matched = _matched(ious[:, order].tocsc(), wanted)
            self._found[type_id].matched.append(matched)

    def scores(self) -> Scores:
        """Ranks what was gathered."""
        types = len(self._found) - 1
        precision = np.full((len(IOU_THRESHOLDS), len(_RECALLS), types), -1.0)
        for type_id in range(1, types + 1):
            if self._true[type_id]:
                precision[:, :, type_id - 1] = self._found[type_id].precision(
                    self._true[type_id]
                )
        return Scores(precision)


@dataclasses.dataclass
class _Found:
    """Detections of one type: scores, and at which thresholds each was right."""

    scores: list[np.ndarray] = dataclasses.field(default_factory=list)
    matched: list[np.ndarray] = dataclasses.field(default_factory=list)

    def precision(self, cells: int) -> np.ndarray:
        """Returns (T, R), the best precision at each recall or beyond."""
        order = np.argsort(-np.concatenate(self.scores), kind="stable")
        right = np.cumsum(np.concatenate(self.matched)[order], axis=0)
        ranks = np.arange(1, len(order) + 1)[:, np.newaxis]
        # COCO divides by a hair more than the count.
        precision = right / (ranks + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        at_recalls = np.zeros((len(IOU_THRESHOLDS), len(_RECALLS)))
        for t, recall in enumerate((right / cells).T):
            places = np.searchsorted(recall, _RECALLS, side="left")
            reached = places < len(order)
            at_recalls[t, reached] = precision[places[reached], t]
        return at_recalls


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Average precision: the area under the precision-recall curve.

    As defined by COCO (https://cocodataset.org/#detection-eval): AP over the IoU
    thresholds 0.50, 0.55 … 0.95, and at 0.50 and 0.75 alone.

    Attributes:
      precision: (T, R, K) float64 by IoU threshold, recall and type; -1 where a type
        has no true cells.
    """

    precision: np.ndarray

    def mean(self) -> dict[str, float | None]:
        """Returns AP, AP50, AP75 over the types that have true cells."""
        return self._averages(self.precision)

    def of_type(self, type_id: int) -> dict[str, float | None]:
        """Returns AP, AP50, AP75 of type 1..K; None if it has no true cells."""
        return self._averages(self.precision[:, :, type_id - 1])

    def _averages(self, precision: np.ndarray) -> dict[str, float | None]:
        return {
            "AP": _average(precision),
            "AP50": _average(precision[np.isclose(IOU_THRESHOLDS, 0.5)]),
            "AP75": _average(precision[np.isclose(IOU_THRESHOLDS, 0.75)]),
        }


def _matched(ious, wanted: np.ndarray) -> np.ndarray:
    """Gives each detection, in order, the best true cell that is left.

    Args:
      ious: (N, D) sparse by column, detections in the order of their scores.
      wanted: (N,) bool, the true cells of the detections' type.

    Returns:
      (D, T) bool, whether a detection got one at each IoU threshold.
    """
    matched = np.zeros((ious.shape[1], len(IOU_THRESHOLDS)), bool)
    taken = np.zeros((ious.shape[0], len(IOU_THRESHOLDS)), bool)
    for j in range(ious.shape[1]):
        column = slice(ious.indptr[j], ious.indptr[j + 1])
        candidates = sorted(
            (iou, i)
            for i, iou in zip(ious.indices[column], ious.data[column], strict=True)
            if wanted[i] and iou >= IOU_THRESHOLDS[0]
        )
        # Of equals the last one, as COCO has it.
        for iou, i in reversed(candidates):
            wins = (iou >= IOU_THRESHOLDS) & ~taken[i] & ~matched[j]
            matched[j] |= wins
            taken[i] |= wins
    return matched


def _average(precision: np.ndarray) -> float | None:
    precision = precision[precision > -1]
    # Rounded, since with COCO's hair a perfect score falls short of 1.
    return round(float(precision.mean()), 6) if precision.size else None
