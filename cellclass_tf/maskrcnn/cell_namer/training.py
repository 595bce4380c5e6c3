"""Trains the namer on the cells of a prepared dataset."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf
import tf_keras

from cellclass_tf.core.micrograph import pixel_size_ratio
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import config, keras_state, sampling
from cellclass_tf.maskrcnn.cell_namer import batches, crops, finished, network, weights
from cellclass_tf.maskrcnn.input import reading
from cellclass_tf.messages import logger, progress_bar

_RATE = 7e-3
_WARM_UP_STEPS = 20
_MOST_VALIDATED = 1000
_STEPS_BETWEEN_REPORTS = 200


def train(model_dir: str | os.PathLike, task: config.CellMaskRCNNTask) -> None:
    """Trains the namer of a run and saves it in MODEL_DIR/namer.

    A finished namer is kept. If training was interrupted, it starts again.

    Args:
      model_dir: folder of the run.
      task: parameters of the run, with those that are set from the dataset.

    Raises:
      InputError: if the loss becomes NaN or infinite, or the starting weights do not fit.
    """
    wanted = finished.NamerTraining(
        type_names=tuple(task.type_names),
        scale=crops.scale_for(task.cell_diameter_px),
        grayscale=task.grayscale,
        steps=task.namer_steps,
        seed=task.train_data.seed,
        starting_weights=task.namer_init,
        dataset_fingerprint=task.fingerprint,
    )
    if finished.fits(model_dir, wanted):
        return
    trained_px_um = task.pixel_size_um
    validation = None
    if task.validation_data.tfds_split:
        fields = _fields(task, task.validation_data)
        validation = gather(fields, wanted, trained_px_um, most=_MOST_VALIDATED)
    fields = _fields(task, task.train_data)
    if task.train_data.untyped_split:
        # Some of their cells may have a type, for example from a spot check.
        untyped = task.train_data.replace(tfds_split=task.train_data.untyped_split)
        fields = itertools.chain(fields, _fields(task, untyped))
    examples = gather(fields, wanted, trained_px_um)
    if not len(examples.own):
        logger.warning(
            "The namer was not trained: no cell of the training fields has a known type."
        )
        return
    model, accuracy = fit(examples, wanted, validation)
    done = dataclasses.replace(
        wanted, cells=len(examples.own), validation_accuracy=accuracy
    )
    finished.save(model, done, model_dir)


def zoom_for(
    record: finished.NamerTraining, pixel_size_um: float, trained_um: float
) -> float:
    """Returns the number of crop pixels per image pixel.

    Args:
      record: how the namer was trained.
      pixel_size_um: pixel size of the image; 0 if unknown.
      trained_um: pixel size of the training images; 0 if unknown.
    """
    return record.scale * pixel_size_ratio(pixel_size_um, trained_um)


def gather(
    fields: Iterable[reading.Field],
    record: finished.NamerTraining,
    trained_um: float = 0.0,
    most: int = sampling.MOST_CELLS,
) -> batches.Examples:
    """Cuts windows around cells of known type.

    Args:
      fields: fields to cut from; they are read once.
      record: says how crops are cut.
      trained_um: pixel size of the training images; 0 if unknown.
      most: maximum number of cells, divided equally among the types. If there are more
        cells of a type, a random sample of them is taken. The windows of 6000 cells need
        about 300 MB.
    """
    kept: list[list[tuple]] = [[] for _ in record.type_names]
    sample = sampling.TypeSample(len(kept), most, np.random.default_rng(record.seed))
    for field in fields:
        known = np.flatnonzero(field.cells.type_ids > 0)
        found = crops.windows_of(
            field.image,
            field.cells,
            known,
            batches.WINDOW_PX,
            zoom=zoom_for(record, field.pixel_size_um, trained_um),
            grayscale=record.grayscale,
        )
        for n, index in enumerate(known):
            kind = field.cells.type_ids[index] - 1
            place = sample.place_for(int(kind))
            if place is not None:
                kept[kind][place : place + 1] = [
                    (
                        found.pixels[n].copy(),
                        found.levels[n],
                        found.labels[n].copy(),
                        found.centres[n],
                        index + 1,
                    )
                ]
    chosen = [cell for cells in kept for cell in cells]
    size = batches.WINDOW_PX
    windows = crops.Windows(
        np.array([cell[0] for cell in chosen], np.uint8).reshape(-1, size, size, 2),
        np.array([cell[1] for cell in chosen], np.float32),
        np.array([cell[2] for cell in chosen], np.int32).reshape(-1, size, size),
        np.array([cell[3] for cell in chosen], np.float32).reshape(-1, 2),
    )
    own = np.array([cell[4] for cell in chosen], np.int32)
    type_ids = np.repeat(np.arange(len(kept), dtype=np.int32), [len(k) for k in kept])
    return batches.Examples(windows, own, type_ids)


def fit(
    examples: batches.Examples,
    record: finished.NamerTraining,
    validation: batches.Examples | None = None,
) -> tuple[tf_keras.Model, float | None]:
    """Trains a namer.

    Args:
      examples: training cells.
      record: says types, steps, seed and starting weights.
      validation: cells on which accuracy is measured from time to time and at the end;
        they do not influence the training.

    Returns:
      The trained network and its accuracy on the validation cells; None without any.

    Raises:
      InputError: if the loss becomes NaN or infinite, or the starting weights do not fit.
    """
    if validation is not None and not len(validation.own):
        validation = None
    with keras_state.precision("float32"), keras_state.random_seed(record.seed):
        model = network.build(len(record.type_names))
        weights.load(model, record.type_names, record.starting_weights)
        step = _make_step(model, record.steps)
        accuracy = None
        data = _dataset(examples, record.seed)
        bar = progress_bar(
            data.take(record.steps), "namer", total=record.steps, unit="step"
        )
        for number, (seen, types) in enumerate(bar, start=1):
            loss = float(step(seen, types))
            if not np.isfinite(loss):
                raise InputError(
                    f"The loss of the namer became NaN or infinite at step {number}. "
                    "Train without the namer: --namer=false."
                )
            last = number == record.steps
            if validation is not None and (last or not number % _STEPS_BETWEEN_REPORTS):
                accuracy = _accuracy(model, validation)
            scores = {} if accuracy is None else {"validation": f"{accuracy:.3f}"}
            bar.set_postfix(loss=f"{loss:.3f}", **scores, refresh=False)
    if validation is not None and accuracy is not None:
        logger.info(
            "Namer: type accuracy %.3f on %d validation cells.",
            accuracy,
            len(validation.own),
        )
    return model, accuracy


def probabilities_of(model: tf_keras.Model, cut: np.ndarray) -> np.ndarray:
    """Returns the types' probabilities, (N, K) float32, for (N, 64, 64, 2) uint8 crops."""
    step = crops.CROPS_A_CALL
    parts = [
        tf.nn.softmax(model(normalise(cut[i : i + step]))["logits"]).numpy()
        for i in range(0, len(cut), step)
    ]
    return np.concatenate(parts or [np.zeros((0, model.output["logits"].shape[1]))])


