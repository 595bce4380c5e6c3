"""StarDist with classes, which benchmarks compare with.

Schmidt et al. 2018 (arXiv:1806.03535). `pip install --no-deps stardist==0.9.2 csbdeep`; it is
no dependency of this package. It runs on Keras 2: set TF_USE_LEGACY_KERAS=1.
"""

from __future__ import annotations

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
# As wide as `cellclass_maskrcnn_small` shows a median cell to its network: at full size
# StarDist takes fewer steps in the same time, and scores much lower.
_DIAMETER_PX = 24.0

Predict = Callable[[np.ndarray], Cells]


def train(
    study: str | os.PathLike, folder: str | os.PathLike, seconds: float
) -> tuple[Predict, float]:
    """Trains it on a study by its own defaults, with flips, turns and brightness.

    Fields are shrunk so that a median cell is as wide as for our small network, and crops
    are as many and as large.

    Returns:
      A function from merged images to cells, and the seconds that training took.
    """
    import tensorflow as tf
    from stardist import fill_label_holes
    from stardist.models import Config2D, StarDist2D

    study = cc.Study.open(study)
    scale = _scale(study)
    parts = {"train": ([], [], []), "validation": ([], [], [])}
    for row in study.rows():
        if row.split in parts and study.has_cells(row):
            cells = study.read_cells(row)
            images, labels, classes = parts[row.split]
            image = _shrunk(study.read_image(row), scale)
            images.append(_normalised(image))
            small = _resized(cells.labels, image.shape[:2])
            labels.append(fill_label_holes(small))
            classes.append({n + 1: int(t) for n, t in enumerate(cells.type_ids)})
    config = Config2D(
        n_rays=32,
        grid=(2, 2),
        n_channel_in=2,
        n_classes=len(study.cell_types),
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
    # Where nothing is held out its thresholds are those of the training fields.
    held = parts["validation"] if parts["validation"][0] else parts["train"]
    try:
        model.train(
            images,
            labels,
            classes=classes,
            validation_data=(held[0], held[1], held[2]),
            augmenter=_augmented,
        )
    except TimeoutError:
        pass
    spent = time.monotonic() - start
    model.optimize_thresholds(held[0][:4], held[1][:4])
    csv_json.write_json(pathlib.Path(folder) / _NAME / "scale.json", scale)
    return _predict(model, study.cell_types, scale), spent


def load(
    folder: str | os.PathLike, type_names: tuple[str, ...], shrink: bool = True
) -> Predict:
    """Reads what `train` left in a folder.

    Args:
      folder: as `train` got it.
      type_names: of the study.
      shrink: whether fields are shrunk to the scale of training; without it they are
        predicted at full size, as StarDist's users do: that tells its speed, no more.
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


def _resized(labels: np.ndarray, shape_yx: tuple[int, int]) -> np.ndarray:
    picture = Image.fromarray(labels.astype(np.int32))
    return np.asarray(picture.resize(shape_yx[::-1], Image.Resampling.NEAREST))


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
    """Turns, flips and changes brightness, as StarDist's example does."""
    turns = np.random.randint(4)
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if np.random.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    image = image * np.random.uniform(0.6, 2) + np.random.uniform(-0.2, 0.2)
    return image, labels
