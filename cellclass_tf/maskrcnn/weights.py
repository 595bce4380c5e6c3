"""Weights that a new run starts from: shipped ones, an earlier run's, or a library's."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re

import numpy as np
import tensorflow as tf
import tf_keras
from absl import logging

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import config, named_weights, network, runs
from cellclass_tf.maskrcnn.named_weights import TYPE_LAYER

RANDOM = "random"
IMAGENET = "imagenet"
# Trained on simulated cultures of varied appearance by `experiments.starting_weights`.
SIMULATED_FILE = pathlib.Path(__file__).with_name("starting_weights.npz")
# The options that decide which weights the network has, or what they mean.
_OPTIONS_OF_WEIGHTS = (
    "min_level",
    "max_level",
    "backbone",
    "decoder",
    "rpn_head",
    "detection_head",
    "mask_head",
    "norm_activation",
)
# What normalize_image of Model Garden subtracts, and divides by.
_MEAN = np.array([0.485, 0.456, 0.406])
_SPREAD = np.array([0.229, 0.224, 0.225])


def load(task: config.CellMaskRCNNTask, model: network.CellMaskRCNN) -> None:
    """Gives a network the weights that `task.init_checkpoint` names.

    - 'simulated': the weights that come with the package, for the small experiment; all
      but the layer that tells the types. They were trained on simulated cultures.
    - 'imagenet', or the path of an .h5 file of Keras Applications without top: the
      backbone gets ImageNet weights, layer by layer, adapted to the network's input.
      'imagenet' downloads them.
    - the folder of a training run of this package, or a checkpoint in it: everything,
      but the layer that tells the types where those are others.
    - a checkpoint of a Model Garden backbone (with the key `backbone`).

    Raises:
      InputError: if there is nothing of that kind, or it does not fit.
    """
    source = task.init_checkpoint
    if source == config.SIMULATED:
        named_weights.assign(model, SIMULATED_FILE)
    elif is_keras(source):
        from_keras(task, model.backbone, None if source == IMAGENET else source)
    elif (runs.folder_of(source) / runs.PARAMS_FILE).exists():
        _from_run(task, model, source)
    else:
        _from_backbone(model, source)
    logging.info("The run starts from the weights of %s.", source)


def simulated_fit(task: config.CellMaskRCNNTask) -> bool:
    """Whether a task has the network whose weights come with the package."""
    own = config.cellclass_maskrcnn_small().task.model.as_dict()
    given = task.model.as_dict()
    return all(given[name] == own[name] for name in _OPTIONS_OF_WEIGHTS)


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


def _from_run(
    task: config.CellMaskRCNNTask, model: network.CellMaskRCNN, source: str
) -> None:
    folder = runs.folder_of(source)
    before = runs.load_params(runs.experiment_of(folder), folder).task
    donor = network.build_model(before, task.model.input_size[0])
    runs.restore(donor, runs.checkpoint_in(source))
    # What is frozen would come last.
    trainable, model.backbone.trainable = model.backbone.trainable, True
    new = model.variables
    model.backbone.trainable = trainable
    if len(new) != len(donor.variables):
        raise InputError(
            f"{source}: a network of another kind ({len(donor.variables)} weights, "
            f"expected {len(new)}). Start from a run of the same experiment."
        )
    same_types = list(before.type_names) == list(task.type_names)
    left = []
    for variable, given in zip(new, donor.variables, strict=True):
        if variable.shape == given.shape and (
            same_types or TYPE_LAYER not in given.name
        ):
            variable.assign(given)
        else:
            left.append(variable)
    if any(TYPE_LAYER not in variable.name for variable in left):
        raise InputError(
            f"{source}: weights of other shapes, such as {left[0].name}. Start from a "
            "run with the same backbone and heads."
        )
    if left:
        logging.info(
            "The types are others (%s, now %s): they are learned from the start.",
            ", ".join(before.type_names),
            ", ".join(task.type_names),
        )


def _from_backbone(model: network.CellMaskRCNN, source: str) -> None:
    path = tf.train.latest_checkpoint(source) if os.path.isdir(source) else source
    if not path or not pathlib.Path(f"{path}.index").exists():
        raise InputError(f"{source}: no checkpoint to start from.")
    status = tf.train.Checkpoint(backbone=model.backbone).read(path)
    try:
        status.expect_partial().assert_existing_objects_matched()
    except (AssertionError, ValueError) as error:
        raise InputError(
            f"{source}: no checkpoint of this experiment's backbone ({error})."
        ) from error