def normalise(cut: np.ndarray | tf.Tensor) -> tf.Tensor:
    """Converts uint8 crops to float32 in [0, 1]."""
    return tf.cast(cut, tf.float32) / 255


def _fields(
    task: config.CellMaskRCNNTask, data: config.DataConfig
) -> Iterator[reading.Field]:
    return reading.decoded_fields(data, data.tfds_split, task.type_names)


def _dataset(examples: batches.Examples, seed: int) -> tf.data.Dataset:
    size = crops.CROP_PX
    return tf.data.Dataset.from_generator(
        lambda: batches.draw_batches(examples, seed),
        output_signature=(
            tf.TensorSpec([None, size, size, 2], tf.float32),
            tf.TensorSpec([None], tf.int32),
        ),
    ).prefetch(2)


def _make_step(
    model: tf_keras.Model, steps: int
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns the function that does a training step and returns the loss."""
    warm_up = min(_WARM_UP_STEPS, steps // 10)
    rate = tf_keras.optimizers.schedules.CosineDecay(
        0.0 if warm_up else _RATE,
        max(1, steps - warm_up),
        warmup_target=_RATE if warm_up else None,
        warmup_steps=warm_up,
    )
    optimizer = tf_keras.optimizers.Adam(rate, global_clipnorm=5.0)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(seen: tf.Tensor, types: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(seen, training=True)["logits"]
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(types, logits)
            )
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True)
        )
        return loss

    return step


def _accuracy(model: tf_keras.Model, examples: batches.Examples) -> float:
    windows = examples.windows
    cut = [
        crops.cut(window, centre)
        for window, centre in zip(windows.pixels, windows.centres, strict=True)
    ]
    seen = crops.scale_nuclei(np.stack(cut), windows.levels)
    called = probabilities_of(model, seen).argmax(axis=1)
    return float((called == examples.type_ids).mean())
