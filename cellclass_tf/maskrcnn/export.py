"""Exports a trained checkpoint to a SavedModel that TensorFlow alone can run."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg

import cellclass_tf
from cellclass_tf import process_state
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
from cellclass_tf.maskrcnn.cell_namer import crops
from cellclass_tf.maskrcnn.cell_namer import training as cell_namer
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
    views: int | None = None,
) -> pathlib.Path:
    """Writes a SavedModel of one or several training runs, whole or not at all.

    Its signature takes `images` (B, S, S, 3) uint8, tiles of the merged image resized
    by the `scale` in cellclass.json, and gives, for D detections a tile:
    detection_boxes (B, D, 4) float32 [top, left, bottom, right) in the tile's pixels,
    detection_outer_boxes (B, D, 4), somewhat wider, detection_scores (B, D),
    detection_probabilities (B, D, K), detection_masks (B, D, m, m) in [0, 1] inside the
    outer boxes, detection_features (B, D, F), what the network sees in a box, averaged
    over it, and num_detections (B,).

    A second signature, `name`, takes `images` and `boxes` (B, N, 4) float32, [top, left,
    bottom, right) in the tile's pixels, any number of them, and gives `scores` (B, N),
    `probabilities` (B, N, K) and `features` (B, N, F).

    If the runs have namers, a third signature, `name_crops`, takes `crops` (N, 64, 64, 2)
    uint8, as `cell_namer.crops.crops_of` cuts them, and gives `probabilities` (N, K) and
    `features` (N, F). Detector, namer or both together name the cells, whichever gives
    the types of the held-out cells the greatest likelihood; without such cells, both.

    Of several runs the first one outlines the cells, and all name them: probabilities are
    the geometric mean of theirs, and scores the mean.

    Where masks end and how sure calls are is fitted on the splits validation and
    composed (see `calibration.Calibrator`), and drawn in reliability.png. How sure calls
    are in given outlines is measured in those of the dataset, and in those that each of
    `annotators` draws.

    The model computes in float32, whatever precision it was trained in.

    Args:
      experiment: the experiment that was trained.
      checkpoint: its folder, of which the best checkpoint by validation is taken, or
        else the last; or one checkpoint in it; or several of these, of one dataset.
      output: folder of the SavedModel; an earlier one in it is replaced.
      data_dir: where the dataset of the training is now; None to look where it was, and
        where it is if it was moved together with the training run.
      calibrate: False to export without the dataset: masks end at one half, and scores
        and probabilities stay the network's own.
      annotators: whose outlines are to be named, such as `annotation.annotators`'s.
      views: number of views (rotated, mirrored, enlarged) of a field that are predicted and merged,
        1 to 8; None for the number in the training's parameters (8 after training on few
        cells, else 1).

    Returns:
      `output`.

    Raises:
      InputError: if there is no such checkpoint, `output` holds something else, the
        dataset of the training is not found, or networks do not go together.
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
        # New layers draw random weights before they get those of the checkpoint.
        with keras_state.precision("float32"), keras_state.random_seed(0):
            models = [
                _load(each.task, path) for each, path in zip(params, paths, strict=True)
            ]
            namers = _load_namers(folders, params)
            _save(models, namers, params, experiment, paths, temporary)
        if dataset is not None:
            held_out.measure(temporary, task, dataset, annotators)
    return output


def _check_views(views: int) -> None:
    if not 1 <= views <= MOST_VIEWS:
        raise InputError(f"Expected 1 to {MOST_VIEWS} views; got {views}.")


def _check_go_together(
    folders: Sequence[pathlib.Path], params: Sequence[cfg.ExperimentConfig]
) -> None:
    """Raises InputError if networks were not trained to see the same in the same way."""
    told = ("fingerprint", "type_names", "scale", "export_size_px", "grayscale")
    for folder, other in zip(folders, params, strict=True):
        for name in told:
            first, found = (getattr(p.task, name) for p in (params[0], other))
            if first != found:
                raise InputError(
                    f"{folder}: {name} is {found}, and {first} in {folders[0]}. Networks "
                    "that name cells together are trained on one dataset, with the same "
                    "size of cells and tiles."
                )


def _load(task: config.CellMaskRCNNTask, path: str) -> network.CellMaskRCNN:
    model = network.build_model(task, task.export_size_px)
    runs.restore(model, path)
    serving.for_serving(model)
    return model


