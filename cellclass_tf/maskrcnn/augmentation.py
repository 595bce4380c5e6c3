"""Random crops, turns, mixtures and intensities of fields and their label images."""

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
    draws = tf.random.stateless_uniform([3], seed + 1) < 0.5
    turns = (
        lambda x: tf.transpose(x, [1, 0, *range(2, len(x.shape))]),
        lambda x: tf.reverse(x, [0]),
        lambda x: tf.reverse(x, [1]),
    )
    for draw, turn in zip(tf.unstack(draws), turns, strict=True):
        image, labels = _if(draw, turn, image), _if(draw, turn, labels)
    return image, labels


def compose(image, labels, other_image, other_labels, *, most_overlap: float, rim: int):
    """Moves the cells of one pure field into another, as if both had grown together.

    A network that sees only pure dishes learns to name a cell by its neighbours, which
    fails in a mixed culture. Where both fields are background the brighter one counts,
    so that halos and processes stay and no seam is seen; a moved cell covers what was
    there; cells that would cover too much are not moved, nor is what lies around them.

    Args:
      image: (S, S, 3) uint8.
      labels: (S, S) int32.
      other_image: the field whose cells are moved, of the same shape.
      other_labels: its labels.
      most_overlap: a cell is moved if at most this share of it covers other cells.
      rim: width in pixels of the background that goes with a cell.

    Returns:
      The composed image, (S, S, 3) uint8, and the (S, S) int32 labels of the moved
      cells in it, 0 elsewhere. `labels` still holds where those are 0.
    """
    count = tf.reduce_max(other_labels) + 1
    flat = tf.reshape(other_labels, [-1])
    covers = tf.reshape(tf.cast(labels > 0, tf.float32), [-1])
    covered = tf.math.unsorted_segment_sum(covers, flat, count)
    whole = tf.math.unsorted_segment_sum(tf.ones_like(covers), flat, count)
    moves = (covered <= most_overlap * whole) & (tf.range(count) > 0)
    moved = tf.gather(moves, other_labels)
    stays = _widened((other_labels > 0) & ~moved, rim)
    # uint8 arithmetic takes a fraction of the time of nested choices.
    free = tf.cast(~(stays | (labels > 0)), tf.uint8)[..., tf.newaxis]
    composed = tf.maximum(image, other_image * free)
    composed = tf.where(moved[..., tf.newaxis], other_image, composed)
    return composed, tf.where(moved, other_labels, 0)


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


def _if(condition, function, value):
    return tf.cond(condition, lambda: function(value), lambda: value)


def _widened(mask, width: int, block: int = 4):
    """Widens a mask by at least `width` pixels, in whole blocks, for speed."""
    height, length = tf.shape(mask)[0], tf.shape(mask)[1]
    rows, columns = -(-height // block), -(-length // block)
    padding = [[0, rows * block - height], [0, columns * block - length]]
    pixels = tf.cast(tf.pad(mask, padding), tf.uint8)
    blocks = tf.reshape(pixels, [rows, block, columns, block])
    blocks = tf.reduce_max(tf.reduce_max(blocks, axis=3), axis=1)
    blocks = tf.cast(blocks, tf.float32)[tf.newaxis, ..., tf.newaxis]
    window = 1 + 2 * -(-width // block)
    wide = tf.nn.max_pool2d(blocks, window, 1, "SAME")[0, ..., 0] > 0
    wide = tf.repeat(tf.repeat(wide, block, axis=0), block, axis=1)
    return wide[:height, :length]


def _pad_to(image, width):
    missing = tf.maximum(width - tf.shape(image)[:2], 0)
    before = missing // 2
    paddings = tf.stack([before, missing - before], axis=1)
    padded = tf.pad(image, tf.concat([paddings, [[0, 0]]], axis=0))
    return tf.ensure_shape(padded, [None, None, image.shape[-1]])


def _cut(image, corner, width):
    top, left = corner[0], corner[1]
    return image[top : top + width, left : left + width]
