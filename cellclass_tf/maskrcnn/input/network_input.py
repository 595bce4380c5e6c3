"""What the network takes: normalised pixels, and what Model Garden wants beside them."""

from __future__ import annotations

import tensorflow as tf

from cellclass_tf.maskrcnn.model_garden import anchor, configs, preprocess_ops


def normalise(image: tf.Tensor, *, grayscale: bool = False) -> tf.Tensor:
    """Turns uint8 grey values, or the same as float, into the network's input.

    Args:
      image: (..., 3): 0, cytoplasm, nuclei.
      grayscale: let the network see the cytoplasm alone, three times.
    """
    if grayscale:
        image = tf.repeat(image[..., 1:2], 3, axis=-1)
    return preprocess_ops.normalize_image(tf.cast(image, tf.float32) / 255.0)


def image_info(size: int) -> tf.Tensor:
    """What Model Garden tells of an image that was not resized, (4, 2) float32."""
    side = float(size)
    return tf.constant([[side, side], [side, side], [1.0, 1.0], [0.0, 0.0]])


def build_anchors(model: configs.MaskRCNN, size: int) -> dict[str, tf.Tensor]:
    """The anchors by level, (h, w, 4 * anchors) float32, for a (size, size) input."""
    generator = anchor.build_anchor_generator(
        min_level=model.min_level,
        max_level=model.max_level,
        num_scales=model.anchor.num_scales,
        aspect_ratios=model.anchor.aspect_ratios,
        anchor_size=model.anchor.anchor_size,
    )
    return generator(image_size=(size, size))
