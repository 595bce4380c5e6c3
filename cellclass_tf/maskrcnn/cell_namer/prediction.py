"""Classifies the cells of a field with an exported namer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cellclass_tf.maskrcnn import postprocessing
from cellclass_tf.maskrcnn.cell_namer import crops
from cellclass_tf.maskrcnn.views import turned


@dataclasses.dataclass(frozen=True)
class Namer:
    """An exported namer.

    Attributes:
      name_crops: signature that classifies crops; see `export.export`.
      scale: pixels of a crop per pixel of the training images.
      grayscale: whether to leave out the nuclei channel.
    """

    name_crops: Callable[..., Mapping[str, Any]]
    scale: float
    grayscale: bool = False

    def probabilities_of(
        self, image: np.ndarray, labels: np.ndarray, *, ratio: float, views: int
    ) -> np.ndarray:
        """Returns the probabilities of the types; see `Predictor.probabilities_by`."""
        cut = crops.crops_of(
            image, labels, zoom=self.scale * ratio, grayscale=self.grayscale
        )
        parts = []
        for first in range(0, len(cut), crops.CROPS_A_CALL):
            part = np.moveaxis(cut[first : first + crops.CROPS_A_CALL], 0, 2)
            logs = []
            for view in range(views):
                seen = np.moveaxis(turned(part, view), 2, 0)
                found = self.name_crops(crops=np.ascontiguousarray(seen))
                logs.append(postprocessing.log_of(found["probabilities"].numpy()))
            parts.append(postprocessing.softmax(np.mean(logs, axis=0)))
        return np.concatenate(parts)
