"""The interface of annotators, and the outlines that they return."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from cellclass_tf.core.encoder_weights import EncoderWeights
from cellclass_tf.errors import InputError


class Outlines(NamedTuple):
    """The cells that an annotator found in one image.

    Attributes:
      labels: (H, W) int32, 0 background and 1..N the cells.
      diameter_px: diameter of a typical cell that was used.
      probabilities: (N,) float32 in [0, 1], the mean over a cell's pixels of the
        probability of being in a cell; not a calibrated probability. None if the
        annotator has no probabilities.
    """

    labels: np.ndarray
    diameter_px: float
    probabilities: np.ndarray | None = None


class Annotator(Protocol):
    """A method that finds the cells in one image.

    Attributes:
      name: 'watershed', or 'cellpose:' and the model.
      fingerprint: hash of everything that the labels depend on, except for image and
        diameter.
      size_fingerprint: hash of everything that an estimate of the diameter depends on.
      weights_sha256: SHA-256 of the file of weights; '' if there is none.
      settings: the settings behind `fingerprint`, and the device, in words.
    """

    name: str
    fingerprint: str
    size_fingerprint: str
    weights_sha256: str
    settings: str

    def estimate_diameter_px(self, image: np.ndarray) -> float:
        """Estimates the diameter of a typical cell in a merged image."""

    def annotate(self, image: np.ndarray, diameter_px: float | None = None) -> Outlines:
        """Finds the cells in a merged image; estimates the diameter if it is None."""

    def encoder_weights(self) -> EncoderWeights | None:
        """Returns the weights of the network's encoder; None if no model can use it."""


def check_diameter(diameter_px: float | None) -> None:
    """Raises InputError unless the diameter is None or a number above 0."""
    if diameter_px is not None and not 0 < diameter_px < np.inf:
        raise InputError(
            f"Expected a cell diameter above 0 px, or none to estimate it; got "
            f"{diameter_px}."
        )
