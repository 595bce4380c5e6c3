"""Loads the starting weights of a namer: the shipped ones, or an earlier run's."""

from __future__ import annotations

import os
import pathlib

import tf_keras

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import config, named_weights, runs
from cellclass_tf.maskrcnn.cell_namer import finished, network

# Trained on simulated cultures of varied appearance by `experiments.starting_weights`.
SIMULATED_FILE = pathlib.Path(__file__).with_name("starting_weights.npz")


def source_for(init: str, otherwise: str) -> str:
    """Returns the starting weights of a namer, from those of the detector.

    Args:
      init: starting weights of the detector, see `maskrcnn.weights.load`.
      otherwise: what to return if `init` is not a training run with a namer.
    """
    folder = runs.run_of(init)
    return os.fspath(folder) if folder and finished.is_in(folder) else otherwise


def load(model: tf_keras.Model, type_names: tuple[str, ...], source: str) -> None:
    """Loads starting weights into a namer.

    Args:
      model: the namer, with random weights.
      type_names: names of the cell types, in class order.
      source: 'simulated' for the weights shipped with the package; the folder of a
        training run for its namer's; '' for random weights. The classification layer is
        loaded only from a run with the same types.

    Raises:
      InputError: if there are no such weights, or they are of another network.
    """
    if not source:
        return
    if source == config.SIMULATED:
        named_weights.assign(network.named(model), SIMULATED_FILE)
        return
    earlier = finished.load(source)
    if earlier is None:
        raise InputError(
            f"{source}: this training run has no namer to start from. Start from another "
            "run, or with --init=random."
        )
    donor, record = earlier
    if record.type_names == type_names:
        model.set_weights(donor.get_weights())
        return
    given = network.named(donor)
    for name, variable in network.named(model).items():
        variable.assign(given[name])
