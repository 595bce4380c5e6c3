"""Trains an experiment with Model Garden's training library."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from official.common import distribute_utils
from official.core import config_definitions as cfg
from official.core import task_factory, train_utils

from cellclass_tf import process_state
from cellclass_tf.core.study import MIXED, Study
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import (
    config,
    data_facts,
    hardware,
    imagenet,
    keras_state,
    loop,
    overrides,
    planning,
    runs,
    weights,
)
from cellclass_tf.maskrcnn.cell_namer import training as cell_namer
from cellclass_tf.messages import logger
from cellclass_tf.storage import paths

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

SIMULATED = "cell_types/simulated"
OF_STUDY = "cell_types/study"
# Fraction of the time limit for training steps; the rest is for the namer and evaluation.
_SHARE_OF_STEPS = 0.8
# Minimum number of steps under a time limit; fewer do not train a useful network.
_LEAST_STEPS = 100


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a training, with the names of the arguments of `train`.

    Model Garden reads its own flags from this object, `tpu` and `tf_data_service` among them.
    """

    experiment: str
    study: str | os.PathLike | None = None
    data_dir: str | os.PathLike | None = None
    dataset_version: str | None = None
    steps: int | None = None
    minutes: float | None = None
    init: str | None = None
    heads_steps: int | None = None
    seed: int | None = None
    precision: str = hardware.AUTO
    config_file: Sequence[str] = ()
    params_override: str | None = None
    namer: bool = True
    tpu: str | None = None
    tf_data_service: str | None = None

    @classmethod
    def of_flags(cls, flags: Any) -> Settings:
        """Takes the settings from parsed flags with the same names."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: getattr(flags, name) for name in names})

    def __contains__(self, name: str) -> bool:
        return hasattr(self, name)


class _RuntimeParser(train_utils.ExperimentParser):
    """Parses an experiment's parameters, without those that depend on the dataset."""

    def __init__(self, settings: Settings, machine: hardware.Hardware) -> None:
        super().__init__(settings)
        self._machine = machine

    def base_experiment(self) -> cfg.ExperimentConfig:
        """Returns the experiment with the parameters that depend on the machine."""
        settings = self._flags_obj
        runs.check_experiment(settings.experiment)
        params = super().base_experiment()
        params.runtime.num_gpus = len(self._machine.gpus)
        params.runtime.mixed_precision_dtype = self._machine.precision
        if settings.tpu:
            params.runtime.distribution_strategy = "tpu"
            params.runtime.mixed_precision_dtype = "bfloat16"
        if settings.precision != hardware.AUTO:
            params.runtime.mixed_precision_dtype = settings.precision
        return params

    def parse_config_file(self, params: cfg.ExperimentConfig) -> cfg.ExperimentConfig:
        """Overrides parameters by YAML files; see `overrides.apply`."""
        for path in self._flags_obj.config_file or ():
            overrides.apply(params, os.fspath(path), os.fspath(path))
        return params

    def parse_params_override(
        self, params: cfg.ExperimentConfig
    ) -> cfg.ExperimentConfig:
        """Overrides parameters by --params_override."""
        if self._flags_obj.params_override:
            overrides.apply(params, self._flags_obj.params_override, "params_override")
        return params


