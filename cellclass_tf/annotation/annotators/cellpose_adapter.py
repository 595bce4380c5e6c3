"""The interface to cellpose for all major versions, and the adapter of the installed one."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from cellclass_tf.annotation.annotators import cellpose_library
from cellclass_tf.annotation.annotators.cellpose_library import TrainingRun
from cellclass_tf.annotation.annotators.cellpose_v3 import Cellpose3
from cellclass_tf.annotation.annotators.cellpose_v4 import Cellpose4


class Adapter(Protocol):
    """An adapter to a major version of cellpose. It has no state, and can be pickled.

    Limits are the grey values that become 0 and 1, for cytoplasm and nuclei, with None
    for a channel without contrast; if limits are None, cellpose computes them. Options
    are `batch_size`, `flow_threshold` and `cellprob_threshold`.

    Attributes:
      knows_bfloat16: whether the network can compute in bfloat16.
      learning_rate: default learning rate of fine-tuning.
      batch_size: batch size of fine-tuning.
      measures_diameters: whether the diameter is estimated by segmenting the image, so
        that it depends on the thresholds.
    """

    knows_bfloat16: bool
    learning_rate: float
    batch_size: int
    measures_diameters: bool

    def known_models(self) -> list[str]:
        """Returns the sorted names of models."""

    def find_weights(self, model: str) -> pathlib.Path:
        """Returns the file of weights of a named model or a path, after checking it."""

    def find_size_model(self, model: str) -> pathlib.Path | None:
        """Returns the file of the size model of weights, if there is one."""

    def origin_of_diameters(self, size_path: pathlib.Path | None) -> str:
        """Says in words how the diameter is found if it is not given."""

    def load(
        self, weights: pathlib.Path, name: str | None, device: str, bfloat16: bool
    ) -> Any:
        """Returns the `CellposeModel` of weights; `name` is that of a named model."""

    def scale_px(self, model: Any) -> float:
        """Returns the diameter to which cells are rescaled for the network."""

    def encoder_tensors(self, weights: pathlib.Path) -> dict[str, np.ndarray] | None:
        """Returns the tensors of the encoder of weights; None if it is no U-net."""

    def estimate_diameter_px(
        self,
        model: Any,
        size: dict[str, Any] | None,
        parts: Sequence[np.ndarray],
        limits: Sequence[tuple[float, float] | None] | None,
        **options: Any,
    ) -> float:
        """Estimates the diameter of a typical cell in parts of a merged image."""

    def segment(
        self,
        model: Any,
        image: np.ndarray,
        limits: Sequence[tuple[float, float] | None] | None,
        *,
        diameter_px: float,
        **options: Any,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds cells in a merged image.

        Returns:
          (H, W) labels of an integer type, and (H, W) float32 logits of being a cell.
        """

    def planes_of(self, image: np.ndarray) -> np.ndarray:
        """Returns the planes of a merged image to train on, (C, H, W) float32."""

    def train(self, network: Any, run: TrainingRun) -> None:
        """Trains `CellposeModel.net` in place, with cellpose's own `train_seg`."""


def installed() -> Adapter:
    """Returns the adapter of the installed version.

    Raises:
      InputError: if cellpose is not installed, or its version is not supported.
    """
    major = int(cellpose_library.installed_version().split(".")[0])
    return Cellpose3() if major == 3 else Cellpose4()
