"""Geometry of training crops: position, scale and orientation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from cellclass_tf.maskrcnn.config import CellMaskRCNNTask


def scale_of(task: CellMaskRCNNTask, field: Mapping[str, Any]) -> tf.Tensor:
    """Returns the number of network pixels per pixel of a field, () float32."""
    if not task.pixel_size_um:
        return tf.constant(task.scale)
    known = tf.cast(field["pixel_size_um"], tf.float32)
    return task.scale * tf.where(known > 0, known / task.pixel_size_um, 1.0)


def random_crop(
    image: tf.Tensor,
    labels: tf.Tensor,
    *,
    size: float | tf.Tensor,
    scale_range: tuple[float, float],
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts a square out of a field at a random position and scale.

    Args:
      image: (H, W, 3) uint8.
      labels: (H, W) label image of any integer type.
      size: width of the square in pixels at scale 1.
      scale_range: (low, high); at scale 2 the square is half as wide, so that cells
        appear twice as large.
      seed: (2,) int64 seed for stateless random numbers.

    Returns:
      The image (s, s, 3) uint8 and the labels (s, s) int32, padded with 0 if the field is
      smaller.
    """
    draws = tf.random.stateless_uniform([3], seed)
    low, high = (tf.math.log(tf.cast(limit, tf.float32)) for limit in scale_range)
    scale = tf.exp(low + draws[0] * (high - low))
    width = tf.cast(tf.round(size / scale), tf.int32)
    image, labels = _pad_to(image, width), _pad_to(labels[..., tf.newaxis], width)
    free = tf.cast(tf.shape(image)[:2] - width + 1, tf.float32)
    corner = tf.cast(draws[1:] * free, tf.int32)
    return _cut(image, corner, width), _numbers(_cut(labels, corner, width))


def random_turn(
    image: tf.Tensor, labels: tf.Tensor, *, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Rotates and mirrors a square to a random one of its eight orientations."""
    draws = tf.random.stateless_uniform([3], seed + 1) < 0.5
    turns = (
        lambda x: tf.transpose(x, [1, 0, *range(2, len(x.shape))]),
        lambda x: tf.reverse(x, [0]),
        lambda x: tf.reverse(x, [1]),
    )
    for draw, turn in zip(tf.unstack(draws), turns, strict=True):
        image, labels = _if(draw, turn, image), _if(draw, turn, labels)
    return image, labels


def resize_crop(
    image: tf.Tensor, labels: tf.Tensor, cells: dict[str, tf.Tensor], width: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
    """Resizes a crop of another pixel size to `width`, and scales the areas of its cells."""
    own = tf.shape(labels)[0]
    share = tf.cast(width, tf.float64) / tf.cast(own, tf.float64)

    def resized() -> tuple[tf.Tensor, tf.Tensor, dict[str, tf.Tensor]]:
        areas = tf.cast(cells["area_px"], tf.float64) * share**2
        smooth = tf.image.resize(image, [width, width], antialias=True)
        nearest = tf.image.resize(labels[..., tf.newaxis], [width, width], "nearest")
        return (
            tf.cast(tf.round(smooth), tf.uint8),
            nearest[..., 0],
            cells | {"area_px": tf.cast(areas, tf.int64)},
        )

    return tf.cond(tf.equal(own, width), lambda: (image, labels, cells), resized)


def _if(
    condition: tf.Tensor, function: Callable[[tf.Tensor], tf.Tensor], value: tf.Tensor
) -> tf.Tensor:
    return tf.cond(condition, lambda: function(value), lambda: value)


def _pad_to(image: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    missing = tf.maximum(width - tf.shape(image)[:2], 0)
    before = missing // 2
    paddings = tf.stack([before, missing - before], axis=1)
    padded = tf.pad(image, tf.concat([paddings, [[0, 0]]], axis=0))
    return tf.ensure_shape(padded, [None, None, image.shape[-1]])


def _numbers(labels: tf.Tensor) -> tf.Tensor:
    return tf.cast(labels[..., 0], tf.int32)


def _cut(image: tf.Tensor, corner: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    top, left = corner[0], corner[1]
    return image[top : top + width, left : left + width]