class ExperimentParser(_RuntimeParser):
    """Parses an experiment's parameters, including those that depend on the dataset.

    Later sources override earlier ones: the experiment's defaults, then values that depend
    on machine and data, then the arguments of `train`, then --config_file, then
    --params_override.

    Attributes:
      choices: settings chosen by the data; see `planning.plan`.
    """

    choices: tuple[planning.Choice, ...] = ()

    def base_experiment(self) -> cfg.ExperimentConfig:
        """Returns the experiment with all parameters that depend on its dataset."""
        settings = self._flags_obj
        params = super().base_experiment()
        name, data_dir = _dataset(
            settings.study, settings.data_dir, settings.dataset_version
        )
        for data in (params.task.train_data, params.task.validation_data):
            data.tfds_name, data.tfds_data_dir = name, data_dir
        facts = data_facts.facts_of_dataset(name, data_dir)
        if settings.experiment == config.SMALL:
            if settings.init == imagenet.IMAGENET:
                imagenet.take_lite0(params.task)
            self.choices = planning.plan(facts, _mixed_fields(settings.study))
            planning.apply(params, self.choices)
        # The user's values come first, because others, such as the scale, depend on them.
        params = self.parse_params_override(self.parse_config_file(params))
        data_facts.apply_facts(params, facts)
        if not facts.validation_fields:
            params.task.validation_data.tfds_split = ""
        params.task.init_checkpoint = _starting_weights(params.task, settings.init)
        # Images used to train the starting weights count as seen by the network.
        params.task.labelled_images = sorted(
            {*facts.labelled_images, *runs.labelled_images(params.task.init_checkpoint)}
        )
        params.task.keras_strides = (
            imagenet.is_imagenet(params.task.init_checkpoint)
            and params.task.model.backbone.type == "resnet"
        )
        params.task.heads_steps = settings.heads_steps or 0
        config.set_steps(params, settings.steps or params.trainer.train_steps)
        # A short trial of the detector also has a short training of the namer.
        most = params.trainer.train_steps if settings.namer else 0
        params.task.namer_steps = min(params.task.namer_steps, most)
        if settings.seed is not None:
            params.task.train_data.seed = settings.seed
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
        'imagenet', the backbone of the small experiment is EfficientNet-Lite0.
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
        experiment,
        study,
        data_dir,
        dataset_version,
        steps,
        minutes,
        None if init is None else os.fspath(init),
        heads_steps,
        seed,
        precision,
        config_file,
        params_override,
        namer,
    )
    return run(settings, model_dir, mode)


def parse(
    settings: Settings, machine: hardware.Hardware, *, quiet: bool = False
) -> cfg.ExperimentConfig:
    """Returns an experiment's locked parameters, from settings, machine and data.

    Args:
      settings: settings of the training.
      machine: the processor and the GPUs.
      quiet: whether the parameters that depend on the data are not logged, as when they
        are only used to measure the speed of a step.
    """
    parser = ExperimentParser(settings, machine)
    params = parser.parse()
    _check_precision(params.runtime)
    if settings.init is None:
        _drop_weights_of_another_network(params.task, quiet=quiet)
    _record_whole_paths(params.task)
    params.validate()
    params.lock()
    if not quiet:
        _log_choices(params, parser.choices)
    return params


def _log_choices(
    params: cfg.ExperimentConfig, choices: tuple[planning.Choice, ...]
) -> None:
    """Logs the parameters that depend on the data."""
    task = params.task
    logger.info(
        "Set from the data: cell types %s; the median cell is %.1f px wide in the images, "
        "which are resized by %.2f for the network; at most %d cells per crop and %d per "
        "tile.",
        ", ".join(task.type_names),
        task.cell_diameter_px,
        task.scale,
        task.train_data.parser.max_num_instances,
        task.model.detection_generator.max_num_detections,
    )
    for line in planning.describe(params, choices):
        logger.info("%s", line)


@process_state.keep()
def run(settings: Settings, model_dir: str | os.PathLike, mode: str) -> pathlib.Path:
    """Trains or evaluates; see `train`."""
    machine = hardware.detect()
    # Model Garden sets this variable from the parameters.
    with process_state.keep_environment("TF_CONFIG"):
        # This must come first: workers can only be connected before TensorFlow is used.
        strategy = _strategy(_RuntimeParser(settings, machine).parse().runtime)
        is_timed = settings.minutes is not None and "train" in mode
        params = parse(settings, machine, quiet=is_timed)
        mode = _mode_with_data(params, mode)
        if settings.minutes is not None and is_timed:
            steps = _steps_within(
                settings.minutes, settings, params, strategy, model_dir
            )
            settings = dataclasses.replace(settings, steps=steps, minutes=None)
            params = parse(settings, machine)
        if "train" in mode and strategy.extended.should_checkpoint:
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
        is_first = strategy.extended.should_checkpoint
        if "train" in mode and is_first and params.task.namer_steps:
            cell_namer.train(model_dir, params.task)
    return pathlib.Path(model_dir)


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


