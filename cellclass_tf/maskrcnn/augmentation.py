"""Random crops, turns and intensities of a field and its label image."""

from __future__ import annotations

import tensorflow as tf


def random_crop(image, labels, *, size: float, scale_range, seed):
    """Cuts a random square out of a field, at a random scale.

    Args:
      image: (H, W, 3) uint8.
      labels: (H, W) int32.
      size: the square's width in pixels at scale 1.
      scale_range: (low, high); at scale 2 the square is half as wide, so that cells
        appear twice as large.
      seed: (2,) int64 for stateless random numbers.

    Returns:
      image (s, s, 3) uint8 and labels (s, s) int32; beyond a small field they are 0.
    """
    draws = tf.random.stateless_uniform([3], seed)
    low, high = (tf.math.log(tf.cast(limit, tf.float32)) for limit in scale_range)
    scale = tf.exp(low + draws[0] * (high - low))
    width = tf.cast(tf.round(size / scale), tf.int32)
    image, labels = _pad_to(image, width), _pad_to(labels[..., tf.newaxis], width)
    free = tf.cast(tf.shape(image)[:2] - width + 1, tf.float32)
    corner = tf.cast(draws[1:] * free, tf.int32)
    return _cut(image, corner, width), _cut(labels, corner, width)[..., 0]


def central_crop(image, labels, *, size: float):
    """Cuts the middle square out of a field; arguments as in `random_crop`."""
    width = tf.cast(round(size), tf.int32)
    image, labels = _pad_to(image, width), _pad_to(labels[..., tf.newaxis], width)
    corner = (tf.shape(image)[:2] - width) // 2
    return _cut(image, corner, width), _cut(labels, corner, width)[..., 0]


def random_turn(image, labels, *, seed):
    """Turns and flips a square to one of its eight positions."""
    draw = tf.random.stateless_uniform([2], seed + 1, maxval=4, dtype=tf.int32)
    both = tf.concat([tf.cast(image, tf.int32), labels[..., tf.newaxis]], axis=-1)
    both = tf.image.rot90(both, draw[0])
    both = tf.cond(draw[1] % 2 == 0, lambda: both, lambda: both[:, ::-1])
    return tf.cast(both[..., :3], tf.uint8), both[..., 3]


def random_intensity(image, *, gain: float, gamma: float, noise: float, seed):
    """Changes each channel's gain and gamma, and adds noise.

    Args:
      image: (H, W, 3) float32 in [0, 255].
      gain: each channel is multiplied by exp(u), u uniform in ±gain.
      gamma: and raised to the power exp(u), u uniform in ±gamma.
      noise: standard deviation of normal noise, as a share of 255.
      seed: (2,) int64.

    Returns:
      (H, W, 3) float32 in [0, 255].
    """
    draws = tf.random.stateless_uniform([2, 3], seed + 2, -1.0, 1.0)
    values = tf.pow(tf.maximum(image / 255.0, 1e-6), tf.exp(draws[0] * gamma))
    values = values * tf.exp(draws[1] * gain)
    values += tf.random.stateless_normal(tf.shape(image), seed + 3) * noise
    return tf.clip_by_value(values, 0.0, 1.0) * 255.0


def _pad_to(image, width):
    missing = tf.maximum(width - tf.shape(image)[:2], 0)
    before = missing // 2
    paddings = tf.stack([before, missing - before], axis=1)
    padded = tf.pad(image, tf.concat([paddings, [[0, 0]]], axis=0))
    return tf.ensure_shape(padded, [None, None, image.shape[-1]])


def _cut(image, corner, width):
    top, left = corner[0], corner[1]
    return image[top : top + width, left : left + width]
