"""Trains an experiment with Model Garden's training library."""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
from collections.abc import Sequence

import tensorflow as tf
import tqdm
import yaml
from absl import logging
from official.common import distribute_utils
from official.core import config_definitions as cfg
from official.core import exp_factory, task_factory, train_lib, train_utils
from official.modeling import hyperparams, performance

from cellclass_tf.files import InputError
from cellclass_tf.maskrcnn import config, task  # noqa: F401 - registers the task.
from cellclass_tf.study import Study

SIMULATED = "cell_types/simulated"
OF_STUDY = "cell_types/study"
PARAMS_FILE = "params.yaml"


class ExperimentParser(train_utils.ExperimentParser):
    """Model Garden's order of overrides, with what the dataset decides put first.

    An experiment's defaults, then what follows from the data, then --config_file, then
    --params_override. `study`, `data_dir`, `dataset_version` and `steps` are read from
    the flags beside Model Garden's.
    """

    def base_experiment(self) -> cfg.ExperimentConfig:
        """Returns the experiment with all that follows from its dataset."""
        flags = self._flags_obj
        check_experiment(flags.experiment)
        params = super().base_experiment()
        name, data_dir = _dataset(flags.study, flags.data_dir, flags.dataset_version)
        for data in (params.task.train_data, params.task.validation_data):
            data.tfds_name, data.tfds_data_dir = name, data_dir
        facts = config.facts_of_dataset(name, data_dir)
        config.apply_facts(params, facts)
        if not facts.validation_fields:
            params.task.validation_data.tfds_split = ""
        if flags.steps:
            config.set_steps(params, flags.steps)
        return params


def train(
    experiment: str,
    model_dir: str | os.PathLike,
    *,
    study: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    dataset_version: str | None = None,
    mode: str = "train_and_eval",
    steps: int | None = None,
    config_file: Sequence[str] = (),
    params_override: str | None = None,
) -> pathlib.Path:
    """Trains an experiment; a run that was killed goes on from its last checkpoint.

    Args:
      experiment: 'cellclass_maskrcnn_small' or 'cellclass_maskrcnn'.
      model_dir: folder for checkpoints, TensorBoard logs and params.yaml.
      study: folder of a study with a prepared dataset; None for simulated cultures.
      data_dir: where the study's dataset was prepared, a folder or a bucket; None for
        STUDY/tfds. With it `study` may be None.
      dataset_version: such as '2.1.0'; None for the newest.
      mode: 'train', 'train_and_eval' or 'eval'.
      steps: training steps; None for the experiment's own.
      config_file: YAML files of overrides.
      params_override: YAML or 'a.b=c,d=e' overrides, applied last.

    Returns:
      `model_dir`.

    Raises:
      InputError: if the experiment is unknown, there is no dataset, the study has changed
        since it was prepared, or `model_dir` holds checkpoints trained on another one.
    """
    flags = argparse.Namespace(
        experiment=experiment,
        study=study,
        data_dir=data_dir,
        dataset_version=dataset_version,
        steps=steps,
        config_file=list(config_file),
        params_override=params_override,
        tpu=None,
        tf_data_service=None,
    )
    return run(parse(flags), model_dir, mode)


def parse(flags_obj) -> cfg.ExperimentConfig:
    """Makes an experiment's parameters of flags and data, prints and locks them."""
    params = ExperimentParser(flags_obj).parse()
    params.validate()
    params.lock()
    facts = params.task
    logging.info(
        "Set from the data: types %s, median cell %.1f px (shown to the network at "
        "scale %.2f), room for %d cells a crop and %d a tile.",
        ", ".join(facts.type_names),
        facts.cell_diameter_px,
        facts.scale,
        facts.train_data.parser.max_num_instances,
        facts.model.detection_generator.max_num_detections,
    )
    return params


