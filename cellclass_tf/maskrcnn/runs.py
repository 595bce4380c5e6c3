"""Reads and writes the folder of a training run: parameters, record and checkpoints."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import tensorflow as tf
import tensorflow_datasets as tfds
import tf_keras
import yaml
from official.core import config_definitions as cfg
from official.core import exp_factory, train_utils
from official.modeling import hyperparams

from cellclass_tf.errors import InputError, one_line
from cellclass_tf.maskrcnn import config
from cellclass_tf.messages import logger
from cellclass_tf.storage import paths
from cellclass_tf.storage.records import Record

PARAMS_FILE = "params.yaml"
RECORD_FILE = "run.json"
_PACKAGES = ("cellclass_tf", "tensorflow", "tf-models-official", "tf_keras", "numpy")


@dataclasses.dataclass(frozen=True)
class TrainingRecord(Record):
    """The content of a training run's run.json: parameters, versions and machine.

    Attributes:
      experiment: name of the experiment.
      folder: folder of the run during training, by which the dataset is found if both were
        moved together; '' in records of older versions.
      seed: random seed of the training.
      steps: number of training steps.
      dataset: name and version of the dataset.
      dataset_fingerprint: fingerprint of the dataset.
      starting_weights: weights that the run started from; None for random weights.
      distribution_strategy: strategy in Model Garden's runtime configuration.
      precision: precision in which the network computed.
      processor: type of the processor.
      processors: number of logical processors.
      gpus: number of GPUs.
      python: version of Python.
      versions: versions of packages, by name.
    """

    NAME: ClassVar[str] = "cellclass_tf training"
    EXPECTED: ClassVar[str] = "the record of a run of `cellclass train`"
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
    """Writes params.yaml and run.json (experiment, seed, versions, machine).

    Raises:
      InputError: if the folder contains checkpoints trained on another dataset, with
        another network, or with cells of another size.
    """
    model_dir = pathlib.Path(model_dir)
    _check_same_run(params, model_dir)
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
    """Reads the parameters of a training run.

    Raises:
      InputError: if the folder is not a training run, or params.yaml is damaged or has
        parameters that this version does not know.
    """
    check_experiment(experiment)
    path = _file_of_run(model_dir, PARAMS_FILE)
    params = exp_factory.get_exp_config(experiment)
    try:
        return hyperparams.override_params_dict(params, os.fspath(path), is_strict=True)
    except _UNREADABLE as error:
        raise InputError(_refusal(path, error)) from error


def labelled_images(checkpoint: str) -> list[str]:
    """Returns the images with known types that the run of a checkpoint was trained on."""
    folder = run_of(checkpoint)
    # Other weights, such as those in the package, were not trained on a study.
    if folder is None:
        return []
    task = _recorded_params(folder / PARAMS_FILE)["task"]
    return task.get("labelled_images") or []


# Parameters that a run cannot change on the way: the network, the size at which it sees
# cells, and the seed. A part is named by its path.
_FIXED = ("task.model", "task.model_diameter_px", "task.train_data.seed")
# Others that decide what a finished run has learned.
_OF_WEIGHTS = (
    "task.losses",
    "task.heads_steps",
    *(
        f"task.train_data.{name}"
        for name in (
            "global_batch_size",
            "parser",
            "blur",
            "gain",
            "gamma",
            "noise",
            "min_visible_share",
            "composed_share",
            "untyped_share",
        )
    ),
    "trainer.train_steps",
    "trainer.optimizer_config",
    "runtime.mixed_precision_dtype",
)
# What reading params.yaml raises if it is damaged or of another version.
_UNREADABLE = (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError)


def _recorded_params(path: pathlib.Path) -> Mapping[str, Any]:
    """Returns the parameters in params.yaml, of any version; task is a mapping."""
    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
        task = params["task"]
    except _UNREADABLE as error:
        raise InputError(_refusal(path, error)) from error
    if not isinstance(task, Mapping):
        raise InputError(_refusal(path, TypeError(f"task is {task!r}")))
    return params


def _refusal(path: pathlib.Path, error: Exception) -> str:
    return (
        f"{path}: the parameters of the training run cannot be read "
        f"({type(error).__name__}: {one_line(str(error))}). Use the version of cellclass_tf "
        f"that {RECORD_FILE} beside it names, or train again."
    )


def find_dataset(
    model_dir: pathlib.Path,
    task: config.CellMaskRCNNTask,
    data_dir: str | os.PathLike | None = None,
) -> tfds.core.Path:
    """Finds the prepared dataset that a run was trained on.

    Args:
      model_dir: folder of the run.
      task: parameters of the run.
      data_dir: data directory of the dataset; None to look for it where it was during
        training, or beside the run if both were moved together.

    Returns:
      The folder with dataset_info.json.

    Raises:
      InputError: if the dataset is not found, or the run was trained on another one.
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
            f"The dataset {data.tfds_name}, on which {model_dir} was trained, was not "
            f"found in {listed}. The model is calibrated on its held-out fields. Give its "
            "data directory with --data_dir, or export without calibration with "
            "--no-calibration."
        )
    same = [f for f in found if _fingerprint_of(f) == task.fingerprint]
    if task.fingerprint and not same:
        raise InputError(
            f"{found[0]} is not the dataset that {model_dir} was trained on (fingerprint "
            f"{_fingerprint_of(found[0])}, expected {task.fingerprint}). Give the data "
            "directory of the right one with --data_dir, or export without calibration "
            "with --no-calibration."
        )
    return (same or found)[0]


