"""Changes a trained network for prediction: the same results in a fraction of the time.

Accelerators need static shapes. Therefore Model Garden pads proposals and detections to
their maximum numbers, and implements suppression and cropping with operations that TPUs
have. On a CPU, these would take most of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from cellclass_tf.maskrcnn import network

# Number of boxes that are cropped at once.
_PART = 256


def for_serving(model: network.CellMaskRCNN) -> None:
    """Changes a trained network in place so that it does not compute padding.

    Suppression of proposals and cropping of features use TensorFlow's own kernels for CPUs
    and GPUs. The weights are not changed.
    """
    model.leaves_out_padding = True
    model.roi_generator = _RealProposals(model.roi_generator)
    model.roi_aligner = _CroppingAligner(model.roi_aligner)
    model.mask_roi_aligner = _CroppingAligner(model.mask_roi_aligner)
    model.detection_head = [_AnyNumber(head) for head in model.detection_head]
    model.mask_head = _AnyNumber(model.mask_head)


class _RealProposals(tf_keras.layers.Layer):
    """Model Garden's proposals, without padding."""

    def __init__(self, generator: tf_keras.layers.Layer) -> None:
        super().__init__()
        options = generator.get_config()
        # This kernel considers all boxes, so a level need not return more than all levels do.
        most = options["test_num_proposals"]
        fast = {"use_batched_nms": True, "test_pre_nms_top_k": most}
        self._generator = type(generator)(**options | fast)

    def call(self, *args: Any) -> Any:
        boxes, scores = self._generator(*args)
        counts = tf.math.count_nonzero(scores > 0, axis=1, dtype=tf.int32)
        most = tf.maximum(tf.reduce_max(counts), 1)
        return boxes[:, :most], scores[:, :most]


class _CroppingAligner(tf_keras.layers.Layer):
    """Model Garden's `MultilevelROIAligner`, implemented by `tf.image.crop_and_resize`.

    Each box is sampled at the centres of crop x crop bins, on the level for its size (Lin
    et al. 2017, arXiv:1612.03144, eq. 1).
    """

    def __init__(self, aligner: tf_keras.layers.Layer) -> None:
        super().__init__()
        options = aligner.get_config()
        self._crop_size = options["crop_size"]
        self._offset = options["sample_offset"]

    def call(
        self,
        features: Mapping[str, tf.Tensor],
        boxes: tf.Tensor,
        training: bool | None = None,
    ) -> Any:
        """Crops (B, R, 4) boxes from {level: (B, h, w, C)}; returns (B, R, crop, crop, C)."""
        levels = sorted(int(level) for level in features)
        sheet, columns = _side_by_side([features[str(level)] for level in levels])
        count = tf.shape(boxes)[:2]
        field = tf.repeat(tf.range(count[0]), count[1])
        boxes = tf.reshape(boxes, [-1, 4])
        level = _level_of(boxes, levels[0], levels[-1])
        boxes /= tf.pow(2.0, tf.cast(level, tf.float32))[:, tf.newaxis]
        size = (boxes[:, 2:] - boxes[:, :2]) / self._crop_size
        first = boxes[:, :2] + size * self._offset
        column = tf.gather(tf.constant(columns, tf.float32), level - levels[0])
        first += tf.stack([tf.zeros_like(column), column], axis=1)
        points = tf.concat([first, first + size * (self._crop_size - 1)], axis=1)
        last = [sheet.shape[1] - 1.0, sheet.shape[2] - 1.0] * 2
        shape = [self._crop_size] * 2
        # In parts of static size, because TensorFlow warns about a dynamic number of boxes.
        crops = tf.map_fn(
            lambda part: tf.image.crop_and_resize(sheet, *part, shape),
            (_in_parts(points / last), _in_parts(field)),
            fn_output_signature=tf.float32,
        )
        crops = tf.reshape(crops, [-1, *shape, sheet.shape[-1]])[: tf.size(field)]
        crops = tf.reshape(crops, [*tf.unstack(count), *shape, sheet.shape[-1]])
        return tf.cast(crops, features[str(levels[0])].dtype)


def _side_by_side(features: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[int]]:
    """Concatenates levels horizontally, each with its last row and column repeated.

    Returns:
      (B, h, w, C) float32, and the first column of each level.
    """
    height = features[0].shape[1] + 1
    parts, columns = [], [0]
    for level in features:
        part = tf.pad(level, [(0, 0), (0, 1), (0, 1), (0, 0)], "SYMMETRIC")
        missing = height - part.shape[1]
        parts.append(tf.pad(part, [(0, 0), (0, missing), (0, 0), (0, 0)]))
        columns.append(columns[-1] + part.shape[2])
    return tf.cast(tf.concat(parts, axis=2), tf.float32), columns[:-1]


def _in_parts(values: tf.Tensor) -> tf.Tensor:
    """Reshapes (N, ...) to (P, _PART, ...), padded with zeros."""
    missing = -tf.shape(values)[0] % _PART
    padding = tf.concat([[[0, missing]], tf.zeros([values.ndim - 1, 2], tf.int32)], 0)
    return tf.reshape(tf.pad(values, padding), [-1, _PART, *values.shape[1:]])


def _level_of(boxes: tf.Tensor, lowest: int, highest: int) -> tf.Tensor:
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    size = tf.sqrt(height * width) / 224.0
    level = tf.math.floordiv(tf.math.log(size), tf.math.log(2.0)) + 4.0
    return tf.cast(tf.clip_by_value(level, lowest, highest), tf.int32)


class _AnyNumber(tf_keras.layers.Layer):
    """A head for (B, R, ...) regions with a dynamic number R."""

    def __init__(self, head: tf_keras.layers.Layer) -> None:
        super().__init__()
        self._head = head

    def call(self, inputs: Any) -> Any:
        shape = tf.shape(tf.nest.flatten(inputs)[0])[:2]
        outputs = self._head(
            tf.nest.map_structure(
                lambda x: tf.reshape(x, tf.concat([[-1, 1], tf.shape(x)[2:]], 0)),
                inputs,
            )
        )
        return tf.nest.map_structure(
            lambda x: tf.reshape(x, tf.concat([shape, tf.shape(x)[2:]], 0)), outputs
        )
