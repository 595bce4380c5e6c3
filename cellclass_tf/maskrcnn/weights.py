"""Weights that a new run starts from: shipped ones, an earlier run's, or a library's."""

from __future__ import annotations

import os
import pathlib

import tensorflow as tf

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import config, imagenet, named_weights, network, runs
from cellclass_tf.maskrcnn.named_weights import TYPE_LAYER
from cellclass_tf.messages import logger

RANDOM = "random"
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


def load(task: config.CellMaskRCNNTask, model: network.CellMaskRCNN) -> None:
    """Gives a network the weights that `task.init_checkpoint` names.

    - 'simulated': the weights that come with the package, for the small experiment; all
      but the layer that tells the types. They were trained on simulated cultures.
    - 'imagenet', or the path of an .h5 file of Keras Applications without top: the
      backbone gets ImageNet weights, adapted to the network's input, see
      `imagenet.load`.
    - the folder of a training run of this package, or a checkpoint in it: everything,
      but the layer that tells the types where those are others.
    - a checkpoint of a Model Garden backbone (with the key `backbone`).

    Raises:
      InputError: if there is nothing of that kind, or it does not fit.
    """
    source = task.init_checkpoint
    if source == config.SIMULATED:
        named_weights.assign(model, SIMULATED_FILE)
    elif imagenet.is_imagenet(source):
        imagenet.load(task, model.backbone, source)
    elif (runs.folder_of(source) / runs.PARAMS_FILE).exists():
        _from_run(task, model, source)
    else:
        _from_backbone(model, source)
    logger.info("The run starts from the weights of %s.", source)


def simulated_fit(task: config.CellMaskRCNNTask) -> bool:
    """Whether a task has the network whose weights come with the package."""
    own = config.cellclass_maskrcnn_small().task.model.as_dict()
    given = task.model.as_dict()
    return all(given[name] == own[name] for name in _OPTIONS_OF_WEIGHTS)


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
        logger.info(
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
