"""COCO's mask average precision, computed field by field for any number of cells."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import matching

if TYPE_CHECKING:
    from scipy import sparse

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)


class AveragePrecision:
    """Accumulates fields one by one; keeps a score and ten booleans per detection.

    The results equal those of pycocotools without a limit on the number of detections and
    without ranges of area. Since a pixel belongs to one cell only, all overlaps of a field
    follow from one count of pairs of labels, without one mask per cell and without an
    annotation file.
    """

    def __init__(self, types: int) -> None:
        # (types + 1,) numbers of true cells of each field.
        self._true: list[np.ndarray] = []
        self._types = types
        self._found = [_Detections() for _ in range(types + 1)]

    def add(self, true: Cells, predicted: Cells, *, use_types: bool) -> None:
        """Adds one field.

        Args:
          true: the annotated cells.
          predicted: the predicted cells. They are ranked by score, multiplied by the
            probability of the type if types are used; cells of unknown type are then
            ignored.
          use_types: whether types count; otherwise all cells count as type 1.

        Raises:
          ValueError: if the shapes of the label images differ.
        """
        ious = matching.iou_matrix(true.labels, predicted.labels)
        scores = predicted.scores.astype(np.float64)
        true_ids, ids = np.ones(len(true), int), np.ones(len(predicted), int)
        if use_types:
            scores = scores * predicted.called_probabilities
            true_ids, ids = true.type_ids, predicted.type_ids
        self._true.append(np.bincount(true_ids, minlength=self._types + 1))
        for type_id in range(1, self._types + 1):
            wanted, called = true_ids == type_id, np.flatnonzero(ids == type_id)
            order = called[np.argsort(-scores[called], kind="stable")]
            self._found[type_id].scores.append(scores[order])
            matched = _match(ious[:, order].tocsc(), wanted)
            self._found[type_id].matched.append(matched)

    @property
    def fields(self) -> int:
        """Number of fields that were added."""
        return len(self._true)

    def scores(self) -> Scores:
        """Returns the scores of all fields that were added."""
        return self._scores(np.ones(self.fields, np.int64))

    def resample(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns bootstrap replicates of AP and AP50.

        Args:
          weights: (B, F) int64, how often each of the F fields counts in each replicate.

        Returns:
          (B,) AP and (B,) AP50; NaN for replicates without true cells.
        """
        means = [self._scores(row).mean() for row in weights]
        ap, ap50 = (
            np.array([mean[key] for mean in means], float) for key in ("AP", "AP50")
        )
        return ap, ap50

    def _scores(self, weights: np.ndarray) -> Scores:
        precision = np.full((len(IOU_THRESHOLDS), len(_RECALLS), self._types), -1.0)
        nothing = np.zeros(self._types + 1, np.int64)
        true = weights @ np.stack(self._true) if self._true else nothing
        for type_id in range(1, self._types + 1):
            if true[type_id]:
                found = self._found[type_id]
                precision[:, :, type_id - 1] = found.precision(true[type_id], weights)
        return Scores(precision)


@dataclasses.dataclass
class _Detections:
    """Detections of one type.

    Attributes:
      scores: (D,) scores of each field.
      matched: (D, T) bool of each field, whether a detection is correct at each threshold.
    """

    scores: list[np.ndarray] = dataclasses.field(default_factory=list)
    matched: list[np.ndarray] = dataclasses.field(default_factory=list)

    def precision(self, cells: int, weights: np.ndarray) -> np.ndarray:
        """Returns (T, R) float64, the highest precision at each recall or above it.

        Args:
          cells: number of true cells, each counted as often as its field.
          weights: (F,) how often each field counts.
        """
        order = np.argsort(-np.concatenate(self.scores), kind="stable")
        times = np.repeat(weights, [len(scores) for scores in self.scores])[order]
        order, times = order[times > 0], times[times > 0]
        matched = np.concatenate(self.matched)[order]
        right = np.cumsum(matched * times[:, np.newaxis], axis=0)
        ranks = np.cumsum(times)[:, np.newaxis]
        # COCO adds np.spacing(1) to the denominator.
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

    As defined by COCO (https://cocodataset.org/#detection-eval): AP is the mean over the
    IoU thresholds 0.50, 0.55 … 0.95; AP50 and AP75 are for one threshold.

    Attributes:
      precision: (T, R, K) float64 by IoU threshold, recall and type; -1 where a type
        has no true cells.
    """

    precision: np.ndarray

    def mean(self) -> dict[str, float | None]:
        """Returns the means of AP, AP50 and AP75 over the types with true cells."""
        return self._averages(self.precision)

    def of_type(self, type_id: int) -> dict[str, float | None]:
        """Returns AP, AP50 and AP75 of a type, 1..K; None if it has no true cells."""
        return self._averages(self.precision[:, :, type_id - 1])

    def _averages(self, precision: np.ndarray) -> dict[str, float | None]:
        return {
            "AP": _average(precision),
            "AP50": _average(precision[np.isclose(IOU_THRESHOLDS, 0.5)]),
            "AP75": _average(precision[np.isclose(IOU_THRESHOLDS, 0.75)]),
        }


def _match(ious: sparse.csc_array, wanted: np.ndarray) -> np.ndarray:
    """Matches each detection, in order, with the best true cell that is still free.

    Args:
      ious: (N, D) sparse array in column format, detections in the order of their scores.
      wanted: (N,) bool, the true cells of the detections' type.

    Returns:
      (D, T) bool, whether a detection was matched at each IoU threshold.
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
        # Of equal IoUs the last one is taken, as in COCO.
        for iou, i in reversed(candidates):
            wins = (iou >= IOU_THRESHOLDS) & ~taken[i] & ~matched[j]
            matched[j] |= wins
            taken[i] |= wins
    return matched


def _average(precision: np.ndarray) -> float | None:
    precision = precision[precision > -1]
    # Rounded, since with COCO's denominator a perfect score is slightly less than 1.
    return round(float(precision.mean()), 6) if precision.size else None
