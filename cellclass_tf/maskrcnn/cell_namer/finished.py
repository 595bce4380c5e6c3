"""The finished namer of a training run: its record and its weights."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import ClassVar

import tf_keras

from cellclass_tf.maskrcnn.cell_namer import network
from cellclass_tf.storage import atomic
from cellclass_tf.storage.records import Record

FOLDER = "namer"
RECORD_FILE = "namer.json"
_WEIGHTS_FILE = "namer.weights.h5"


@dataclasses.dataclass(frozen=True)
class NamerTraining(Record):
    """The content of namer.json: how a finished namer was trained, and on which data.

    Attributes:
      type_names: names of the cell types, in class order.
      scale: pixels of a crop per pixel of the training images.
      grayscale: whether it was trained without the nuclei channel.
      steps: number of training steps.
      seed: random seed of the training.
      starting_weights: weights that it started from: 'simulated', or the folder of an
        earlier run; '' for random weights, as in records of older versions.
      dataset_fingerprint: fingerprint of the dataset.
      cells: number of training cells.
      validation_accuracy: fraction of the validation cells, in annotated outlines, whose
        predicted type is correct; None without validation fields.
    """

    NAME: ClassVar[str] = "cellclass_tf namer"
    EXPECTED: ClassVar[str] = "the record of a namer of `cellclass train`"
    REMEDY: ClassVar[str] = "Train again."

    type_names: tuple[str, ...]
    scale: float
    grayscale: bool
    steps: int
    seed: int
    starting_weights: str = ""
    dataset_fingerprint: str = ""
    cells: int | None = None
    validation_accuracy: float | None = None


def fits(model_dir: str | os.PathLike, wanted: NamerTraining) -> bool:
    """Returns whether a run has a finished namer for the same data and types."""
    if not is_in(model_dir):
        return False
    found = NamerTraining.read(pathlib.Path(model_dir) / FOLDER / RECORD_FILE)
    # Steps, seed and starting weights may differ: a finished namer is kept.
    compared = ("dataset_fingerprint", "type_names", "grayscale")
    return all(getattr(found, name) == getattr(wanted, name) for name in compared)


def is_in(model_dir: str | os.PathLike) -> bool:
    """Returns whether a run has a finished namer."""
    folder = pathlib.Path(model_dir) / FOLDER
    atomic.recover_folder(folder)
    return (folder / RECORD_FILE).exists()


def save(
    model: tf_keras.Model, record: NamerTraining, model_dir: str | os.PathLike
) -> None:
    """Saves a finished namer in MODEL_DIR/namer."""
    with atomic.atomic_folder(pathlib.Path(model_dir) / FOLDER) as temporary:
        model.save_weights(os.fspath(temporary / _WEIGHTS_FILE))
        record.write(temporary / RECORD_FILE)


def load(
    model_dir: str | os.PathLike,
) -> tuple[tf_keras.Model, NamerTraining] | None:
    """Loads the finished namer of a run; returns None if there is none."""
    if not is_in(model_dir):
        return None
    folder = pathlib.Path(model_dir) / FOLDER
    record = NamerTraining.read(folder / RECORD_FILE)
    model = network.build(len(record.type_names))
    model.load_weights(os.fspath(folder / _WEIGHTS_FILE))
    return model, record
