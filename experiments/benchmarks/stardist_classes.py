"""Trains and applies StarDist with classes, for comparison.

Schmidt et al. 2018 (arXiv:1806.03535). StarDist is not a dependency of this package; install it
with `pip install --no-deps stardist==0.9.2 csbdeep`. It needs Keras 2: set TF_USE_LEGACY_KERAS=1.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

import cellclass_tf as cc
from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import sizes
from cellclass_tf.storage import csv_json

_NAME = "stardist"
# Diameter of a median cell, as in `cellclass_maskrcnn_small`. At full size, StarDist does fewer
# steps in the same time, and its scores are much lower.
_DIAMETER_PX = 24.0

Predict = Callable[[np.ndarray], Cells]


def train(
    study: str | os.PathLike, folder: str | os.PathLike, seconds: float
) -> tuple[Predict, float]:
    """Trains StarDist on a study, with its defaults and flips, rotations and brightness.

    Fields are reduced so that a median cell is as wide as for our small network. Batches
    have the same number and size of crops.

    Args:
      study: the study, or its folder.
      folder: folder for the trained network.
      seconds: duration of the training.

    Returns:
      A function from merged images to cells, and the seconds that the training took.
    """
    import tensorflow as tf
    from stardist import fill_label_holes
    from stardist.models import Config2D, StarDist2D

    opened = cc.Study.open(study)
    scale = _scale(opened)
    parts: dict[str, tuple[list, list, list]]
    parts = {"train": ([], [], []), "validation": ([], [], [])}
    for row in opened.rows():
        if row.split in parts and opened.has_cells(row):
            cells = opened.read_cells(row)
            images, labels, classes = parts[row.split]
            image = _shrunk(opened.read_image(row), scale)
            images.append(_normalised(image))
            small = _resized(cells.labels, image.shape[:2])
            labels.append(fill_label_holes(small))
            classes.append({n + 1: int(t) for n, t in enumerate(cells.type_ids)})
    config = Config2D(
        n_rays=32,
        grid=(2, 2),
        n_channel_in=2,
        n_classes=len(opened.cell_types),
        train_patch_size=(128, 128),
        train_batch_size=8,
        train_steps_per_epoch=50,
        train_epochs=10_000,
    )
    model = StarDist2D(config, name=_NAME, basedir=os.fspath(folder))
    model.prepare_for_training()
    start = time.monotonic()

    class Stop(tf.keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if time.monotonic() - start > seconds:
                raise TimeoutError

    model.callbacks.append(Stop())
    images, labels, classes = parts["train"]
    # Without validation fields, StarDist's thresholds are fitted on the training fields.
    held = parts["validation"] if parts["validation"][0] else parts["train"]
    with contextlib.suppress(TimeoutError):
        model.train(
            images,
            labels,
            classes=classes,
            validation_data=(held[0], held[1], held[2]),
            augmenter=_augmented,
        )
    spent = time.monotonic() - start
    model.optimize_thresholds(held[0][:4], held[1][:4])
    csv_json.write_json(pathlib.Path(folder) / _NAME / "scale.json", scale)
    return _predict(model, opened.cell_types, scale), spent


def load(
    folder: str | os.PathLike, type_names: tuple[str, ...], shrink: bool = True
) -> Predict:
    """Loads a network that `train` saved in a folder.

    Args:
      folder: folder of the trained network.
      type_names: names of the cell types of the study.
      shrink: whether fields are reduced to the scale of the training. Without it they are
        predicted at full size, as StarDist's users do, which is only useful to measure
        the time.
    """
    from stardist.models import StarDist2D

    model = StarDist2D(None, name=_NAME, basedir=os.fspath(folder))
    scale = json.loads((pathlib.Path(folder) / _NAME / "scale.json").read_text())
    return _predict(model, type_names, scale if shrink else 1.0)


def _predict(model, type_names: tuple[str, ...], scale: float) -> Predict:
    def predict(image: np.ndarray) -> Cells:
        small = _normalised(_shrunk(image, scale))
        found, details = model.predict_instances(small)
        ids = np.asarray(details["class_id"], int)
        whole = _resized(found, image.shape[:2])
        return _cells(whole, ids, np.asarray(details["prob"]), type_names)

    return predict


def _scale(study: cc.Study) -> float:
    rows = [r for r in study.rows() if r.split == "train" and study.has_cells(r)]
    areas = np.concatenate([study.read_cells(row).areas_px for row in rows])
    return float(_DIAMETER_PX / np.median(sizes.diameters_of(areas)))


def _shrunk(image: np.ndarray, scale: float) -> np.ndarray:
    size = [round(side * scale) for side in image.shape[1::-1]]
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def _resized(labels: np.ndarray, shape_yx: tuple[int, ...]) -> np.ndarray:
    height, width = shape_yx
    picture = Image.fromarray(labels.astype(np.int32))
    return np.asarray(picture.resize((width, height), Image.Resampling.NEAREST))


def _normalised(image: np.ndarray) -> np.ndarray:
    from csbdeep.utils import normalize

    return normalize(image[..., 1:], 1, 99.8, axis=(0, 1))


def _cells(labels, ids, probabilities, names) -> Cells:
    order = np.unique(labels)[1:] - 1
    types = ["unknown" if not i else names[i - 1] for i in ids[order]]
    cells = Cells.from_labels(labels, names, types)
    return Cells(
        cells.labels,
        cells.type_names,
        cells.type_ids,
        probabilities[order].astype(np.float32),
        cells.probabilities,
    )


def _augmented(image: np.ndarray, labels: np.ndarray):
    """Rotates, flips and changes brightness, as in StarDist's example."""
    turns = np.random.randint(4)
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if np.random.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    image = image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)
    return image, labels
