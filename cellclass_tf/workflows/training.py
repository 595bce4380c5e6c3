"""Prepares the dataset, trains and exports a model; heavy libraries load when called."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from cellclass_tf import batch, process_state
from cellclass_tf.annotation.annotators import by_name
from cellclass_tf.core.study import Study
from cellclass_tf.errors import FOR_TRAINING, require
from cellclass_tf.maskrcnn import hardware

if TYPE_CHECKING:
    from tfds_builders.preparation import Prepared

Experiment = Literal["cellclass_maskrcnn_small", "cellclass_maskrcnn"]


@process_state.keep()
@batch.takes_engine
def dataset(
    study: str | os.PathLike | Study,
    *,
    data_dir: str | os.PathLike | None = None,
    allow_no_validation: bool = False,
    engine: batch.Engine,
) -> Prepared:
    """Prepares the TFDS dataset of a study; a new version if the study has changed.

    Args:
      study: folder of the study.
      data_dir: folder or bucket for datasets; STUDY/tfds if not given.
      allow_no_validation: continue if a type has no dish that can be held out.
      processes: number of worker processes that check the images.
      engine: what runs the jobs; see docs/scaling.md.
      beam_options: flags for Apache Beam, with commas between them, such as
        '--runner=FlinkRunner,--parallelism=8'.

    Returns:
      The prepared dataset; load it with
      `tfds.load('cell_types/study', data_dir='STUDY/tfds')`.

    Raises:
      InputError: if the study has no annotated images, lacks a type or a dish to hold out,
        or the folder of datasets cannot be written to.
    """
    require("cellclass dataset", "tensorflow_datasets")
    import tfds_builders

    return tfds_builders.dataset(
        study, data_dir=data_dir, allow_no_validation=allow_no_validation, engine=engine
    )


@process_state.keep()
def train(
    study: str | os.PathLike,
    output: str | os.PathLike,
    *,
    experiment: Experiment = "cellclass_maskrcnn_small",
    data_dir: str | os.PathLike | None = None,
    dataset_version: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    init: str | os.PathLike | None = None,
    heads_steps: int | None = None,
    seed: int | None = None,
    precision: hardware.Precision = hardware.AUTO,
    params_override: str | None = None,
    namer: bool = True,
) -> pathlib.Path:
    """Trains a network on the dataset of a study; a run that was killed continues.

    Args:
      study: folder of the study, with a prepared dataset.
      output: folder for checkpoints, TensorBoard logs and params.yaml.
      experiment: network to train; see docs/training.md.
      data_dir: folder or bucket with the dataset; STUDY/tfds if not given.
      dataset_version: version of the dataset, such as '2.1.0'; the newest if not given.
      steps: number of training steps. If not given, 600 or 1,200 by the number of training
        cells for cellclass_maskrcnn_small, and 20,000 for cellclass_maskrcnn.
      minutes: time for training, instead of `steps`: a few steps are timed, and as many are
        done as fit into four fifths of it. The rest is for the namer and for evaluation.
      init: starting weights: 'simulated', 'random', 'imagenet', an .h5 file, a training run,
        or a checkpoint; the experiment's own if not given. The namer starts from random
        weights with 'random', from the namer of a training run, and else from the weights
        in the package.
      heads_steps: number of first steps in which only the heads are trained, at the full
        learning rate; all layers follow at a tenth of it.
      seed: seed of crops, augmentation and new weights; 0 if not given.
      precision: number format in which the network computes during training; 'auto' takes
        the fastest that the machine multiplies in hardware. Exported models compute in
        float32.
      params_override: changes to the experiment's parameters, such as
        'task.model_diameter_px=30,trainer.train_steps=500'.
      namer: also train a second network, which classifies cells by crops around their
        nuclei.

    Returns:
      `output`.

    Raises:
      InputError: if the experiment, a parameter or the precision is not known, both `steps`
        and `minutes` are given, there is no dataset, the study has changed since it was
        prepared, or `output` has checkpoints of another dataset.
    """
    require("cellclass train", *FOR_TRAINING)
    # Registers the study's dataset with TFDS.
    import tfds_builders  # noqa: F401
    from cellclass_tf.maskrcnn import training

    return training.train(
        experiment,
        output,
        study=study,
        data_dir=data_dir,
        dataset_version=dataset_version,
        steps=steps,
        minutes=minutes,
        init=init,
        heads_steps=heads_steps,
        seed=seed,
        precision=precision,
        params_override=params_override,
        namer=namer,
    )


@process_state.keep()
def export_model(
    training: str | os.PathLike | Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    data_dir: str | os.PathLike | None = None,
    outlines: Literal["cellpose", "watershed"] | None = None,
    weights: str | os.PathLike = "cyto3",
    diameter: float | None = None,
    views: int | None = None,
    calibrate: bool = True,
) -> pathlib.Path:
    """Writes the model of one or several training runs, and calibrates it.

    See `maskrcnn.export.export` for what the SavedModel takes and returns.

    Args:
      training: folder of a training run; for several, with commas between them. The first
        run outlines the cells, and all of them classify the cells.
      output: folder for the model; an earlier model in it is replaced.
      data_dir: folder or bucket where the dataset of the training is now, if it was moved.
      outlines: measure on held-out fields how well cells are classified in outlines of this
        program too, for `predict --outlines`. With cellpose 3, cells are also classified by
        the features of its network, a part of which is copied into the model.
      weights: for outlines by cellpose: name of a model, or path to its weights.
      diameter: for outlines: diameter of a typical cell in pixels; estimated if not given.
      views: number of rotated, mirrored and enlarged views of a field that are predicted
        and merged, 1 to 8: more are slower and more accurate. If not given, as the training
        chose.
      calibrate: fit thresholds and probabilities on the held-out fields of the dataset.

    Returns:
      `output`.

    Raises:
      InputError: if there is no such training run, `output` has something else, the dataset
        of the training is not found, or runs do not fit together.
    """
    require("cellclass export-model", *FOR_TRAINING)
    import tfds_builders  # noqa: F401
    from cellclass_tf.maskrcnn import export, runs

    # Only a string may name several runs; a path object may contain a comma.
    folders = training.split(",") if isinstance(training, str) else training
    if isinstance(folders, os.PathLike):
        folders = [folders]
    options: dict[str, Any] = {}
    if outlines:
        settings = by_name.Settings(weights, diameter)
        annotator = by_name.make_annotator(outlines, settings)
        options["annotators"] = [annotator]
        options["encoder_weights"] = annotator.encoder_weights()
    return export.export(
        runs.experiment_of(runs.folder_of(folders[0])),
        list(folders),
        output,
        data_dir=data_dir,
        calibrate=calibrate,
        views=views,
        **options,
    )
