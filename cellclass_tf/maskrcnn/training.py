"""Trains an experiment with Model Garden's training library."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence

import tensorflow as tf
from official.common import distribute_utils
from official.core import config_definitions as cfg
from official.core import task_factory

from cellclass_tf import process_state
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import (
    hardware,
    keras_state,
    loop,
    parameters,
    runs,
)
from cellclass_tf.maskrcnn.cell_namer import training as cell_namer
from cellclass_tf.maskrcnn.parameters import Settings
from cellclass_tf.messages import logger
from cellclass_tf.storage import lock

# Fraction of the time limit for training steps; the rest is for the namer and evaluation.
_SHARE_OF_STEPS = 0.8
# Minimum number of steps under a time limit; fewer do not train a useful network.
_LEAST_STEPS = 100


def train(
    experiment: str,
    model_dir: str | os.PathLike,
    *,
    study: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    dataset_version: str | None = None,
    mode: str = "train_and_eval",
    steps: int | None = None,
    minutes: float | None = None,
    init: str | os.PathLike | None = None,
    heads_steps: int | None = None,
    seed: int | None = None,
    precision: str = hardware.AUTO,
    config_file: Sequence[str] = (),
    params_override: str | None = None,
    namer: bool = True,
) -> pathlib.Path:
    """Trains an experiment; an interrupted run continues from its last checkpoint.

    Args:
      experiment: 'cellclass_maskrcnn_small' or 'cellclass_maskrcnn'.
      model_dir: folder for checkpoints, TensorBoard logs and params.yaml.
      study: folder of a study with a prepared dataset; None for simulated cultures.
      data_dir: data directory of the study's dataset, a folder or a bucket; None for
        STUDY/tfds. If it is given, `study` may be None.
      dataset_version: version of the dataset, such as '2.1.0'; None for the newest.
      mode: 'train', 'train_and_eval' or 'eval'.
      steps: number of training steps; None for the experiment's own.
      minutes: time limit for a new run, instead of `steps`. A few steps are timed on this
        machine, and as many are done as fit into four fifths of the time. The rest is
        for the namer and for evaluation. A continued run keeps its number of steps.
      init: starting weights of a new run, see `weights.load`, or 'random'; None for the
        experiment's own, or for random weights if those are of another network. With
        'imagenet', the backbone of the small experiment is EfficientNet-Lite0. The namer's
        are described in `cell_namer.weights`.
      heads_steps: number of steps in which only the heads are trained, at the full
        learning rate; then all layers are trained at a tenth of it.
      seed: random seed of crops, augmentation and new weights; None for 0.
      precision: 'float32', 'bfloat16' or 'float16', in which the network computes during
        training (its weights are float32), or 'auto' for the fastest one for which the
        devices have hardware multiplication. Exported models compute in float32.
      config_file: YAML files with overrides.
      params_override: overrides as YAML or 'a.b=c,d=e', applied last.
      namer: whether the namer is also trained, a second network that classifies cells by
        small crops around their nuclei; it is saved in MODEL_DIR/namer.

    Returns:
      `model_dir`.

    Raises:
      InputError: if the experiment or the precision is unknown; if both `steps` and
        `minutes` are given, or `minutes` with several workers; if there is no dataset, or
        the study has changed since it was prepared; or if `model_dir` contains checkpoints
        that were trained on another dataset.
    """
    settings = Settings(
        experiment=experiment,
        study=study,
        data_dir=data_dir,
        dataset_version=dataset_version,
        steps=steps,
        minutes=minutes,
        init=None if init is None else os.fspath(init),
        heads_steps=heads_steps,
        seed=seed,
        precision=precision,
        config_file=config_file,
        params_override=params_override,
        namer=namer,
    )
    return run(settings, model_dir, mode)


@process_state.keep()
def run(settings: Settings, model_dir: str | os.PathLike, mode: str) -> pathlib.Path:
    """Trains or evaluates; see `train`."""
    machine = hardware.detect()
    # Model Garden sets this variable from the parameters.
    with process_state.keep_environment("TF_CONFIG"):
        # This must come first: workers can only be connected before TensorFlow is used.
        strategy = _strategy(parameters.runtime_of(settings, machine))
        is_timed = settings.minutes is not None and "train" in mode
        params = parameters.parse(settings, machine, quiet=is_timed)
        mode = _mode_with_data(params, mode)
        if settings.minutes is not None and is_timed:
            steps = _steps_within(
                settings.minutes, settings, params, strategy, model_dir
            )
            settings = dataclasses.replace(settings, steps=steps, minutes=None)
            params = parameters.parse(settings, machine)
        # The other workers of a cluster write nothing to the folder.
        writes = "train" in mode and strategy.extended.should_checkpoint
        with _only_writer(model_dir) if writes else contextlib.nullcontext():
            if writes:
                runs.begin(model_dir, settings.experiment, params)
            _print_devices(strategy, params.runtime, machine)
            with (
                keras_state.random_seed(params.task.train_data.seed),
                keras_state.precision(params.runtime.mixed_precision_dtype),
            ):
                with strategy.scope():
                    task = task_factory.get_task(
                        params.task, logging_dir=os.fspath(model_dir)
                    )
                loop.run(strategy, task, mode, params, model_dir)
            if writes and params.task.namer_steps:
                cell_namer.train(model_dir, params.task)
    return pathlib.Path(model_dir)


def _only_writer(model_dir: str | os.PathLike) -> contextlib.AbstractContextManager:
    """Locks the folder of a run, since two trainings would mix their checkpoints."""
    if "://" in os.fspath(model_dir):
        # A bucket cannot be locked.
        return contextlib.nullcontext()
    folder = pathlib.Path(model_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return lock.one_writer(folder, "train")


def _steps_within(
    minutes: float,
    settings: Settings,
    params: cfg.ExperimentConfig,
    strategy: tf.distribute.Strategy,
    model_dir: str | os.PathLike,
) -> int:
    """Returns the number of training steps that fit into a time limit."""
    if settings.steps is not None or minutes <= 0:
        raise InputError(
            f"Expected either steps, or more than 0 minutes; got {settings.steps} steps "
            f"and {minutes} minutes."
        )
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise InputError(
            "--minutes cannot be used with several workers, because each would measure "
            "another number of steps. Give --steps instead."
        )
    if (pathlib.Path(model_dir) / runs.PARAMS_FILE).exists():
        begun = runs.load_params(settings.experiment, model_dir)
        return begun.trainer.train_steps
    with (
        keras_state.random_seed(params.task.train_data.seed),
        keras_state.precision(params.runtime.mixed_precision_dtype),
    ):
        with strategy.scope():
            task = task_factory.get_task(params.task)
        task.quiet = True
        speed = loop.measure(strategy, task, params)
    steps = steps_within(60 * minutes, speed)
    logger.info(
        "A training step takes %.2f s on this machine: %d steps are done, for a time limit "
        "of %.1f minutes.",
        speed.step_s,
        steps,
        minutes,
    )
    return steps


def steps_within(seconds: float, speed: loop.Speed) -> int:
    """Returns the number of steps that fit into four fifths of a time limit.

    The time for the measurement, and for starting the training again, is subtracted.
    """
    left = _SHARE_OF_STEPS * seconds - 2 * speed.start_s - 10 * speed.step_s
    return max(_LEAST_STEPS, round(left / speed.step_s))


def _print_devices(
    strategy: tf.distribute.Strategy,
    runtime: cfg.RuntimeConfig,
    machine: hardware.Hardware,
) -> None:
    """Prints the devices that are used, and warns about unused GPUs."""
    if runtime.distribution_strategy == "off":
        # TensorFlow's default strategy does not list devices; it uses the first GPU.
        kind, count = "GPU" if machine.gpus else "CPU", 1
    else:
        devices = strategy.extended.worker_devices
        kind = tf.DeviceSpec.from_string(devices[0]).device_type
        count = len(devices)
    print(
        f"Training on {machine.in_use(kind, count)}, "
        f"precision {runtime.mixed_precision_dtype}.",
        file=sys.stderr,
        flush=True,
    )
    idle = machine.unused_gpus(count if kind == "GPU" else 0)
    if idle and kind != "TPU":
        logger.warning(idle)


def _strategy(runtime: cfg.RuntimeConfig) -> tf.distribute.Strategy:
    """Returns the strategy in the parameters: one device, all GPUs, workers or a TPU.

    Logical CPU devices, of which TensorFlow can be configured to have several, count as
    devices.
    """
    distribute_utils.configure_cluster(runtime.worker_hosts, runtime.task_index)
    if runtime.distribution_strategy == "mirrored" and not runtime.num_gpus:
        # Listing devices initialises TensorFlow, after which workers cannot be connected.
        processors = tf.config.list_logical_devices("CPU")
        if len(processors) > 1:
            return tf.distribute.MirroredStrategy([p.name for p in processors])
    return distribute_utils.get_distribution_strategy(
        distribution_strategy=runtime.distribution_strategy,
        all_reduce_alg=runtime.all_reduce_alg,
        num_gpus=runtime.num_gpus,
        tpu_address=runtime.tpu,
    )


def _mode_with_data(params: cfg.ExperimentConfig, mode: str) -> str:
    if "eval" not in mode or params.task.validation_data.tfds_split:
        return mode
    if "train" not in mode:
        raise InputError(
            "The dataset has no validation split to evaluate on. Add a second dish per "
            "type to the study and run `cellclass dataset` again."
        )
    logger.warning("The dataset has no validation split: training without evaluation.")
    return "train"
