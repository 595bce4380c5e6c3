"""The folder of a training run: what was run, with what, and its checkpoints."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import ClassVar

import tensorflow as tf
import tensorflow_datasets as tfds
import tf_keras
import yaml
from official.core import config_definitions as cfg
from official.core import exp_factory, train_utils
from official.modeling import hyperparams

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import config
from cellclass_tf.storage import paths
from cellclass_tf.storage.records import Record

PARAMS_FILE = "params.yaml"
RECORD_FILE = "run.json"
_PACKAGES = ("cellclass_tf", "tensorflow", "tf-models-official", "tf_keras", "numpy")


@dataclasses.dataclass(frozen=True)
class TrainingRecord(Record):
    """run.json of a training run: what was run, with what, and where.

    Attributes:
      experiment: name of the experiment.
      folder: of the run, as it was then: where the dataset is found from here if both
        are moved; '' where an older version did not record it.
      seed: of the training.
      steps: of the training.
      dataset: name and version of the dataset.
      dataset_fingerprint: of the dataset.
      starting_weights: checkpoint from which the run started; None for random weights.
      distribution_strategy: as in Model Garden's runtime.
      precision: in which the network computed.
      processor: kind of the processor.
      processors: number of them.
      gpus: number of them.
      python: its version.
      versions: of packages, by name.
    """

    NAME: ClassVar[str] = "cellclass_tf training"
    EXPECTED: ClassVar[str] = "what `python -m experiments.train` records of a run"
    REMEDY: ClassVar[str] = "Copy it again from its source, or train again."

    experiment: str
    folder: str = ""
    seed: int | None = None
    steps: int | None = None
    dataset: str = ""
    dataset_fingerprint: str = ""
    starting_weights: str | None = None
    distribution_strategy: str = ""
    precision: str = ""
    processor: str = ""
    processors: int | None = None
    gpus: int | None = None
    python: str = ""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)


def begin(
    model_dir: str | os.PathLike, experiment: str, params: cfg.ExperimentConfig
) -> None:
    """Writes params.yaml and run.json: experiment, seed, versions, kind of machine.

    Raises:
      InputError: if the folder holds checkpoints trained on another dataset.
    """
    model_dir = pathlib.Path(model_dir)
    _check_same_data(params, model_dir)
    train_utils.serialize_config(params, os.fspath(model_dir))
    runtime = params.runtime
    record = TrainingRecord(
        folder=paths.recorded_path(model_dir),
        experiment=experiment,
        seed=params.task.train_data.seed,
        steps=params.trainer.train_steps,
        dataset=params.task.train_data.tfds_name,
        dataset_fingerprint=params.task.fingerprint,
        starting_weights=params.task.init_checkpoint or None,
        distribution_strategy=runtime.distribution_strategy,
        precision=runtime.mixed_precision_dtype or "",
        processor=platform.machine(),
        processors=os.cpu_count(),
        gpus=runtime.num_gpus,
        python=platform.python_version(),
        versions={name: importlib.metadata.version(name) for name in _PACKAGES},
    )
    record.write(model_dir / RECORD_FILE)


def load_params(experiment: str, model_dir: str | os.PathLike) -> cfg.ExperimentConfig:
    """Reads the parameters with which a model was trained.

    Raises:
      InputError: if the folder holds no training run.
    """
    check_experiment(experiment)
    path = pathlib.Path(model_dir) / PARAMS_FILE
    if not path.exists():
        raise InputError(f"{path} does not exist: {model_dir} holds no training run.")
    params = exp_factory.get_exp_config(experiment)
    return hyperparams.override_params_dict(params, os.fspath(path), is_strict=True)


def labelled_images(checkpoint: str) -> list[str]:
    """The images whose cells' types a run saw, of which a checkpoint is; or none."""
    is_named = not (os.path.isdir(checkpoint) or os.path.exists(f"{checkpoint}.index"))
    path = folder_of(checkpoint) / PARAMS_FILE
    # Weights that have a name, such as those of the package, have seen no study.
    if is_named or not path.is_file():
        return []
    task = yaml.safe_load(path.read_text(encoding="utf-8")).get("task") or {}
    return task.get("labelled_images") or []


