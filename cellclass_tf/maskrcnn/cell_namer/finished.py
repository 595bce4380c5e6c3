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
    dataset_fingerprint: str = ""
    cells: int | None = None
    validation_accuracy: float | None = None


def is_there(model_dir: str | os.PathLike, wanted: NamerTraining) -> bool:
    """Returns whether a run has a finished namer for the same data and types."""
    folder = pathlib.Path(model_dir) / FOLDER
    atomic.recover_folder(folder)
    path = folder / RECORD_FILE
    if not path.exists():
        return False
    found = NamerTraining.read(path)
    # Steps and seed may differ: a finished namer is kept.
    compared = ("dataset_fingerprint", "type_names", "grayscale")
    return all(getattr(found, name) == getattr(wanted, name) for name in compared)


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
    folder = pathlib.Path(model_dir) / FOLDER
    atomic.recover_folder(folder)
    if not (folder / RECORD_FILE).exists():
        return None
    record = NamerTraining.read(folder / RECORD_FILE)
    model = network.build(len(record.type_names))
    model.load_weights(os.fspath(folder / _WEIGHTS_FILE))
    return model, record