def _load_namers(
    folders: Sequence[pathlib.Path], params: Sequence[cfg.ExperimentConfig]
) -> list[tf_keras.Model]:
    """Loads the namers that the runs have."""
    namers = []
    for folder, each in zip(folders, params, strict=True):
        found = cell_namer.load(folder)
        if found is None:
            continue
        model, record = found
        if record.dataset_fingerprint == each.task.fingerprint:
            namers.append(model)
        else:
            logger.warning(
                "%s: its namer was trained on another dataset, and is left out.", folder
            )
    return namers


def _check_output(output: pathlib.Path) -> None:
    """Raises InputError if the folder holds anything but an earlier model."""
    is_model = (output / METADATA_FILE).exists()
    if output.exists() and not is_model and (output.is_file() or any(output.iterdir())):
        raise InputError(
            f"{output} exists and is no exported model; choose a folder for the model."
        )


def _save(
    models: Sequence[network.CellMaskRCNN],
    namers: Sequence[tf_keras.Model],
    params: Sequence[cfg.ExperimentConfig],
    experiment: str,
    checkpoints: Sequence[str],
    folder: pathlib.Path,
) -> None:
    first = params[0]
    module = _module(models, first.task)
    signatures = {"serving_default": module.serve, "name": module.name_cells}
    if namers:
        _add_namers(module, namers)
        signatures["name_crops"] = module.name_crops
    tf.saved_model.save(module, os.fspath(folder), signatures=signatures)
    facts = first.task
    metadata = ModelMetadata(
        type_names=tuple(facts.type_names),
        tile_px=facts.export_size_px,
        scale=facts.scale,
        model_diameter_px=facts.model_diameter_px,
        cell_diameter_px=facts.cell_diameter_px,
        pixel_size_um=facts.pixel_size_um or None,
        grayscale=facts.grayscale,
        experiment=experiment,
        checkpoint=", ".join(pathlib.Path(path).name for path in checkpoints),
        networks=len(models),
        views=facts.views,
        namer=NamerRecord(crops.scale_for(facts.cell_diameter_px)) if namers else None,
        train_steps=first.trainer.train_steps,
        dataset_fingerprint=facts.fingerprint,
        labelled_images=tuple(
            sorted({name for each in params for name in each.task.labelled_images})
        ),
        cellclass_tf=cellclass_tf.__version__,
        tensorflow=tf.__version__,
    )
    metadata.write(folder / METADATA_FILE)


def _module(
    models: Sequence[network.CellMaskRCNN], task_config: config.CellMaskRCNNTask
) -> tf.Module:
    """What the SavedModel holds: the networks' variables and two functions.

    `serve` outlines and names the cells of tiles; `name_cells` names the cells in
    any number of given boxes.
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
        # What a cell looks like is told by one.
        return means | {"features": named[0]["features"]}

    # Keras, given the model itself, would save its training calls too, and they need
    # targets that a served model does not have.
    module = tf.Module()
    module.model_variables = [model.variables for model in models]
    spec = tf.TensorSpec([None, size, size, 3], tf.uint8, name="images")
    module.serve = tf.function(serve, input_signature=[spec])
    boxes = tf.TensorSpec([None, None, 4], tf.float32, name="boxes")
    module.name_cells = tf.function(name_cells, input_signature=[spec, boxes])
    return module


def _add_namers(module: tf.Module, namers: Sequence[tf_keras.Model]) -> None:
    """Adds the function that names crops, by the geometric mean of the namers."""

    def name_crops(crops: tf.Tensor) -> dict[str, tf.Tensor]:
        named = [namer(cell_namer.normalise(crops), training=False) for namer in namers]
        return {
            "probabilities": _geometric_mean(
                [tf.nn.softmax(n["logits"]) for n in named]
            ),
            # What a cell looks like is told by one.
            "features": named[0]["features"],
        }

    module.namer_variables = [namer.variables for namer in namers]
    shape = [None, crops.CROP_PX, crops.CROP_PX, 2]
    spec = tf.TensorSpec(shape, tf.uint8, name="crops")
    module.name_crops = tf.function(name_crops, input_signature=[spec])


def _mean(values: Sequence[tf.Tensor]) -> tf.Tensor:
    return values[0] if len(values) == 1 else tf.reduce_mean(tf.stack(values), axis=0)


def _geometric_mean(probabilities: Sequence[tf.Tensor]) -> tf.Tensor:
    """Of several networks' (B, N, K) probabilities, the mean whose rows sum to 1."""
    if len(probabilities) == 1:
        return probabilities[0]
    logs = [tf.math.log(tf.maximum(values, 1e-12)) for values in probabilities]
    return tf.nn.softmax(_mean(logs))


_MEANS = {"scores": _mean, "probabilities": _geometric_mean}
