"""Scores whole fields during training, by the same code as `cellclass evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from cellclass_tf.drawing import overlay
from cellclass_tf.labels import matching, tiling
from cellclass_tf.labels.coco_ap import AveragePrecision
from cellclass_tf.maskrcnn import postprocessing, tiles, views
from cellclass_tf.maskrcnn.config import CellMaskRCNNTask
from cellclass_tf.maskrcnn.input import reading

_PICTURES = 3


class FieldScores:
    """Stitches tiles to fields, in the order in which `tiles` cuts them, and scores them.

    Only sums are kept of a finished field, and pictures of the first few fields.

    Attributes:
      pictures: pictures of the first fields, with truth and prediction.
    """

    def __init__(self, task: CellMaskRCNNTask) -> None:
        self._task = task
        self._fields = enumerate(iter(reading.fields_of(task.validation_data)))
        self._number = -1
        self._parts: list[postprocessing.Detections] = []
        self._typed = AveragePrecision(len(task.type_names))
        self._untyped = AveragePrecision(1)
        self._matched, self._right = 0, 0
        self.pictures: list[np.ndarray] = []

    def add(self, outputs: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Adds one batch of tiles.

        Args:
          outputs: the network's outputs, and `tile` of `tiles.build_dataset`; each is a
            list with one array (B, …) per replica.
        """
        whole = {
            k: np.concatenate(list(map(np.asarray, v))) for k, v in outputs.items()
        }
        for i, (number, top, left, *core) in enumerate(whole["tile"].tolist()):
            if number != self._number:
                self._finish_field()
                self._number = number
            if number < 0:
                continue
            count = whole["num_detections"][i]
            one = {k: v[i][:count] for k, v in whole.items() if v[i].ndim}
            tile = tiling.Tile((int(top), int(left)), tuple(core))
            self._parts.append(
                postprocessing.keep_owned(one, tile, postprocessing.SCORE_THRESHOLD)
            )

    def result(self) -> dict[str, float]:
        """Returns AP, AP50, AP75, AP_cells, AP50_cells and type_accuracy.

        Scores that are undefined, because no cell is true or matched, are 0.
        """
        self._finish_field()
        cells = {f"{k}_cells": v for k, v in self._untyped.scores().mean().items()}
        scores = self._typed.scores().mean() | cells
        scores["type_accuracy"] = self._right / max(self._matched, 1)
        return {key: value or 0.0 for key, value in scores.items()}

    def _finish_field(self) -> None:
        if not self._parts:
            return
        number, example = next(self._fields)
        while number < self._number:
            number, example = next(self._fields)
        field = reading.field_of(example, self._task.type_names)
        true = field.cells
        scaled = tiles.scaled_shape(self._task, example).numpy()
        found = postprocessing.cells_from_detections(
            views.upright(
                postprocessing.joined(self._parts), 0, scaled, true.labels.shape
            ),
            true.labels.shape,
            true.type_names,
        )
        self._parts = []
        self._typed.add(true, found, use_types=True)
        self._untyped.add(true, found, use_types=False)
        i, j = (matching.match_cells(true.labels, found.labels).pairs - 1).T
        self._matched += len(i)
        self._right += int((true.type_ids[i] == found.type_ids[j]).sum())
        if len(self.pictures) < _PICTURES:
            drawn = overlay.comparison(field.image, true, found, name=field.name)
            self.pictures.append(drawn)


def write_pictures(pictures: Sequence[np.ndarray]) -> None:
    """Writes pictures, which may differ in size, for TensorBoard."""
    for number, drawn in enumerate(pictures, start=1):
        tf.summary.image(f"validation_field_{number}", drawn[np.newaxis])
