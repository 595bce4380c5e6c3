"""The trained network as it is served: the same cells, in a fraction of the time.

Accelerators want shapes that stand still, so Model Garden fills proposals and cells up to
the most that there may be, and writes suppression and cropping as operations that a TPU
has. On a processor most of the time would go there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from cellclass_tf.maskrcnn import network

# Boxes that are cropped at once.
_PART = 256


def for_serving(model: network.CellMaskRCNN) -> None:
    """Lets a trained network work on the proposals and cells that there are, in place.

    Suppression of proposals and cropping of features become TensorFlow's own kernels,
    for processors and GPUs. The weights stay as they are.
    """
    model.leaves_out_padding = True
    model.roi_generator = _RealProposals(model.roi_generator)
    model.roi_aligner = _CroppingAligner(model.roi_aligner)
    model.mask_roi_aligner = _CroppingAligner(model.mask_roi_aligner)
    model.detection_head = [_AnyNumber(head) for head in model.detection_head]
    model.mask_head = _AnyNumber(model.mask_head)


class _RealProposals(tf_keras.layers.Layer):
    """Model Garden's proposals without the empty ones that come last."""

    def __init__(self, generator: tf_keras.layers.Layer) -> None:
        super().__init__()
        options = generator.get_config()
        # This kernel looks at all boxes; a level needs to give no more than all levels.
        most = options["test_num_proposals"]
        fast = {"use_batched_nms": True, "test_pre_nms_top_k": most}
        self._generator = type(generator)(**options | fast)

    def call(self, *args: Any) -> Any:
        boxes, scores = self._generator(*args)
        counts = tf.math.count_nonzero(scores > 0, axis=1, dtype=tf.int32)
        most = tf.maximum(tf.reduce_max(counts), 1)
        return boxes[:, :most], scores[:, :most]


class _CroppingAligner(tf_keras.layers.Layer):
    """Model Garden's `MultilevelROIAligner`, by `tf.image.crop_and_resize`.

    Each box is read at the middles of crop x crop bins on the level that goes with its
    size (Lin et al. 2017, arXiv:1612.03144, eq. 1).
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
        """Cuts (B, R, crop, crop, C) out of (B, h, w, C) a level at (B, R, 4) boxes."""
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
        # In parts, since TensorFlow warns of boxes whose number it cannot tell ahead.
        crops = tf.map_fn(
            lambda part: tf.image.crop_and_resize(sheet, *part, shape),
            (_in_parts(points / last), _in_parts(field)),
            fn_output_signature=tf.float32,
        )
        crops = tf.reshape(crops, [-1, *shape, sheet.shape[-1]])[: tf.size(field)]
        crops = tf.reshape(crops, [*tf.unstack(count), *shape, sheet.shape[-1]])
        return tf.cast(crops, features[str(levels[0])].dtype)


def _side_by_side(features: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[int]]:
    """Puts levels on one sheet, where each goes on for a pixel as it ends.

    Returns:
      (B, h, w, C) float32, and the column where each level begins.
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
    """Cuts (N, ...) into (P, _PART, ...), the last filled up with zeros."""
    missing = -tf.shape(values)[0] % _PART
    padding = tf.concat([[[0, missing]], tf.zeros([values.ndim - 1, 2], tf.int32)], 0)
    return tf.reshape(tf.pad(values, padding), [-1, _PART, *values.shape[1:]])


def _level_of(boxes: tf.Tensor, lowest: int, highest: int) -> tf.Tensor:
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    size = tf.sqrt(height * width) / 224.0
    level = tf.math.floordiv(tf.math.log(size), tf.math.log(2.0)) + 4.0
    return tf.cast(tf.clip_by_value(level, lowest, highest), tf.int32)


class _AnyNumber(tf_keras.layers.Layer):
    """A head for (B, R, ...) regions, of which R need not be known in advance."""

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
