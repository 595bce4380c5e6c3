"""The network's input: normalised pixels, and the anchors and sizes for Model Garden."""

from __future__ import annotations

import tensorflow as tf

from cellclass_tf.maskrcnn.model_garden import anchor, configs, preprocess_ops


def normalise(image: tf.Tensor, *, grayscale: bool = False) -> tf.Tensor:
    """Converts grey levels (uint8, or float in the same range) to the network's input.

    Args:
      image: (..., 3) merged image: 0, cytoplasm, nuclei.
      grayscale: whether all three channels get the cytoplasm.
    """
    if grayscale:
        image = tf.repeat(image[..., 1:2], 3, axis=-1)
    return preprocess_ops.normalize_image(tf.cast(image, tf.float32) / 255.0)


def image_info(size: int) -> tf.Tensor:
    """Returns Model Garden's description of an image that was not resized, (4, 2) float32."""
    side = float(size)
    return tf.constant([[side, side], [side, side], [1.0, 1.0], [0.0, 0.0]])


def build_anchors(model: configs.MaskRCNN, size: int) -> dict[str, tf.Tensor]:
    """Returns the anchors for a (size, size) input, {level: (h, w, 4 * a) float32}."""
    generator = anchor.build_anchor_generator(
        min_level=model.min_level,
        max_level=model.max_level,
        num_scales=model.anchor.num_scales,
        aspect_ratios=model.anchor.aspect_ratios,
        anchor_size=model.anchor.anchor_size,
    )
    return generator(image_size=(size, size))
