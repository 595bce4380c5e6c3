"""The encoder of cellpose 3's U-net in TensorFlow, with the weights of a file of cellpose.

Stringer et al., "Cellpose: a generalist algorithm for cellular segmentation", Nature
Methods 2021, doi:10.1038/s41592-020-01018-x. The network has seen more kinds of cells than
any study has, and its features depend little on microscope and staining.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

# Number of levels; the resolution of each is half of that of the level before.
_LEVELS = 4
_EPSILON = 1e-5


class Encoder(tf.Module):
    """The part of the U-net that reduces the resolution.

    Args:
      tensors: see `core.encoder_weights.EncoderWeights`.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self._levels = [_Level(tensors, level) for level in range(_LEVELS)]

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 2], tf.float32, "planes")]
    )
    def encode(self, planes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the features of every level.

        Args:
          planes: (B, H, W, 2) float32, cytoplasm and nuclei; H and W are multiples of 8.
            The 1st and 99th percentile of a field are 0 and 1.

        Returns:
          `level_0`, (B, H, W, C) float32, to `level_3`, (B, H/8, W/8, C).
        """
        found, values = {}, planes
        for number, level in enumerate(self._levels):
            if number:
                values = tf.nn.max_pool2d(values, 2, 2, "VALID")
            values = level(values)
            found[f"level_{number}"] = values
        return found


class _Level(tf.Module):
    """Two residual blocks of two convolutions each."""

    def __init__(self, tensors: Mapping[str, np.ndarray], number: int) -> None:
        super().__init__()
        prefix = f"downsample.down.res_down_{number}"
        self._shortcut = _Convolution(tensors, f"{prefix}.proj", before="")
        self._convolutions = [
            _Convolution(tensors, f"{prefix}.conv.conv_{n}", before="relu")
            for n in range(4)
        ]

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        first, second, third, fourth = self._convolutions
        values = self._shortcut(values) + second(first(values))
        return values + fourth(third(values))


class _Convolution(tf.Module):
    """Batch normalisation, ReLU (if `before` is 'relu') and a convolution."""

    def __init__(
        self, tensors: Mapping[str, np.ndarray], prefix: str, before: str
    ) -> None:
        super().__init__()
        norm = {
            key: np.asarray(tensors[f"{prefix}.0.{key}"], np.float64)
            for key in ("weight", "bias", "running_mean", "running_var")
        }
        gain = norm["weight"] / np.sqrt(norm["running_var"] + _EPSILON)
        last = f"{prefix}.2" if before else f"{prefix}.1"
        kernel = np.asarray(tensors[f"{last}.weight"], np.float32)
        self._has_relu = bool(before)
        self._gain = _constant(gain)
        self._shift = _constant(norm["bias"] - norm["running_mean"] * gain)
        # PyTorch: outputs, inputs, rows, columns. TensorFlow: rows, columns, inputs, outputs.
        self._kernel = _constant(kernel.transpose(2, 3, 1, 0))
        self._bias = _constant(tensors[f"{last}.bias"])

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        values = values * self._gain + self._shift
        if self._has_relu:
            values = tf.nn.relu(values)
        return tf.nn.conv2d(values, self._kernel, 1, "SAME") + self._bias


def _constant(values: np.ndarray) -> tf.Variable:
    return tf.Variable(np.asarray(values, np.float32), trainable=False)