def _check_precision(runtime: cfg.RuntimeConfig) -> None:
    """Raises InputError if the precision is unknown."""
    # In Model Garden, no value stands for float32.
    runtime.mixed_precision_dtype = runtime.mixed_precision_dtype or "float32"
    if runtime.mixed_precision_dtype not in hardware.PRECISIONS:
        raise InputError(
            f"Unknown precision {runtime.mixed_precision_dtype!r}; expected "
            f"{hardware.AUTO} or one of {', '.join(hardware.PRECISIONS)}."
        )


def _starting_weights(task: config.CellMaskRCNNTask, init: str | None) -> str:
    """Returns the starting weights: --init, or the experiment's own; '' for random ones."""
    if init is None:
        return task.init_checkpoint or ""
    return "" if init == weights.RANDOM else init


def _drop_weights_of_another_network(
    task: config.CellMaskRCNNTask, *, quiet: bool
) -> None:
    """Selects random starting weights if the experiment's own do not fit the network."""
    if task.init_checkpoint == config.SIMULATED and not weights.simulated_fit(task):
        if not quiet:
            logger.warning(
                "The weights shipped with the package do not fit this network, because "
                "its layers were changed: training starts from random weights."
            )
        task.init_checkpoint = ""


def _record_whole_paths(task: config.CellMaskRCNNTask) -> None:
    """Makes the paths in params.yaml independent of the working directory."""
    for data in (task.train_data, task.validation_data):
        if data.tfds_data_dir:
            data.tfds_data_dir = paths.recorded_path(data.tfds_data_dir)
    names = (config.SIMULATED, imagenet.IMAGENET)
    if task.init_checkpoint and task.init_checkpoint not in names:
        task.init_checkpoint = paths.recorded_path(task.init_checkpoint)


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


def _mixed_fields(study: str | os.PathLike | None) -> int | None:
    """Returns the number of accepted mixed fields of a study; None without a study."""
    if study is None:
        return None
    rows = Study.open(study).accepted_rows()
    return sum(row.cell_type == MIXED for row in rows)


def _dataset(
    study: str | os.PathLike | None,
    data_dir: str | os.PathLike | None,
    version: str | None,
) -> tuple[str, str]:
    """Returns the dataset's name with version, and its data directory.

    Without study and data directory, the dataset of simulated cultures is prepared.
    """
    if study and not data_dir:
        data_dir = Study.open(study).tfds_dir
    if data_dir:
        return _dataset_of_study(study, os.fspath(data_dir), version)
    builder = _builder(SIMULATED)
    builder.download_and_prepare()
    return f"{SIMULATED}:{builder.version}", os.fspath(builder.data_path.parents[2])


def _dataset_of_study(
    study: str | os.PathLike | None, data_dir: str, version: str | None
) -> tuple[str, str]:
    told = f"--study={study}" if study else f"--data_dir={data_dir}"
    if version:
        name = f"{OF_STUDY}:{version}"
        try:
            builder = _builder(name, data_dir=data_dir)
        except AssertionError as error:
            raise InputError(
                f"{data_dir} has no version {version} of the dataset: {error}"
            ) from error
    else:
        # With the study, TFDS can tell whether it has changed since it was prepared.
        options = {"study": os.fspath(study)} if study else {}
        builder = _builder(OF_STUDY, data_dir=data_dir, **options)
    if not builder.is_prepared():
        raise InputError(
            f"{data_dir} has no dataset of the study in its present state. Run `cellclass "
            f"dataset {told}`, or choose an older version with --dataset_version."
        )
    return f"{OF_STUDY}:{builder.version}", data_dir


def _builder(name: str, **options: Any) -> tfds.core.DatasetBuilder:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, **options)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            f"{name} is not registered with TFDS. Import tfds_builders first."
        ) from error
