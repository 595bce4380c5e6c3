"""Exports a trained checkpoint to a SavedModel that TensorFlow alone can run."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

import cellclass_tf
from cellclass_tf import process_state
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.model_metadata import METADATA_FILE, ModelMetadata
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import (
    calibration,
    config,
    keras_state,
    network,
    postprocessing,
    predictor,
    runs,
    serving,
)
from cellclass_tf.maskrcnn.input import network_input, reading
from cellclass_tf.splits.assignment import COMPOSED
from cellclass_tf.storage import atomic

RELIABILITY_FILE = "reliability.png"


@process_state.keep()
def export(
    experiment: str,
    checkpoint: str | os.PathLike,
    output: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    calibrate: bool = True,
) -> pathlib.Path:
    """Writes a SavedModel of a training run, whole or not at all.

    Its signature takes `images` (B, S, S, 3) uint8, tiles of the merged image resized
    by the `scale` in cellclass.json, and gives, for D detections a tile:
    detection_boxes (B, D, 4) float32 [top, left, bottom, right) in the tile's pixels,
    detection_outer_boxes (B, D, 4), somewhat wider, detection_scores (B, D),
    detection_probabilities (B, D, K), detection_masks (B, D, m, m) in [0, 1] inside the
    outer boxes, and num_detections (B,).

    Where masks end and how sure calls are is fitted on the splits validation and
    composed (see `calibration.Calibrator`), and drawn in reliability.png.

    The model computes in float32, whatever precision it was trained in.

    Args:
      experiment: the experiment that was trained.
      checkpoint: its folder, of which the best checkpoint by validation is taken, or
        else the last; or one checkpoint in it.
      output: folder of the SavedModel; an earlier one in it is replaced.
      data_dir: where the dataset of the training is now; None to look where it was, and
        where it is if it was moved together with the training run.
      calibrate: False to export without the dataset: masks end at one half, and scores
        and probabilities stay the network's own.

    Returns:
      `output`.

    Raises:
      InputError: if there is no such checkpoint, `output` holds something else, or the
        dataset of the training is not found.
    """
    path = runs.checkpoint_in(checkpoint)
    output = pathlib.Path(output)
    atomic.recover_folder(output)
    _check_output(output)
    run = runs.folder_of(path)
    params = runs.load_params(experiment, run)
    dataset = runs.find_dataset(run, params.task, data_dir) if calibrate else None
    with atomic.atomic_folder(output) as temporary:
        # New layers draw random weights before they get those of the checkpoint.
        with keras_state.precision("float32"), keras_state.random_seed(0):
            model = network.build_model(params.task, params.task.export_size_px)
            runs.restore(model, path)
            serving.for_serving(model)
            _save(model, params, experiment, path, temporary)
        if dataset is not None:
            _calibrate(temporary, params.task, dataset)
    return output


def _check_output(output: pathlib.Path) -> None:
    """Raises InputError if the folder holds anything but an earlier model."""
    is_model = (output / METADATA_FILE).exists()
    if output.exists() and not is_model and (output.is_file() or any(output.iterdir())):
        raise InputError(
            f"{output} exists and is no exported model; choose a folder for the model."
        )


def _save(model, params, experiment: str, checkpoint: str, folder) -> None:
    module = _module(model, params.task)
    tf.saved_model.save(
        module,
        os.fspath(folder),
        signatures={"serving_default": module.serve, "name": module.name_cells},
    )
    facts = params.task
    metadata = ModelMetadata(
        type_names=tuple(facts.type_names),
        tile_px=facts.export_size_px,
        scale=facts.scale,
        model_diameter_px=facts.model_diameter_px,
        cell_diameter_px=facts.cell_diameter_px,
        pixel_size_um=facts.pixel_size_um or None,
        grayscale=facts.grayscale,
        experiment=experiment,
        checkpoint=pathlib.Path(checkpoint).name,
        train_steps=params.trainer.train_steps,
        dataset_fingerprint=facts.fingerprint,
        cellclass_tf=cellclass_tf.__version__,
        tensorflow=tf.__version__,
    )
    metadata.write(pathlib.Path(folder) / METADATA_FILE)


def _calibrate(
    folder: pathlib.Path, task_config: config.CellMaskRCNNTask, dataset: tfds.core.Path
) -> None:
    """Fits thresholds and temperature on the held-out splits, where there are any."""
    model = predictor.Predictor.load(folder)
    calibrator = calibration.Calibrator(model.type_names)
    data = task_config.validation_data
    splits = (data.tfds_split, COMPOSED)
    fields = itertools.chain.from_iterable(
        _fields(task_config, dataset, split) for split in splits
    )
    for image, true, pixel_size_um in itertools.islice(fields, calibration.MOST_FIELDS):
        detections = model.detect(
            image,
            scale=model.scale_for(pixel_size_um),
            score_threshold=postprocessing.SCORE_THRESHOLD,
        )
        calibrator.add(detections, true)
    found = calibrator.fit()
    if found is None:
        logging.warning(
            "Not calibrated: in the validation fields no cell was found again, or there "
            "are none. Probabilities are the network's own."
        )
        return
    metadata = dataclasses.replace(
        model.metadata,
        mask_threshold=found.mask_threshold,
        score_threshold=found.score_threshold,
        temperature=found.temperature,
        calibration=found.record(),
    )
    metadata.write(folder / METADATA_FILE)
    (folder / RELIABILITY_FILE).write_bytes(calibration.reliability_png(found))
    logging.info(
        "Calibrated on %d cells of %d held-out fields: masks end at %.2f, cells have "
        "scores from %.2f on, temperature %.2f; expected calibration error %.3f (before "
        "%.3f).",
        found.cells,
        found.fields,
        found.mask_threshold,
        found.score_threshold,
        found.temperature,
        found.after.expected_error,
        found.before.expected_error,
    )


def _fields(
    task_config: config.CellMaskRCNNTask, dataset: tfds.core.Path, split: str
) -> Iterator[tuple[np.ndarray, Cells, float]]:
    """Yields image, cells and pixel size of each field of a split, if there is one."""
    builder = tfds.builder_from_directory(dataset)
    if split not in builder.info.splits:
        return
    # DATA_DIR/NAME/CONFIG/VERSION
    data_dir = os.fspath(dataset.parents[2])
    data = task_config.validation_data.replace(
        tfds_split=split, tfds_data_dir=data_dir, cache=False
    )
    for field in reading.fields_of(data):
        image = reading.decode(field)[0].numpy()
        true = reading.cells_of(field, task_config.type_names)
        yield image, true, float(field["pixel_size_um"])


def _module(model, task_config) -> tf.Module:
    """What the SavedModel holds: the network's variables and two functions.

    `serve` outlines and names the cells of tiles; `name_cells` names the cells in
    any number of given boxes.
    """
    options, size = task_config.model, task_config.export_size_px

    def serve(images):
        batch = tf.shape(images)[0]
        anchors = {
            level: tf.tile(boxes[tf.newaxis], [batch, 1, 1, 1])
            for level, boxes in network_input.build_anchors(options, size).items()
        }
        outputs = model(
            network_input.normalise(images, grayscale=task_config.grayscale),
            image_shape=tf.fill([batch, 2], float(size)),
            anchor_boxes=anchors,
            training=False,
        )
        return {
            name: tf.cast(outputs[name], dtype)
            for name, dtype in network.OUTPUTS.items()
        }

    def name_cells(images, boxes):
        scores, probabilities = model.types_at(
            network_input.normalise(images, grayscale=task_config.grayscale), boxes
        )
        return {"scores": scores, "probabilities": probabilities}

    # Keras, given the model itself, would save its training calls too, and they need
    # targets that a served model does not have.
    module = tf.Module()
    module.model_variables = model.variables
    spec = tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")
    module.serve = tf.function(serve, input_signature=[spec])
    boxes = tf.TensorSpec([None, None, 4], tf.float32, name="boxes")
    module.name_cells = tf.function(name_cells, input_signature=[spec, boxes])
    return module
