"""Augmentation of crops: cells of another field, random intensity and random blur."""

from __future__ import annotations

import math

import tensorflow as tf

# Masks are dilated and blurred at this reduction (pixels per block and axis), for speed.
_BLOCK = 4
# The background is measured on every eighth row and column.
_BACKGROUND_STEP = 8
# A cell is pasted only if at most this fraction of it would cover existing cells.
MOST_OVERLAP = 0.2
# A cell of which a smaller fraction is visible is not a target.
MIN_VISIBLE_SHARE = 0.3


def copy_paste(
    image: tf.Tensor,
    labels: tf.Tensor,
    other_image: tf.Tensor,
    other_labels: tf.Tensor,
    *,
    most_overlap: float,
    diameter_px: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pastes the cells of one field into another, to imitate a mixed culture.

    A network trained only on pure dishes learns to classify a cell by its neighbours, which
    fails in mixed cultures. A pasted cell replaces the pixels below it. The light around it
    (halo, processes) is added to the background in proportion to how many of the nearby
    cells are pasted. Only light above the background of the other field is added, so that
    its noise is not. Cells that would cover too much of existing cells are not pasted, and
    neither is the light around them.

    Args:
      image: (H, W, 3) uint8.
      labels: (H, W) int32.
      other_image: (H, W, 3) uint8, the field whose cells are pasted.
      other_labels: (H, W) int32, its labels.
      most_overlap: largest fraction of a pasted cell that may cover existing cells.
      diameter_px: diameter of a typical cell; its processes are taken to reach no farther.

    Returns:
      The composed image, (H, W, 3) uint8, and the labels of the pasted cells in it, (H, W)
      int32, 0 elsewhere. Where they are 0, `labels` is still valid.
    """
    count = tf.reduce_max(other_labels) + 1
    flat = tf.reshape(other_labels, [-1])
    covers = tf.reshape(tf.cast(labels > 0, tf.float32), [-1])
    covered = tf.math.unsorted_segment_sum(covers, flat, count)
    whole = tf.math.unsorted_segment_sum(tf.ones_like(covers), flat, count)
    moves = (covered <= most_overlap * whole) & (tf.range(count) > 0)
    moved = tf.gather(moves, other_labels)
    stays = (other_labels > 0) & ~moved
    near, far = _around(tf.stack([moved, stays], axis=-1), diameter_px)
    share = near / (near + far + 1e-3)
    free = ~(_widen(stays, max(1, round(diameter_px / 8))) | (labels > 0))
    share = tf.where(free, share, 0.0)[..., tf.newaxis]
    background = _background(other_image, other_labels)
    light = other_image - tf.minimum(other_image, background)
    light = tf.cast(share * tf.cast(light, tf.float32), tf.uint8)
    # Without the limit, 8-bit sums above 255 would wrap around.
    composed = image + tf.minimum(light, 255 - image)
    composed = tf.where(moved[..., tf.newaxis], other_image, composed)
    return composed, tf.where(moved, other_labels, 0)


def _background(image: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns the upper limit of the background between the cells, (3,) uint8."""
    step = _BACKGROUND_STEP
    # The black padding around a small field is darker than its background; leave it out.
    shines = tf.reduce_any(image > 0, axis=-1)
    rows, columns = (tf.reduce_any(shines, axis=a, keepdims=True) for a in (1, 0))
    between = ((labels == 0) & rows & columns)[::step, ::step]
    values = tf.boolean_mask(image[::step, ::step], between)
    values = tf.sort(tf.cast(values, tf.int32), axis=0)
    count = tf.shape(values)[0]

    def limit() -> tf.Tensor:
        middle = values[count // 2]
        # Values above the median include halos and debris; those below are only noise.
        low = values[count // 6]
        return middle + 2 * (middle - low)

    found = tf.cond(count > 0, limit, lambda: tf.fill([3], 255))
    return tf.cast(tf.minimum(found, 255), tf.uint8)


def _around(masks: tf.Tensor, diameter_px: float) -> list[tf.Tensor]:
    """Returns the local density of (H, W, 2) masks within a diameter, two (H, W) float32."""
    blocks = tf.reduce_mean(_blocks(tf.cast(masks, tf.float32)), axis=(1, 3))
    half = math.ceil(diameter_px / _BLOCK / 4)
    # Two box filters, computed with cumulative sums.
    for axis in (0, 1, 0, 1):
        edges = [[half + 1, half] if axis == i else [0, 0] for i in range(3)]
        sums = tf.cumsum(tf.pad(blocks, edges), axis=axis)
        length = tf.shape(blocks)[axis]
        ahead = _from(sums, axis, 2 * half + 1, length)
        blocks = (ahead - _from(sums, axis, 0, length)) / (2 * half + 1)
    return tf.unstack(_enlarge(blocks, tf.shape(masks)), axis=-1)


def random_intensity(
    image: tf.Tensor, *, gain: float, gamma: float, noise: float, seed: tf.Tensor
) -> tf.Tensor:
    """Changes each channel's gain and gamma, and adds noise.

    Args:
      image: (H, W, 3) float32 in [0, 255].
      gain: each channel is multiplied by exp(u), u uniform in ±gain.
      gamma: each channel is raised to the power exp(u), u uniform in ±gamma.
      noise: standard deviation of normal noise, as a fraction of 255.
      seed: (2,) int64 random seed.

    Returns:
      (H, W, 3) float32 in [0, 255].
    """
    if not (gain or gamma or noise):
        return image
    draws = tf.random.stateless_uniform([2, 3], seed + 2, -1.0, 1.0)
    values = tf.pow(tf.maximum(image / 255.0, 1e-6), tf.exp(draws[0] * gamma))
    values = values * tf.exp(draws[1] * gain)
    values += tf.random.stateless_normal(tf.shape(image), seed + 3) * noise
    return tf.clip_by_value(values, 0.0, 1.0) * 255.0


def random_blur(image: tf.Tensor, *, most_px: float, seed: tf.Tensor) -> tf.Tensor:
    """Blurs with a Gaussian of random width, to imitate an image out of focus.

    Args:
      image: (H, W, 3) float32.
      most_px: largest standard deviation; it is drawn uniformly from 0 to this.
      seed: (2,) int64 random seed.

    Returns:
      (H, W, 3) float32.
    """
    if not most_px:
        return image
    sigma = tf.random.stateless_uniform([], seed + 5) * most_px
    half = math.ceil(3 * most_px)
    steps = tf.range(-half, half + 1, dtype=tf.float32)
    weights = tf.exp(-((steps / tf.maximum(sigma, 1e-3)) ** 2) / 2)
    weights = tf.unstack(weights / tf.reduce_sum(weights))
    for axis in (0, 1):
        edges = [[half * (1 - axis)] * 2, [half * axis] * 2, [0, 0]]
        wide = tf.pad(image, edges, "SYMMETRIC")
        # A few weighted sums are faster than a convolution of three channels.
        image = tf.add_n(
            [
                weight * _from(wide, axis, first, tf.shape(image)[axis])
                for first, weight in enumerate(weights)
            ]
        )
    return image


def _from(image: tf.Tensor, axis: int, first: int, length: tf.Tensor) -> tf.Tensor:
    if axis == 0:
        return image[first : first + length]
    return image[:, first : first + length]


def _widen(mask: tf.Tensor, width: int) -> tf.Tensor:
    """Dilates a mask by at least `width` pixels, in whole blocks, for speed."""
    blocks = _blocks(tf.cast(mask, tf.uint8)[..., tf.newaxis])
    blocks = tf.reduce_max(tf.reduce_max(blocks, axis=3), axis=1)
    blocks = tf.cast(blocks, tf.float32)[tf.newaxis]
    window = 1 + 2 * -(-width // _BLOCK)
    wide = tf.nn.max_pool2d(blocks, window, 1, "SAME")[0] > 0
    return _enlarge(wide, tf.shape(mask))[..., 0]


def _blocks(values: tf.Tensor) -> tf.Tensor:
    """Reshapes (H, W, C) to (rows, block, columns, block, C), padded with 0."""
    shape = tf.shape(values)
    rows, columns = -(-shape[0] // _BLOCK), -(-shape[1] // _BLOCK)
    ends = [[0, rows * _BLOCK - shape[0]], [0, columns * _BLOCK - shape[1]], [0, 0]]
    return tf.reshape(
        tf.pad(values, ends), [rows, _BLOCK, columns, _BLOCK, values.shape[2]]
    )


def _enlarge(blocks: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Repeats (rows, columns, C) blocks as pixels, cropped to the height and width in `shape`."""
    pixels = tf.repeat(tf.repeat(blocks, _BLOCK, axis=0), _BLOCK, axis=1)
    return pixels[: shape[0], : shape[1]]