def _fingerprint_of(dataset: tfds.core.Path) -> str | None:
    metadata = tfds.builder_from_directory(dataset).info.metadata or {}
    return metadata.get("fingerprint")


def _folder_then(model_dir: pathlib.Path) -> str:
    """Returns a run's folder at the time of training; '' if it was not recorded."""
    path = model_dir / RECORD_FILE
    return TrainingRecord.read(path).folder if path.exists() else ""


def experiment_of(model_dir: str | os.PathLike) -> str:
    """Reads the name of a run's experiment.

    Raises:
      InputError: if the folder is not a training run.
    """
    return TrainingRecord.read(_file_of_run(model_dir, RECORD_FILE)).experiment


def _file_of_run(model_dir: str | os.PathLike, name: str) -> pathlib.Path:
    path = pathlib.Path(model_dir) / name
    if not path.exists():
        raise InputError(f"{path} does not exist: {model_dir} is not a training run.")
    return path


def folder_of(checkpoint: str | os.PathLike) -> pathlib.Path:
    """Returns the folder of the run that a checkpoint, or a folder, belongs to."""
    path = pathlib.Path(checkpoint)
    folder = path if path.is_dir() else path.parent
    return folder.parent if folder.name == config.BEST_FOLDER else folder


def run_of(checkpoint: str | os.PathLike) -> pathlib.Path | None:
    """Returns the folder of the training run that a checkpoint belongs to.

    Args:
      checkpoint: a checkpoint, a folder, or the name of starting weights.

    Returns:
      The folder, or None if it is not a training run, or there is no such checkpoint.
    """
    if not (os.path.isdir(checkpoint) or os.path.exists(f"{checkpoint}.index")):
        return None
    folder = folder_of(checkpoint)
    return folder if (folder / PARAMS_FILE).is_file() else None


def checkpoint_in(place: str | os.PathLike) -> str:
    """Finds the checkpoint to use: the best by validation, or else the last.

    Args:
      place: folder of a run, or a checkpoint in it.

    Raises:
      InputError: if there is no checkpoint.
    """
    place = pathlib.Path(place)
    found = None
    if place.is_dir():
        folders = (place / config.BEST_FOLDER, place)
        found = next(filter(None, map(_latest, folders)), None)
    path = found or os.fspath(place)
    if not pathlib.Path(f"{path}.index").exists():
        raise InputError(f"{place}: no checkpoint found. Train a model first.")
    return path


