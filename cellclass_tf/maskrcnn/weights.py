"""Loads the starting weights of a new run: shipped ones, an earlier run's or a library's."""

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
# Options that determine which weights the network has, or their meaning.
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


def load(
    task: config.CellMaskRCNNTask, model: network.CellMaskRCNN, *, quiet: bool = False
) -> None:
    """Loads the weights in `task.init_checkpoint` into a network.

    - 'simulated': the weights shipped with the package, for the small experiment, without
      the classification layer. They were trained on simulated cultures.
    - 'imagenet', or the path of an .h5 file of Keras Applications without top: ImageNet
      weights for the backbone, adapted to the network's input; see `imagenet.load`.
    - the folder of a training run of this package, or a checkpoint in it: all weights, but
      without the classification layer if the types differ.
    - a checkpoint of a Model Garden backbone (with the key `backbone`).

    Args:
      task: parameters of the run.
      model: the network.
      quiet: whether the starting weights are not logged.

    Raises:
      InputError: if there are no such weights, or they do not fit.
    """
    source = task.init_checkpoint
    other_types = ""
    if source == config.SIMULATED:
        named_weights.assign(named_weights.named(model), SIMULATED_FILE)
        origin = "the weights shipped with the package (trained on simulated cultures)"
    elif imagenet.is_imagenet(source):
        imagenet.load(task, model.backbone, source)
        origin = "ImageNet weights for the backbone"
        if source != imagenet.IMAGENET:
            origin += f" ({source})"
    elif runs.run_of(source):
        other_types = _from_run(task, model, source)
        origin = f"the weights of the training run {source}"
    else:
        _from_backbone(model, source)
        origin = f"the backbone weights in {source}"
    if not quiet:
        logger.info("Training starts from %s.%s", origin, other_types)


def simulated_fit(task: config.CellMaskRCNNTask) -> bool:
    """Returns whether the weights shipped with the package fit the network of a task."""
    own = config.cellclass_maskrcnn_small().task.model.as_dict()
    given = task.model.as_dict()
    return all(given[name] == own[name] for name in _OPTIONS_OF_WEIGHTS)


def _from_run(
    task: config.CellMaskRCNNTask, model: network.CellMaskRCNN, source: str
) -> str:
    """Loads the weights of a run; returns a sentence if the types differ, else ''."""
    folder = runs.folder_of(source)
    before = runs.load_params(runs.experiment_of(folder), folder).task
    donor = network.build_model(before, task.model.input_size[0])
    runs.restore(donor, runs.checkpoint_in(source))
    # Frozen variables would come last, so the order would differ.
    trainable, model.backbone.trainable = model.backbone.trainable, True
    new = model.variables
    model.backbone.trainable = trainable
    if len(new) != len(donor.variables):
        raise InputError(
            f"{source}: the weights are of another network ({len(donor.variables)} "
            f"variables, expected {len(new)}). Start from a run of the same experiment."
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
            f"{source}: the shapes of weights differ, for example of {left[0].name}. "
            "Start from a run with the same backbone and heads."
        )
    if not left:
        return ""
    return (
        f" Its cell types were {', '.join(before.type_names)}; the classification layer "
        f"for {', '.join(task.type_names)} starts from random weights."
    )


def _from_backbone(model: network.CellMaskRCNN, source: str) -> None:
    path = tf.train.latest_checkpoint(source) if os.path.isdir(source) else source
    if not path or not pathlib.Path(f"{path}.index").exists():
        raise InputError(
            f"{source}: no checkpoint found. Expected a training run, a checkpoint, an "
            ".h5 file, simulated, imagenet or random."
        )
    status = tf.train.Checkpoint(backbone=model.backbone).read(path)
    try:
        status.expect_partial().assert_existing_objects_matched()
    except (AssertionError, ValueError) as error:
        raise InputError(
            f"{source}: the checkpoint does not fit the backbone of this experiment "
            f"({error})."
        ) from error
