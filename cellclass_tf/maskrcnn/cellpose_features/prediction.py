"""Classifies the cells of a field by cellpose's features, with an exported model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cellclass_tf.maskrcnn.cellpose_features import pooling


@dataclasses.dataclass(frozen=True)
class FeatureClassifier:
    """An exported encoder of cellpose, and a classifier of its features.

    Attributes:
      encode: signature that computes features; see `export.export`.
      name_features: signature that classifies the features of cells.
      scale: pixels of the encoder's input per pixel of the training images.
      grayscale: whether to leave out the nuclei channel.
    """

    encode: Callable[..., Mapping[str, Any]]
    name_features: Callable[..., Mapping[str, Any]]
    scale: float
    grayscale: bool = False

    def probabilities_of(
        self, image: np.ndarray, labels: np.ndarray, *, ratio: float, views: int
    ) -> np.ndarray:
        """Returns the probabilities of the types; see `Predictor.probabilities_by`.

        Every pixel is seen once, whatever the number of views.
        """
        features = pooling.features_of(
            self.encode,
            image,
            labels,
            scale=self.scale * ratio,
            grayscale=self.grayscale,
        )
        probabilities = self.name_features(features=features)["probabilities"].numpy()
        # A cell without a pixel at this scale cannot be seen.
        probabilities[~np.isfinite(features).all(axis=1)] = np.nan
        return probabilities
