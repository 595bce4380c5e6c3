"""Cuts whole fields into tiles, for evaluation during training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from cellclass_tf.labels import tiling
from cellclass_tf.maskrcnn.config import CellMaskRCNNTask, DataConfig
from cellclass_tf.maskrcnn.input import crops, network_input, pipeline, reading


def build_dataset(
    task: CellMaskRCNNTask,
    data: DataConfig,
    input_context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Cuts every field into overlapping tiles, as `Predictor` does.

    Every worker gets all fields, in the order of `reading.fields_of`. Empty tiles are added
    so that every replica gets a full last batch; otherwise TensorFlow would skip the step.

    Args:
      task: parameters of the network's input.
      data: says which dataset is read, and how large batches are.
      input_context: TensorFlow's description of one of several input pipelines; None if
        there is only one.

    Returns:
      A dataset of (images, labels): normalised images (B, S, S, 3) float32; and labels
      `image_info`, `anchor_boxes` and `tile`, (B, 7) float32: the number of the field (-1
      for an empty tile), the tile's first row and column, and its core; see `tiling.Tile`.
    """
    batch = pipeline.batch_size(data, input_context)
    replicas = _replicas(input_context)
    size = task.model.input_size[0]
    margin = tiling.margin_for(task.model_diameter_px, size)

    def tiles(shape: np.ndarray) -> np.ndarray:
        height, width = shape
        found = tiling.tiles_of((height, width), size, margin)
        places = [(*tile.corner_yx, *tile.core_yxyx) for tile in found]
        return np.array(places, np.float32)

    def of_field(number: tf.Tensor, field: Mapping[str, Any]) -> tf.data.Dataset:
        shape = scaled_shape(task, field)
        image = tf.image.resize(reading.decode(field)[0], shape, antialias=True)
        image = tf.pad(image, [[0, size], [0, size], [0, 0]])
        places = tf.ensure_shape(
            tf.numpy_function(tiles, [shape], tf.float32), [None, 6]
        )
        number = tf.fill([tf.shape(places)[0], 1], tf.cast(number, tf.float32))
        places = tf.concat([number, places], axis=1)
        return tf.data.Dataset.from_tensor_slices(places).map(
            lambda place: (_tile_of(image, place, size), place)
        )

    tiles_of_fields = reading.fields_of(data).enumerate().flat_map(of_field)
    nothing = tf.data.Dataset.from_tensors((tf.zeros([size, size, 3]), -tf.ones([7])))
    anchors = network_input.build_anchors(task.model, size)
    fixed = {"image_info": network_input.image_info(size), "anchor_boxes": anchors}
    return (
        tiles_of_fields.concatenate(nothing.repeat(batch * replicas - 1))
        .map(
            lambda image, place: (
                network_input.normalise(image, grayscale=task.grayscale),
                fixed | {"tile": place},
            )
        )
        .batch(batch, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def scaled_shape(task: CellMaskRCNNTask, field: Mapping[str, Any]) -> tf.Tensor:
    """Returns height and width of a field at the network's scale, (2,) int32."""
    shape = tf.cast(tf.shape(reading.decode(field)[1]), tf.float32)
    return tf.cast(
        tf.maximum(tf.round(shape * crops.scale_of(task, field)), 1), tf.int32
    )


def _replicas(input_context: tf.distribute.InputContext | None) -> int:
    """Returns the number of replicas that this worker's batches are distributed to."""
    if input_context is None:
        return 1
    return input_context.num_replicas_in_sync // input_context.num_input_pipelines


def _tile_of(image: tf.Tensor, place: tf.Tensor, size: int) -> tf.Tensor:
    corner = tf.cast(place[1:3], tf.int32)
    tile = image[corner[0] : corner[0] + size, corner[1] : corner[1] + size]
    return tf.ensure_shape(tile, [size, size, 3])
