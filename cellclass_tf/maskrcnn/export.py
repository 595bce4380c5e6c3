"""Exports a trained checkpoint to a SavedModel that TensorFlow alone can run."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile

import tensorflow as tf

import cellclass_tf
from cellclass_tf import files
from cellclass_tf.files import InputError
from cellclass_tf.maskrcnn import inputs, predictor, task, training

_OUTPUTS = {
    "detection_boxes": tf.float32,
    "detection_scores": tf.float32,
    "detection_probabilities": tf.float32,
    "detection_masks": tf.float32,
    "num_detections": tf.int32,
}


def export(
    experiment: str, checkpoint: str | os.PathLike, output: str | os.PathLike
) -> pathlib.Path:
    """Writes a SavedModel of a training run, whole or not at all.

    Its signature takes `images` (B, S, S, 3) uint8, tiles of the merged image resized
    by the `scale` in cellclass.json, and gives, for D detections a tile:
    detection_boxes (B, D, 4) float32 [top, left, bottom, right) in the tile's pixels,
    detection_scores (B, D), detection_probabilities (B, D, K), detection_masks
    (B, D, m, m) in [0, 1] inside the boxes, and num_detections (B,).

    Args:
      experiment: the experiment that was trained.
      checkpoint: its folder, or one checkpoint in it.
      output: folder of the SavedModel; an earlier one in it is replaced.

    Returns:
      `output`.

    Raises:
      InputError: if there is no such checkpoint, or `output` holds something else.
    """
    checkpoint = pathlib.Path(checkpoint)
    found = checkpoint.is_dir() and tf.train.latest_checkpoint(os.fspath(checkpoint))
    path = found or os.fspath(checkpoint)
    if not pathlib.Path(f"{path}.index").exists():
        raise InputError(f"{checkpoint}: no checkpoint there. Train a model first.")
    output = pathlib.Path(output)
    _check_output(output)
    params = training.load_params(experiment, pathlib.Path(path).parent)
    model = task.build_model(params.task, params.task.export_size_px)
    status = tf.train.Checkpoint(model=model).restore(path)
    status.expect_partial().assert_existing_objects_matched()
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(
        tempfile.mkdtemp(dir=output.parent, prefix=files.PART_PREFIX)
    )
    try:
        _save(model, params, experiment, path, temporary)
        temporary.chmod(0o755)
        _swap(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return output


def _check_output(output: pathlib.Path) -> None:
    """Raises InputError if the folder holds anything but an earlier model."""
    is_model = (output / predictor.METADATA_FILE).exists()
    if output.exists() and not is_model and (output.is_file() or any(output.iterdir())):
        raise InputError(
            f"{output} exists and is no exported model; choose a folder for the model."
        )


def _swap(new: pathlib.Path, output: pathlib.Path) -> None:
    """Puts the new folder in the place of the old one, which goes last."""
    old = new.with_name(f"{new.name}-old")
    if output.exists():
        output.replace(old)
    new.replace(output)
    shutil.rmtree(old, ignore_errors=True)


def _save(model, params, experiment: str, checkpoint: str, folder) -> None:
    module = _module(model, params.task)
    tf.saved_model.save(
        module, os.fspath(folder), signatures={"serving_default": module.serve}
    )
    facts = params.task
    content = {
        "format": predictor.FORMAT,
        "type_names": list(facts.type_names),
        "tile_px": facts.export_size_px,
        "scale": facts.scale,
        "model_diameter_px": facts.model_diameter_px,
        "cell_diameter_px": facts.cell_diameter_px,
        "pixel_size_um": facts.pixel_size_um or None,
        "experiment": experiment,
        "checkpoint": pathlib.Path(checkpoint).name,
        "train_steps": params.trainer.train_steps,
        "dataset_fingerprint": facts.fingerprint,
        "cellclass_tf": cellclass_tf.__version__,
        "tensorflow": tf.__version__,
    }
    files.write_json(pathlib.Path(folder) / predictor.METADATA_FILE, content)


def _module(model, task_config) -> tf.Module:
    """What the SavedModel holds: the network's variables and one function."""
    options, size = task_config.model, task_config.export_size_px

    def serve(images):
        batch = tf.shape(images)[0]
        anchors = {
            level: tf.tile(boxes[tf.newaxis], [batch, 1, 1, 1])
            for level, boxes in inputs.build_anchors(options, size).items()
        }
        outputs = model(
            inputs.normalise(images),
            image_shape=tf.fill([batch, 2], float(size)),
            anchor_boxes=anchors,
            training=False,
        )
        return {name: tf.cast(outputs[name], dtype) for name, dtype in _OUTPUTS.items()}

    # Keras, given the model itself, would save its training calls too, and they need
    # targets that a served model does not have.
    module = tf.Module()
    module.model_variables = model.variables
    spec = tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")
    module.serve = tf.function(serve, input_signature=[spec])
    return module
