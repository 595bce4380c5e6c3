"""Sets the parameters of a training from its settings, the machine and the dataset."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from official.core import config_definitions as cfg
from official.core import train_utils

from cellclass_tf.core.study import MIXED, Study
from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import (
    config,
    data_facts,
    hardware,
    imagenet,
    overrides,
    planning,
    runs,
    weights,
)
from cellclass_tf.maskrcnn.cell_namer import weights as namer_weights
from cellclass_tf.messages import logger
from cellclass_tf.storage import paths

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# Names of the datasets with TFDS.
_SIMULATED_DATASET = "cell_types/simulated"
STUDY_DATASET = "cell_types/study"


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
    parser = _ExperimentParser(settings, machine)
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


def runtime_of(settings: Settings, machine: hardware.Hardware) -> cfg.RuntimeConfig:
    """Returns the parameters of devices and precision, without reading the dataset."""
    return _RuntimeParser(settings, machine).parse().runtime


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


class _ExperimentParser(_RuntimeParser):
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
        params.task.namer_init = _namer_starting_weights(params.task, settings.init)
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


def _namer_starting_weights(task: config.CellMaskRCNNTask, init: str | None) -> str:
    """Returns the namer's starting weights: those of the run that the detector starts from."""
    if init == weights.RANDOM:
        return ""
    return namer_weights.source_for(task.init_checkpoint, task.namer_init)


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
    for attribute in ("init_checkpoint", "namer_init"):
        source = getattr(task, attribute)
        if source and source not in names:
            setattr(task, attribute, paths.recorded_path(source))


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
    builder = _builder(_SIMULATED_DATASET)
    builder.download_and_prepare()
    return f"{_SIMULATED_DATASET}:{builder.version}", os.fspath(
        builder.data_path.parents[2]
    )


def _dataset_of_study(
    study: str | os.PathLike | None, data_dir: str, version: str | None
) -> tuple[str, str]:
    flag = f"--study={study}" if study else f"--data_dir={data_dir}"
    if version:
        name = f"{STUDY_DATASET}:{version}"
        try:
            builder = _builder(name, data_dir=data_dir)
        except AssertionError as error:
            raise InputError(
                f"{data_dir} has no version {version} of the dataset: {error}"
            ) from error
    else:
        # With the study, TFDS can tell whether it has changed since it was prepared.
        options = {"study": os.fspath(study)} if study else {}
        builder = _builder(STUDY_DATASET, data_dir=data_dir, **options)
    if not builder.is_prepared():
        raise InputError(
            f"{data_dir} has no dataset of the study in its present state. Run `cellclass "
            f"dataset {flag}`, or choose an older version with --dataset_version."
        )
    return f"{STUDY_DATASET}:{builder.version}", data_dir


def _builder(name: str, **options: Any) -> tfds.core.DatasetBuilder:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, **options)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            f"{name} is not registered with TFDS. Import tfds_builders first."
        ) from error
