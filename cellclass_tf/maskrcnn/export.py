"""Exports a trained checkpoint to a SavedModel that TensorFlow alone can run."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import tensorflow as tf
import tensorflow_datasets as tfds
import tf_keras
from official.core import config_definitions as cfg

import cellclass_tf
from cellclass_tf import process_state
from cellclass_tf.core.encoder_weights import EncoderWeights
from cellclass_tf.core.model_metadata import (
    METADATA_FILE,
    MOST_VIEWS,
    ModelMetadata,
    NamerRecord,
)
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import (
    config,
    held_out,
    keras_state,
    network,
    runs,
    serving,
)
from cellclass_tf.maskrcnn.cell_namer import crops, finished
from cellclass_tf.maskrcnn.cell_namer import training as cell_namer
from cellclass_tf.maskrcnn.cellpose_features import training
from cellclass_tf.maskrcnn.input import network_input
from cellclass_tf.messages import logger
from cellclass_tf.storage import atomic


@process_state.keep()
def export(
    experiment: str,
    checkpoint: str | os.PathLike | Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    calibrate: bool = True,
    annotators: Sequence[held_out.HeldOutAnnotator] = (),
    encoder_weights: EncoderWeights | None = None,
    views: int | None = None,
) -> pathlib.Path:
    """Writes a SavedModel of one or several training runs.

    The folder is replaced as a whole, so an interrupted export leaves the previous model.

    The signature `serving_default` takes `images` (B, S, S, 3) uint8: tiles of the merged
    image, resized by the `scale` in cellclass.json. It returns, for up to D detections per
    tile, detection_boxes (B, D, 4) float32 [top, left, bottom, right) in pixels of the
    tile; detection_outer_boxes (B, D, 4), which are somewhat wider; detection_scores
    (B, D); detection_probabilities (B, D, K); detection_masks (B, D, m, m) in [0, 1],
    which fill the outer boxes; detection_features (B, D, F), the features averaged over
    the box; and num_detections (B,).

    The signature `name` classifies cells in given boxes. It takes `images` and any number
    of `boxes` (B, N, 4) float32 [top, left, bottom, right) in pixels of the tile, and
    returns `scores` (B, N), `probabilities` (B, N, K) and `features` (B, N, F).

    If the runs have namers, the signature `name_crops` takes `crops` (N, 64, 64, 2) uint8,
    cut by `cell_namer.crops.crops_of`, and returns `probabilities` (N, K) and `features`
    (N, F).

    With `encoder_weights` the model gets an encoder of cellpose, and a linear classifier of
    its features that is fitted on the training fields. The signature `encode` takes `planes`
    (B, H, W, 2) float32, see `cellpose_features.encoder.Encoder.encode`, and returns `level_0` to
    `level_3`; `name_features` takes `features` (N, F) float32, see
    `cellpose_features.pooling.features_of`, and returns `probabilities` (N, K).

    Of detector, namer and features, the combination is used that names the types of the
    held-out cells best, see `calibration.choose_naming`; all of them if a type has no such
    cells.

    If there are several runs, the first one outlines the cells, and all classify them:
    probabilities are the geometric mean over the networks, and scores are the mean.

    Thresholds and temperature are fitted on the splits `validation` and `composed` (see
    `calibration.Calibrator`); reliability.png shows the result. For cells in given
    outlines, they are fitted on the outlines of the dataset and on those of each of
    `annotators`.

    The model computes in float32, whatever precision it was trained in.

    Args:
      experiment: the experiment that was trained.
      checkpoint: folder of a training run, of which the checkpoint with the best
        validation score is taken, or else the last one; or one checkpoint in such a
        folder; or several of these, trained on one dataset.
      output: folder of the SavedModel; an earlier model in it is replaced.
      data_dir: data directory of the training's dataset; None to look for it where it was
        during training, or beside the training run if both were moved together.
      calibrate: False exports without the dataset: masks end at 0.5, and scores and
        probabilities are not calibrated.
      annotators: segmentation methods whose outlines will be classified, such as those of
        `annotation.annotators`.
      encoder_weights: weights of the encoder of a U-net of cellpose; not used without the
        dataset.
      views: number of views (rotated, mirrored, enlarged) of a field that are predicted
        and merged, 1 to 8; None for the number in the training's parameters (8 after
        training on few cells, else 1).

    Returns:
      `output`.

    Raises:
      InputError: if there is no such checkpoint, `output` contains something else, the
        dataset of the training is not found, or the networks cannot be combined.
    """
    if isinstance(checkpoint, (str, os.PathLike)):
        checkpoint = [checkpoint]
    paths = [runs.checkpoint_in(place) for place in checkpoint]
    output = pathlib.Path(output)
    atomic.recover_folder(output)
    _check_output(output)
    folders = [runs.folder_of(path) for path in paths]
    params = [runs.load_params(experiment, folder) for folder in folders]
    _check_go_together(folders, params)
    task = params[0].task
    if views is not None:
        _check_views(views)
        task.views = views
    dataset = runs.find_dataset(folders[0], task, data_dir) if calibrate else None
    with atomic.atomic_folder(output) as temporary:
        # New layers get random weights before the checkpoint's weights are assigned.
        with keras_state.precision("float32"), keras_state.random_seed(0):
            models = [
                _load(each.task, path) for each, path in zip(params, paths, strict=True)
            ]
            namers = _load_namers(folders, params)
            described = _describe(params, experiment, paths)
            module = _module(models, task)
            if namers:
                _add_namers(module, namers)
                scale = crops.scale_for(task.cell_diameter_px)
                described = dataclasses.replace(described, namer=NamerRecord(scale))
            features = _train_on_features(encoder_weights, task, dataset)
            if features is not None:
                _add_features(module, features)
                described = dataclasses.replace(
                    described, cellpose_features=features.record
                )
            # Those that are better than all together are chosen on held-out fields.
            described = dataclasses.replace(described, named_by=described.classifiers)
            _save(module, described, temporary)
        if dataset is not None:
            held_out.measure(temporary, task, dataset, annotators)
    return output


def _check_views(views: int) -> None:
    if not 1 <= views <= MOST_VIEWS:
        raise InputError(f"Expected 1 to {MOST_VIEWS} views; got {views}.")


def _check_go_together(
    folders: Sequence[pathlib.Path], params: Sequence[cfg.ExperimentConfig]
) -> None:
    """Raises InputError if networks differ in dataset, types, scale, tiles or channels."""
    compared = ("fingerprint", "type_names", "scale", "export_size_px", "grayscale")
    for folder, other in zip(folders, params, strict=True):
        for name in compared:
            first, found = (getattr(p.task, name) for p in (params[0], other))
            if first != found:
                raise InputError(
                    f"{folder}: {name} is {found}, but {first} in {folders[0]}. Networks "
                    "in one model must be trained on the same dataset, with the same "
                    "cell diameter and tile size."
                )


def _load(task: config.CellMaskRCNNTask, path: str) -> network.CellMaskRCNN:
    model = network.build_model(task, task.export_size_px)
    runs.restore(model, path)
    serving.for_serving(model)
    return model


def _load_namers(
    folders: Sequence[pathlib.Path], params: Sequence[cfg.ExperimentConfig]
) -> list[tf_keras.Model]:
    """Loads the namers of those runs that have one."""
    namers = []
    for folder, each in zip(folders, params, strict=True):
        found = finished.load(folder)
        if found is None:
            continue
        model, record = found
        if record.dataset_fingerprint == each.task.fingerprint:
            namers.append(model)
        else:
            logger.warning(
                "%s: its namer was trained on another dataset and is not exported. Train "
                "again to get a namer for this dataset.",
                folder,
            )
    return namers


def _check_output(output: pathlib.Path) -> None:
    """Raises InputError if the folder holds anything but an earlier model."""
    is_model = (output / METADATA_FILE).exists()
    if output.exists() and not is_model and (output.is_file() or any(output.iterdir())):
        raise InputError(
            f"{output} exists and is not an exported model. Choose a new folder."
        )


def _train_on_features(
    weights: EncoderWeights | None,
    task: config.CellMaskRCNNTask,
    dataset: tfds.core.Path | None,
) -> training.Trained | None:
    if dataset is None or weights is None:
        return None
    fields = held_out.fields_of(task, dataset, task.train_data.tfds_split)
    return training.train(weights, task, fields)


def _save(module: tf.Module, metadata: ModelMetadata, folder: pathlib.Path) -> None:
    signatures = {
        key: getattr(module, name)
        for key, name in _SIGNATURES.items()
        if hasattr(module, name)
    }
    tf.saved_model.save(module, os.fspath(folder), signatures=signatures)
    metadata.write(folder / METADATA_FILE)


def _describe(
    params: Sequence[cfg.ExperimentConfig], experiment: str, checkpoints: Sequence[str]
) -> ModelMetadata:
    """Returns the metadata of a model that is not calibrated and has only the detector."""
    first, task = params[0], params[0].task
    return ModelMetadata(
        type_names=tuple(task.type_names),
        tile_px=task.export_size_px,
        scale=task.scale,
        model_diameter_px=task.model_diameter_px,
        cell_diameter_px=task.cell_diameter_px,
        pixel_size_um=task.pixel_size_um or None,
        grayscale=task.grayscale,
        experiment=experiment,
        checkpoint=", ".join(pathlib.Path(path).name for path in checkpoints),
        networks=len(params),
        views=task.views,
        train_steps=first.trainer.train_steps,
        dataset_fingerprint=task.fingerprint,
        labelled_images=tuple(
            sorted({name for each in params for name in each.task.labelled_images})
        ),
        cellclass_tf=cellclass_tf.__version__,
        tensorflow=tf.__version__,
    )


def _module(
    models: Sequence[network.CellMaskRCNN], task_config: config.CellMaskRCNNTask
) -> tf.Module:
    """Returns the module to save: the networks' variables and two functions.

    `serve` outlines and classifies the cells of tiles; `name_cells` classifies the cells
    in any number of given boxes.
    """
    first, *others = models
    options, size = task_config.model, task_config.export_size_px

    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = tf.shape(images)[0]
        anchors = {
            level: tf.tile(boxes[tf.newaxis], [batch, 1, 1, 1])
            for level, boxes in network_input.build_anchors(options, size).items()
        }
        seen = network_input.normalise(images, grayscale=task_config.grayscale)
        outputs = first(
            seen,
            image_shape=tf.fill([batch, 2], float(size)),
            anchor_boxes=anchors,
            training=False,
        )
        boxes = outputs["detection_boxes"]
        features = first.features_in(outputs["decoder_features"], boxes)
        outputs = {
            name: tf.cast(outputs[name], dtype)
            for name, dtype in network.OUTPUTS.items()
        } | {"detection_features": features}
        named = [other.types_at(seen, boxes) for other in others]
        own = {name: outputs[f"detection_{name}"] for name in _MEANS}
        for name, mean in _MEANS.items():
            outputs[f"detection_{name}"] = mean([own[name], *(n[name] for n in named)])
        return outputs

    def name_cells(images: tf.Tensor, boxes: tf.Tensor) -> dict[str, tf.Tensor]:
        seen = network_input.normalise(images, grayscale=task_config.grayscale)
        named = [model.types_at(seen, boxes) for model in models]
        means = {name: mean([n[name] for n in named]) for name, mean in _MEANS.items()}
        # Features of different networks cannot be averaged: use those of the first.
        return means | {"features": named[0]["features"]}

    # Saving the Keras model itself would also trace its training calls, which need targets.
    module = tf.Module()
    module.model_variables = [model.variables for model in models]
    spec = tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")
    module.serve = tf.function(serve, input_signature=[spec])
    boxes = tf.TensorSpec([None, None, 4], tf.float32, name="boxes")
    module.name_cells = tf.function(name_cells, input_signature=[spec, boxes])
    return module


def _add_namers(module: tf.Module, namers: Sequence[tf_keras.Model]) -> None:
    """Adds the function that classifies crops by the geometric mean of the namers."""

    def name_crops(crops: tf.Tensor) -> dict[str, tf.Tensor]:
        named = [namer(cell_namer.normalise(crops), training=False) for namer in namers]
        return {
            "probabilities": _geometric_mean(
                [tf.nn.softmax(n["logits"]) for n in named]
            ),
            # Those of the first, as in `name_cells`.
            "features": named[0]["features"],
        }

    module.namer_variables = [namer.variables for namer in namers]
    shape = [None, crops.CROP_PX, crops.CROP_PX, 2]
    spec = tf.TensorSpec(shape, tf.uint8, name="crops")
    module.name_crops = tf.function(name_crops, input_signature=[spec])


def _add_features(module: tf.Module, trained: training.Trained) -> None:
    """Adds the functions that compute and classify the features of cellpose's encoder."""
    module.encoder = trained.encoder
    module.feature_weights = tf.Variable(trained.linear.weights, trainable=False)
    module.feature_bias = tf.Variable(trained.linear.bias, trainable=False)

    def name_features(features: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = features @ module.feature_weights + module.feature_bias
        return {"probabilities": tf.nn.softmax(logits)}

    module.encode = trained.encoder.encode
    width = trained.linear.weights.shape[0]
    spec = tf.TensorSpec([None, width], tf.float32, name="features")
    module.name_features = tf.function(name_features, input_signature=[spec])


def _mean(values: Sequence[tf.Tensor]) -> tf.Tensor:
    return values[0] if len(values) == 1 else tf.reduce_mean(tf.stack(values), axis=0)


def _geometric_mean(probabilities: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the normalised geometric mean of several (..., K) probabilities."""
    if len(probabilities) == 1:
        return probabilities[0]
    logs = [tf.math.log(tf.maximum(values, 1e-12)) for values in probabilities]
    return tf.nn.softmax(_mean(logs))


# The signatures, and the functions of the module that they call.
_SIGNATURES = {
    "serving_default": "serve",
    "name": "name_cells",
    "name_crops": "name_crops",
    "encode": "encode",
    "name_features": "name_features",
}
_MEANS = {"scores": _mean, "probabilities": _geometric_mean}
