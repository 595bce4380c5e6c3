"""Reads and writes weights by name; names the detector's without its classification layer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import network
from cellclass_tf.storage import atomic, npz

TYPE_LAYER = "/detection-scores/"
_PARTS = ("backbone", "decoder", "rpn_head", "detection_head", "mask_head")


def write(variables: Mapping[str, tf.Variable], path: str | os.PathLike) -> None:
    """Writes variables as an .npz file of float16 arrays."""
    arrays = {
        name: variable.numpy().astype(np.float16)
        for name, variable in variables.items()
    }
    with atomic.atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def assign(variables: Mapping[str, tf.Variable], path: str | os.PathLike) -> None:
    """Loads the values in a file that `write` wrote into variables of the same names.

    Raises:
      InputError: if the file cannot be read, or its weights are of another network.
    """
    arrays = npz.read_npz(path)
    other = arrays.keys() ^ variables.keys() or {
        name for name, v in variables.items() if v.shape != arrays[name].shape
    }
    if other:
        raise InputError(
            f"{path}: the weights are of another network ({min(other)} differs). Start "
            "from a run of the same experiment, or with --init=random."
        )
    for name, variable in variables.items():
        variable.assign(arrays[name].astype(np.float32))


def named(model: network.CellMaskRCNN) -> dict[str, tf.Variable]:
    """Names the detector's weights by part, kind and number, such as 'backbone/kernel/3'.

    Keras's own names depend on how many networks the process has built. The weights of the
    classification layer are left out. The size of the input, the size of the anchors and
    the types change no other weights.
    """
    found: dict[str, tf.Variable] = {}
    for part in _PARTS:
        layers = getattr(model, part)
        layers = layers if isinstance(layers, Sequence) else [layers]
        kept = [v for x in layers for v in x.weights if TYPE_LAYER not in v.name]
        found |= {f"{part}/{name}": v for name, v in numbered(kept).items()}
    return found


def numbered(variables: Sequence[tf.Variable]) -> dict[str, tf.Variable]:
    """Names variables by kind and number, such as 'kernel/3'."""
    return {
        f"{kind}/{number}": variable
        for kind, of_kind in by_kind(variables).items()
        for number, variable in enumerate(of_kind)
    }


def by_kind(variables: Sequence[tf.Variable]) -> dict[str, list[tf.Variable]]:
    """Groups variables by the last part of their names (kernel, gamma …), in order."""
    kinds: dict[str, list[tf.Variable]] = {}
    for variable in variables:
        kind = variable.name.rpartition("/")[2].partition(":")[0]
        kind = "kernel" if kind.endswith("kernel") else kind
        kinds.setdefault(kind, []).append(variable)
    return kinds
