"""ImageNet weights for a backbone, whichever library has them."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import numpy as np
import tf_keras

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import config, named_weights

IMAGENET = "imagenet"
# What normalize_image of Model Garden subtracts, and divides by.
_MEAN = np.array([0.485, 0.456, 0.406])
_SPREAD = np.array([0.229, 0.224, 0.225])


def is_keras(source: str) -> bool:
    """Whether starting weights are those of Keras Applications."""
    return source == IMAGENET or source.endswith(".h5")


def from_keras(
    task: config.CellMaskRCNNTask, backbone: tf_keras.Model, path: str | None
) -> None:
    """Carries the weights of Keras Applications into Model Garden's backbone.

    Args:
      task: says which backbone it is: MobileNetV2, or ResNet-50 with `keras_strides`.
      backbone: Model Garden's, or its first stages.
      path: an .h5 file of weights without top; None downloads them.

    Raises:
      InputError: if the backbone is another, or the file's weights do not fit.
    """
    options = task.model.backbone.get()
    kind = (task.model.backbone.type, options.model_id)
    if kind not in _DONORS:
        raise InputError(
            "Weights of Keras Applications go into the backbones mobilenet MobileNetV2 "
            f"and resnet 50; this experiment has {kind[0]} {kind[1]}."
        )
    donor = getattr(tf_keras.applications, _DONORS[kind].name)(
        include_top=False,
        weights=IMAGENET if path is None else None,
        input_shape=(224, 224, 3),
    )
    if path is not None:
        _read_h5(donor, path)
    carry(donor, backbone, task.model.norm_activation.norm_epsilon)
    _take_our_input(backbone, _DONORS[kind])


@dataclasses.dataclass(frozen=True)
class _Donor:
    """A model of Keras Applications; its input is factor * image + offset."""

    name: str
    factor: float
    offset: np.ndarray
    blue_first: bool = False


_DONORS = {
    ("mobilenet", "MobileNetV2"): _Donor("MobileNetV2", 2.0, -np.ones(3)),
    ("resnet", 50): _Donor(
        "ResNet50", 255.0, -np.array([103.939, 116.779, 123.68]), blue_first=True
    ),
}


def carry(donor: tf_keras.Model, backbone: tf_keras.Model, epsilon: float) -> None:
    """Copies convolutions and their norms, one by one, so that features are the same.

    Model Garden's convolutions have no bias, and its norms one epsilon: both are put
    into the norm after the convolution.

    Args:
      donor: a model of Keras Applications.
      backbone: the same network of Model Garden, or its first stages.
      epsilon: of the backbone's norms.

    Raises:
      InputError: if a weight has no counterpart of its shape.
    """
    layers = sorted(donor.layers, key=_place_in_resnet)
    kinds = (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D)
    convolutions = [x for x in layers if isinstance(x, kinds)]
    norms = [x for x in layers if isinstance(x, tf_keras.layers.BatchNormalization)]
    wanted = named_weights.by_kind(backbone.weights)
    for number, kernel in enumerate(wanted["kernel"]):
        given = convolutions[number].get_weights()
        if given[0].shape != kernel.shape:
            raise InputError(
                f"{kernel.name} of shape {kernel.shape} has no counterpart: "
                f"{convolutions[number].name} has {given[0].shape}."
            )
        bias = given[1] if len(given) > 1 else 0.0
        gamma, beta, mean, variance = norms[number].get_weights()
        spread = np.sqrt((variance + epsilon) / (variance + norms[number].epsilon))
        kernel.assign(given[0])
        wanted["gamma"][number].assign(gamma * spread)
        wanted["beta"][number].assign(beta)
        wanted["moving_mean"][number].assign(mean - bias)
        wanted["moving_variance"][number].assign(variance)


def _take_our_input(backbone: tf_keras.Model, donor: _Donor) -> None:
    """Puts the donor's scaling of images into the first kernel and its norm.

    Ours are (image - mean) / spread. Only at the border, where 0 is another grey, do
    features then differ.
    """
    wanted = named_weights.by_kind(backbone.weights)
    kernel = wanted["kernel"][0].numpy()
    order = slice(None, None, -1) if donor.blue_first else slice(None)
    kernel, offset = kernel[:, :, order], donor.offset[order]
    shift = np.einsum("yxio,i->o", kernel, donor.factor * _MEAN + offset)
    wanted["kernel"][0].assign(kernel * (donor.factor * _SPREAD)[:, np.newaxis])
    wanted["moving_mean"][0].assign_sub(shift)


def _place_in_resnet(layer) -> tuple[int, ...]:
    """Stage, block and number: Model Garden makes the shortcut first, Keras third."""
    found = re.match(r"conv(\d+)_block(\d+)_(\d)_", layer.name)
    return tuple(map(int, found.groups())) if found else (0,)


def _read_h5(donor: tf_keras.Model, path: str) -> None:
    if not pathlib.Path(path).is_file():
        raise InputError(
            f"{path} does not exist: expected weights of Keras Applications."
        )
    try:
        donor.load_weights(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: expected weights of {donor.name} without top ({error})."
        ) from error