def find_dataset(
    model_dir: pathlib.Path,
    task: config.CellMaskRCNNTask,
    data_dir: str | os.PathLike | None = None,
) -> tfds.core.Path:
    """Finds the prepared dataset with which a run was trained.

    Args:
      model_dir: folder of the run.
      task: its parameters.
      data_dir: where the dataset is; None for where it was during training, and for
        where it is if it was moved together with the run.

    Returns:
      The folder with dataset_info.json.

    Raises:
      InputError: if it is not there, or is another one than the run was trained on.
    """
    data = task.validation_data
    recorded = data.tfds_data_dir
    places: Sequence[str | os.PathLike]
    if data_dir is not None:
        places = [data_dir]
    elif "://" in recorded:
        places = [recorded]
    else:
        places = paths.places_of(recorded, model_dir, _folder_then(model_dir))
    name = data.tfds_name.replace(":", "/")
    folders = [tfds.core.Path(os.fspath(place)) / name for place in places]
    found = [f for f in folders if (f / "dataset_info.json").exists()]
    if not found:
        listed = " and ".join(str(folder) for folder in folders[:3])
        raise InputError(
            f"The dataset {data.tfds_name}, with which {model_dir} was trained, is not "
            f"there (looked in {listed}). Probabilities are calibrated on its held-out "
            "fields. Name its folder with --data_dir, or export without calibration "
            "with --no-calibration."
        )
    same = [f for f in found if _fingerprint_of(f) == task.fingerprint]
    if task.fingerprint and not same:
        raise InputError(
            f"{found[0]} is another dataset than {model_dir} was trained on (fingerprint "
            f"{_fingerprint_of(found[0])}, expected {task.fingerprint}). Name the folder "
            "of the right one with --data_dir, or export with --no-calibration."
        )
    return (same or found)[0]


def _fingerprint_of(dataset: tfds.core.Path) -> str | None:
    metadata = tfds.builder_from_directory(dataset).info.metadata or {}
    return metadata.get("fingerprint")


def _folder_then(model_dir: pathlib.Path) -> str:
    """Where a run's folder was when it was trained; '' if that is not recorded."""
    path = model_dir / RECORD_FILE
    return TrainingRecord.read(path).folder if path.exists() else ""


def experiment_of(model_dir: str | os.PathLike) -> str:
    """Reads which experiment a run is of.

    Raises:
      InputError: if the folder holds no training run.
    """
    path = pathlib.Path(model_dir) / RECORD_FILE
    if not path.exists():
        raise InputError(f"{path} does not exist: {model_dir} holds no training run.")
    return TrainingRecord.read(path).experiment


def folder_of(checkpoint: str | os.PathLike) -> pathlib.Path:
    """The folder of the run that a checkpoint, or the folder itself, belongs to."""
    path = pathlib.Path(checkpoint)
    folder = path if path.is_dir() else path.parent
    return folder.parent if folder.name == config.BEST_FOLDER else folder


def checkpoint_in(place: str | os.PathLike) -> str:
    """Finds the checkpoint to use: the best by validation, else the last.

    Args:
      place: the folder of a run, or one checkpoint in it.

    Raises:
      InputError: if there is none.
    """
    place = pathlib.Path(place)
    found = None
    if place.is_dir():
        folders = (place / config.BEST_FOLDER, place)
        found = next(filter(None, map(_latest, folders)), None)
    path = found or os.fspath(place)
    if not pathlib.Path(f"{path}.index").exists():
        raise InputError(f"{place}: no checkpoint there. Train a model first.")
    return path


def restore(model: tf_keras.Model, checkpoint: str) -> None:
    """Gives a network the weights of a checkpoint of its own kind.

    Raises:
      InputError: if the checkpoint is of another network, such as of more types.
    """
    try:
        status = tf.train.Checkpoint(model=model).restore(checkpoint)
        status.expect_partial().assert_existing_objects_matched()
    except (AssertionError, ValueError) as error:
        raise InputError(
            f"{checkpoint}: a checkpoint of another network than {PARAMS_FILE} beside it "
            f"says, for example of another number of types ({error})."
        ) from error


def check_experiment(name: str) -> None:
    """Raises InputError unless the experiment is one of this package's."""
    if name not in config.EXPERIMENTS:
        known = ", ".join(config.EXPERIMENTS)
        raise InputError(f"Unknown experiment {name!r}; known are {known}.")


def _latest(folder: pathlib.Path) -> str | None:
    if not folder.is_dir():
        return None
    listed = tf.train.latest_checkpoint(os.fspath(folder))
    # The best one has no index of checkpoints, only itself, and an index may be lost.
    found = [path.with_suffix("") for path in folder.glob("*-*.index")]
    last = max(found, key=lambda path: _step_of(path.name), default=None)
    if listed or last is None:
        return listed
    return os.fspath(last)


def _step_of(checkpoint: str) -> int:
    """The step in a name such as ckpt-200; -1 if there is none."""
    step = checkpoint.rpartition("-")[2]
    return int(step) if step.isdecimal() else -1


def _check_same_data(params: cfg.ExperimentConfig, model_dir: pathlib.Path) -> None:
    """Raises InputError if checkpoints there were trained on another dataset."""
    path = model_dir / PARAMS_FILE
    if not path.exists() or not tf.train.latest_checkpoint(os.fspath(model_dir)):
        return
    before = yaml.safe_load(path.read_text(encoding="utf-8"))["task"]
    if before["fingerprint"] != params.task.fingerprint:
        version = before["train_data"]["tfds_name"].rpartition(":")[2]
        raise InputError(
            f"{model_dir} holds checkpoints that were trained on another dataset "
            f"(fingerprint {before['fingerprint']}, now {params.task.fingerprint}). "
            f"Choose a new folder, or go on with --dataset_version={version}."
        )