def restore(model: tf_keras.Model, checkpoint: str) -> None:
    """Loads the weights of a checkpoint into a network.

    Raises:
      InputError: if they are of another network, for example one with more types.
    """
    try:
        status = tf.train.Checkpoint(model=model).restore(checkpoint)
        status.expect_partial().assert_existing_objects_matched()
    except (AssertionError, ValueError) as error:
        raise InputError(
            f"{checkpoint}: the checkpoint does not fit the network in {PARAMS_FILE} "
            f"beside it; for example, the number of types may differ ({error})."
        ) from error


def check_experiment(name: str) -> None:
    """Raises InputError if this package has no such experiment."""
    if name not in config.EXPERIMENTS:
        known = ", ".join(config.EXPERIMENTS)
        raise InputError(f"Unknown experiment {name!r}; known are {known}.")


def _latest(folder: pathlib.Path) -> str | None:
    if not folder.is_dir():
        return None
    listed = tf.train.latest_checkpoint(os.fspath(folder))
    # The folder of the best checkpoint has no list of checkpoints, and a list may be lost.
    found = [path.with_suffix("") for path in folder.glob("*-*.index")]
    last = max(found, key=lambda path: _step_of(path.name), default=None)
    if listed or last is None:
        return listed
    return os.fspath(last)


def _step_of(checkpoint: str) -> int:
    """Returns the step in a name such as ckpt-200; -1 if there is none."""
    step = checkpoint.rpartition("-")[2]
    return int(step) if step.isdecimal() else -1


def _check_same_run(params: cfg.ExperimentConfig, model_dir: pathlib.Path) -> None:
    """Raises InputError if the folder has checkpoints that these parameters cannot continue.

    A finished run has no steps left in which other parameters could have an effect, so that
    it does not take any. It warns if other starting weights are given, which are not used.
    """
    path = model_dir / PARAMS_FILE
    newest = tf.train.latest_checkpoint(os.fspath(model_dir))
    if not path.exists() or not newest:
        return
    recorded, now = _recorded_params(path), params.as_dict()
    before = recorded["task"]
    found = before.get("fingerprint")
    if found != params.task.fingerprint:
        data = before.get("train_data") or {}
        version = str(data.get("tfds_name")).rpartition(":")[2]
        raise InputError(
            f"{model_dir} contains checkpoints that were trained on another dataset "
            f"(fingerprint {found}, now {params.task.fingerprint}). "
            f"Choose a new folder, or continue with --dataset_version={version}."
        )
    is_finished = _step_of(pathlib.Path(newest).name) >= params.trainer.train_steps
    names = _FIXED + (_OF_WEIGHTS if is_finished else ())
    changed = [
        change
        for name in names
        for change in _changed(name, _part(recorded, name), _part(now, name))
    ]
    if changed:
        name, old, new = changed[0]
        raise InputError(
            f"{model_dir} contains checkpoints that were trained with {name}={old}, not "
            f"{new}{f' (and {len(changed) - 1} more differences)' if changed[1:] else ''}. "
            "Choose a new folder, or leave the parameters as they were to continue."
        )
    if is_finished:
        logger.info("%s is finished already: %s is its last step.", model_dir, newest)
    weights = now["task"]["init_checkpoint"]
    if weights and before.get("init_checkpoint", weights) != weights:
        logger.warning(
            "The starting weights %s are not used, because training continues from %s. "
            "Choose a new folder to start from them.",
            weights,
            newest,
        )


# In place of a parameter that a version does not have.
_MISSING = object()


def _part(params: Any, name: str) -> Any:
    """Returns the parameter with a path such as task.losses; _MISSING without one."""
    for key in name.split("."):
        if not isinstance(params, Mapping) or key not in params:
            return _MISSING
        params = params[key]
    return params


def _changed(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields name, old and new value of each part that both have and that differs."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(new):
            yield from _changed(f"{name}.{key}", old.get(key, _MISSING), new[key])
    elif _MISSING not in (old, new) and _as_read(old) != _as_read(new):
        yield name, old, new


def _as_read(value: Any) -> Any:
    """Returns a value as YAML reads it, which has no tuples."""
    return (
        [_as_read(one) for one in value] if isinstance(value, (list, tuple)) else value
    )
