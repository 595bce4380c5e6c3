"""The namer's network: a small ResNet that keeps the resolution of the nucleus."""

from __future__ import annotations

import tensorflow as tf
import tf_keras

from cellclass_tf.maskrcnn import named_weights
from cellclass_tf.maskrcnn.cell_namer import crops

# Twice as many are hardly more accurate and take more than twice as long.
_FILTERS = (16, 32, 64)
_FEATURES = 256
TYPE_LAYER = "types"


def build(types: int) -> tf_keras.Model:
    """Builds the network for crops (N, 64, 64, 2) float32 in [0, 1].

    The first convolution has a stride of 1, which keeps the texture of the chromatin.
    Three stages of two residual blocks follow (He et al. 2016, arXiv:1512.03385); each
    stage halves the width.

    Args:
      types: K, number of cell types.

    Returns:
      A model with two outputs: `logits` (N, K) and `features` (N, 256), both float32.
    """
    layers = tf_keras.layers
    seen = tf_keras.Input([crops.CROP_PX, crops.CROP_PX, 2], dtype="float32")
    values = _convolved(seen, _FILTERS[0])
    values = layers.ReLU()(values)
    for filters in _FILTERS:
        values = _block(values, filters, strides=2)
        values = _block(values, filters, strides=1)
    values = layers.GlobalAveragePooling2D()(values)
    values = layers.Dense(_FEATURES, use_bias=False)(values)
    values = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(values)
    features = layers.ReLU()(values)
    logits = layers.Dense(types, name=TYPE_LAYER)(features)
    return tf_keras.Model(
        seen, {"logits": logits, "features": features}, name="cell_namer"
    )


def named(model: tf_keras.Model) -> dict[str, tf.Variable]:
    """Names the weights by kind and number, such as 'kernel/3'.

    The weights of the classification layer are left out, so that networks for other types
    have the same names.
    """
    kept = [
        variable
        for layer in model.layers
        if layer.name != TYPE_LAYER
        for variable in layer.weights
    ]
    return named_weights.numbered(kept)


def _block(values: tf.Tensor, filters: int, strides: int) -> tf.Tensor:
    layers = tf_keras.layers
    shortcut = values
    if strides > 1 or values.shape[-1] != filters:
        shortcut = _convolved(values, filters, kernel=1, strides=strides)
    values = layers.ReLU()(_convolved(values, filters, strides=strides))
    values = _convolved(values, filters)
    return layers.ReLU()(values + shortcut)


def _convolved(
    values: tf.Tensor, filters: int, kernel: int = 3, strides: int = 1
) -> tf.Tensor:
    """Applies a convolution and batch normalisation."""
    layers = tf_keras.layers
    values = layers.Conv2D(
        filters,
        kernel,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(values)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(values)
