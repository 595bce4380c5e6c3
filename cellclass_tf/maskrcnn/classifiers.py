"""The classifiers of an exported model that classify cells beside the detector."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from cellclass_tf.core.model_metadata import (
    BY_CELLPOSE,
    BY_NAMER,
    METADATA_FILE,
    ModelMetadata,
)
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn.cell_namer.prediction import Namer
from cellclass_tf.maskrcnn.cellpose_features.prediction import FeatureClassifier


class Classifier(Protocol):
    """What classifies cells in addition to the detector."""

    def probabilities_of(
        self, image: np.ndarray, labels: np.ndarray, *, ratio: float, views: int
    ) -> np.ndarray:
        """Returns the probabilities of the types; see `Predictor.probabilities_by`.

        A cell that the classifier cannot see has a row of NaN.

        Args:
          image: (H, W, 3) uint8 merged image.
          labels: (H, W) label image of at least one cell; the cells are numbered from 1.
          ratio: pixel size of the image over that of the training images.
          views: number of orientations over which probabilities may be averaged.
        """


def of_model(
    path: pathlib.Path, signatures: Mapping[str, Any], metadata: ModelMetadata
) -> dict[str, Classifier]:
    """Returns the classifiers that an exported model has beside the detector.

    Args:
      path: folder of the model, for messages.
      signatures: signatures of its SavedModel by name; see `export.export`.
      metadata: content of its cellclass.json.

    Raises:
      InputError: if the SavedModel lacks a signature of a classifier in the metadata.
    """

    def of_network(name: str) -> Any:
        if name not in signatures:
            raise InputError(
                f"{path}: according to {METADATA_FILE} the model has a signature {name}, "
                "but the network has none. The files are not from the same export. Export "
                "the model again."
            )
        return signatures[name]

    found: dict[str, Classifier] = {}
    if metadata.namer is not None:
        found[BY_NAMER] = Namer(
            of_network("name_crops"), metadata.namer.scale, metadata.grayscale
        )
    if metadata.cellpose_features is not None:
        found[BY_CELLPOSE] = FeatureClassifier(
            of_network("encode"),
            of_network("name_features"),
            metadata.cellpose_features.scale,
            metadata.grayscale,
        )
    return found