def run(
    params: cfg.ExperimentConfig, model_dir: str | os.PathLike, mode: str
) -> pathlib.Path:
    """Trains or evaluates with parameters made by `parse`; see `train`."""
    mode = _mode_with_data(params, mode)
    if "train" in mode:
        _check_same_data(params, pathlib.Path(model_dir))
        train_utils.serialize_config(params, os.fspath(model_dir))
    if params.runtime.mixed_precision_dtype:
        performance.set_mixed_precision_policy(params.runtime.mixed_precision_dtype)
    strategy = distribute_utils.get_distribution_strategy(
        distribution_strategy=params.runtime.distribution_strategy,
        all_reduce_alg=params.runtime.all_reduce_alg,
        num_gpus=params.runtime.num_gpus,
        tpu_address=params.runtime.tpu,
    )
    with strategy.scope():
        the_task = task_factory.get_task(params.task, logging_dir=os.fspath(model_dir))
    progress = _Progress(params, model_dir)
    # The controller prints every loop's losses; the log has them too, and the bar shows.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        train_lib.run_experiment(
            distribution_strategy=strategy,
            task=the_task,
            mode=mode,
            params=params,
            model_dir=os.fspath(model_dir),
            train_actions=[progress],
        )
    progress.close()
    return pathlib.Path(model_dir)


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


def check_experiment(name: str) -> None:
    """Raises InputError unless the experiment is one of this package's."""
    if name not in config.EXPERIMENTS:
        known = ", ".join(config.EXPERIMENTS)
        raise InputError(f"Unknown experiment {name!r}; known are {known}.")


def _mode_with_data(params: cfg.ExperimentConfig, mode: str) -> str:
    if "eval" not in mode or params.task.validation_data.tfds_split:
        return mode
    if "train" not in mode:
        raise InputError("The dataset has no validation split to evaluate on.")
    logging.warning("The dataset has no validation split: training without evaluation.")
    return "train"


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


class _Progress:
    """A progress bar that moves after every loop of training steps."""

    def __init__(self, params: cfg.ExperimentConfig, model_dir: str | os.PathLike):
        checkpoint = tf.train.latest_checkpoint(os.fspath(model_dir))
        done = int(checkpoint.rsplit("-", 1)[1]) if checkpoint else 0
        self._loop = params.trainer.steps_per_loop
        self._bar = tqdm.tqdm(
            total=params.trainer.train_steps,
            initial=done,
            desc="train",
            dynamic_ncols=True,
        )

    def __call__(self, output) -> None:
        """Is called by Model Garden's controller with a loop's mean losses."""
        self._bar.set_postfix(loss=f"{float(output['total_loss']):.3f}", refresh=False)
        self._bar.update(min(self._loop, self._bar.total - self._bar.n))

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()


def _dataset(study, data_dir, version: str | None) -> tuple[str, str]:
    """Name with version, and data directory.

    Without either, the simulated cultures are prepared.
    """
    if study or data_dir:
        return _dataset_of_study(study, data_dir, version)
    builder = _builder(SIMULATED)
    builder.download_and_prepare()
    return f"{SIMULATED}:{builder.version}", os.fspath(builder.data_path.parents[2])


def _dataset_of_study(study, data_dir, version: str | None) -> tuple[str, str]:
    data_dir = os.fspath(data_dir or Study.open(study).tfds_dir)
    told = f"--study={study}" if study else f"--data_dir={data_dir}"
    if version:
        name = f"{OF_STUDY}:{version}"
        try:
            builder = _builder(name, data_dir=data_dir)
        except AssertionError as error:
            raise InputError(
                f"{data_dir} holds no version {version}: {error}"
            ) from error
    else:
        # A study that is named is compared with what was made of it.
        options = {"study": os.fspath(study)} if study else {}
        builder = _builder(OF_STUDY, data_dir=data_dir, **options)
    if not builder.is_prepared():
        raise InputError(
            f"{data_dir} holds no dataset of the study as it is now: run `cellclass "
            f"dataset {told}`, or name an older one with --dataset_version."
        )
    return f"{OF_STUDY}:{builder.version}", data_dir


def _builder(name: str, **options):
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, **options)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            f"{name} is not known to TFDS: import tfds_builders first."
        ) from error
