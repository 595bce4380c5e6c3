"""Weights of the encoder of a cellpose network, passed from annotators to models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class EncoderWeights:
    """Weights of the encoder, as cellpose stores them.

    Attributes:
      tensors: arrays by their name in cellpose's file, such as
        'downsample.down.res_down_0.proj.1.weight'.
      diameter_px: diameter of a cell for which the network was trained.
      sha256: SHA-256 of the file.
    """

    tensors: Mapping[str, np.ndarray]
    diameter_px: float
    sha256: str
