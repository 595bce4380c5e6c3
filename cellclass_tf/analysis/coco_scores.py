"""COCO's mask average precision, for label images and any number of cells."""

from __future__ import annotations

import contextlib
import dataclasses
import io

import numpy as np

from cellclass_tf import run_lengths
from cellclass_tf.analysis.cell_table import called_probabilities
from cellclass_tf.cells import Cells


class Annotations:
    """True and predicted cells of many fields, as run lengths.

    A field's label images can be let go once they are added.
    """

    def __init__(self, types: int):
        self._types = types
        self._images: list[dict] = []
        self._true: list[dict] = []
        self._predicted: list[dict] = []
        self._largest = 1

    def add(self, true: Cells, predicted: Cells, *, use_types: bool) -> None:
        """Adds one field.

        Args:
          true: the annotated cells.
          predicted: a cell ranks by its score, times the probability of its type where
            types are used; cells of unknown type are then no detections.
          use_types: whether types count; otherwise all cells are of type 1.
        """
        height, width = true.labels.shape
        image = len(self._images) + 1
        self._images.append({"id": image, "height": height, "width": width})
        self._true += _annotations(true, image, use_types)
        found = _annotations(predicted, image, use_types)
        scores = predicted.scores.astype(np.float64)
        if use_types:
            scores = scores * called_probabilities(predicted)
        for annotation in found:
            annotation["score"] = float(scores[annotation.pop("index")])
        self._predicted += found
        self._largest = max(self._largest, len(found))

    def scores(self) -> Scores:
        """Runs COCO's evaluation, with no limit on the cells of a field."""
        from pycocotools import cocoeval

        # The evaluation reports to standard output, which belongs to the command.
        with contextlib.redirect_stdout(io.StringIO()):
            true, predicted = self._coco(self._true), self._coco(self._predicted)
            evaluation = cocoeval.COCOeval(true, predicted, "segm")
            # COCO's limit of 100 detections would drop cells of a dense field.
            evaluation.params.maxDets = [self._largest]
            # Sizes in pixels mean nothing here, and each range costs a pass.
            evaluation.params.areaRng = [[0, 1e10]]
            evaluation.params.areaRngLbl = ["all"]
            evaluation.evaluate()
            evaluation.accumulate()
        # summarize() gives -1 for limits other than its own; this is what it averages.
        precision = evaluation.eval["precision"][:, :, :, 0, 0]
        return Scores(precision, evaluation.params.iouThrs)

    def _coco(self, annotations: list[dict]):
        from pycocotools import coco

        # An id of 0 would be read as "no match".
        numbered = [{"id": i, **a} for i, a in enumerate(annotations, start=1)]
        categories = [{"id": i, "name": str(i)} for i in range(1, self._types + 1)]
        made = coco.COCO()
        made.dataset = {
            "images": self._images,
            "annotations": numbered,
            "categories": categories,
        }
        made.createIndex()
        return made


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Average precision: the area under the precision-recall curve.

    As defined by COCO (https://cocodataset.org/#detection-eval): AP over the IoU
    thresholds 0.50, 0.55 … 0.95, and at 0.50 and 0.75 alone.

    Attributes:
      precision: (T, R, K) float64 by IoU threshold, recall and type; -1 where a type
        has no true cells.
      iou_thresholds: (T,) float64.
    """

    precision: np.ndarray
    iou_thresholds: np.ndarray

    def mean(self) -> dict[str, float | None]:
        """Returns AP, AP50, AP75 over the types that have true cells."""
        return self._averages(self.precision)

    def of_type(self, type_id: int) -> dict[str, float | None]:
        """Returns AP, AP50, AP75 of type 1..K; None if it has no true cells."""
        return self._averages(self.precision[:, :, type_id - 1])

    def _averages(self, precision: np.ndarray) -> dict[str, float | None]:
        at_50 = np.isclose(self.iou_thresholds, 0.5)
        at_75 = np.isclose(self.iou_thresholds, 0.75)
        return {
            "AP": _average(precision),
            "AP50": _average(precision[at_50]),
            "AP75": _average(precision[at_75]),
        }


def _annotations(cells: Cells, image: int, use_types: bool) -> list[dict]:
    return [
        {
            "index": index,
            "image_id": image,
            "category_id": int(cells.type_ids[index]) if use_types else 1,
            "segmentation": run_lengths.encode_mask(
                cells.mask(index), cells.boxes_yxyx[index][:2], cells.labels.shape
            ),
            "area": int(cells.areas_px[index]),
            "iscrowd": 0,
        }
        for index in range(len(cells))
        if cells.type_ids[index] or not use_types
    ]


def _average(precision: np.ndarray) -> float | None:
    precision = precision[precision > -1]
    # COCO divides by a hair more than the count, so that a perfect score falls short.
    return round(float(precision.mean()), 6) if precision.size else None
