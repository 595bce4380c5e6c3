"""Tests of cellclass_tf.maskrcnn.parameters."""

import dataclasses
import shutil

import pytest

import cellclass_tf as cc
from cellclass_tf.maskrcnn import config, hardware, parameters
from cellclass_tf.maskrcnn.cell_namer import finished

SMALL = "cellclass_maskrcnn_small"
OTHER_NETWORK = "task.model.mask_head.num_convs=1"


@pytest.fixture(scope="module")
def study(prepared):
    return prepared


def parse(experiment=SMALL, **settings):
    """The parameters of a training on a machine without a GPU."""
    given = parameters.Settings(experiment, **settings)
    return parameters.parse(given, hardware.Hardware())


def test_a_study_changed_since_its_dataset_was_prepared_is_refused(study, tmp_path):
    root = shutil.copytree(study, tmp_path / "study")
    row = next(row for row in cc.Study.open(root).rows() if row.split == "train")
    cc.Study.open(root).update([dataclasses.replace(row, verdict="rejected")])
    with pytest.raises(cc.InputError, match=r"cellclass dataset --study.*_version"):
        parse(study=root)
    with pytest.raises(cc.InputError, match=r"no version 2.7.0"):
        parse(study=root, dataset_version="2.7.0")
    for where in ({"study": root}, {"study": None, "data_dir": root / "tfds"}):
        params = parse(**where, dataset_version="2.0.0", steps=1)
        assert params.task.train_data.tfds_name == "cell_types/study:2.0.0"


def test_a_relative_path_of_a_study_is_recorded_as_an_absolute_path(
    study, tmp_path, monkeypatch
):
    monkeypatch.chdir(study.parent)
    params = parse(study=study.name, steps=1, init="weights.h5")
    assert params.task.validation_data.tfds_data_dir == str(study / "tfds")
    assert params.task.train_data.tfds_data_dir == str(study / "tfds")
    assert params.task.init_checkpoint == str(study.parent / "weights.h5")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "simulated"),
        ({"init": "random"}, ""),
        ({"init": "simulated"}, "simulated"),
        # Weights that do not fit are kept if the user named them, and dropped if not.
        ({"params_override": OTHER_NETWORK}, ""),
        ({"params_override": OTHER_NETWORK, "init": "simulated"}, "simulated"),
        ({"params_override": "task.init_checkpoint=''"}, ""),
        ({"experiment": "cellclass_maskrcnn"}, ""),
    ],
)
def test_the_small_experiment_starts_from_shipped_weights_by_default(
    study, monkeypatch, given, expected
):
    monkeypatch.setattr(config, "SMALL_START", config.SIMULATED)
    assert parse(study=study, **given).task.init_checkpoint == expected


@pytest.mark.parametrize(
    ("machine", "given", "expected"),
    [
        (hardware.Hardware(), {}, (0, "float32")),
        (hardware.Hardware(processor_flags={"amx_bf16"}), {}, (0, "bfloat16")),
        (hardware.Hardware(gpus=(hardware.Gpu("T4", (7, 5)),) * 2), {}, (2, "float16")),
        (
            hardware.Hardware(processor_flags={"amx_bf16"}),
            {"precision": "float32"},
            (0, "float32"),
        ),
        (
            hardware.Hardware(),
            {"params_override": "runtime.mixed_precision_dtype=float16"},
            (0, "float16"),
        ),
        (
            hardware.Hardware(processor_flags={"amx_bf16"}),
            {"params_override": "runtime.mixed_precision_dtype=null"},
            (0, "float32"),
        ),
        (hardware.Hardware(), {"tpu": "local"}, (0, "bfloat16")),
        (hardware.Hardware(), {"tpu": "local", "precision": "float32"}, (0, "float32")),
    ],
)
def test_precision_and_gpus_are_set_from_the_machine(study, machine, given, expected):
    settings = parameters.Settings(SMALL, study, steps=1, **given)
    runtime = parameters.parse(settings, machine).runtime
    assert (runtime.num_gpus, runtime.mixed_precision_dtype) == expected
    assert (runtime.distribution_strategy == "tpu") == bool(settings.tpu)


def test_an_unknown_precision_lists_the_known_ones(study):
    with pytest.raises(cc.InputError, match=r"'half'; expected auto or .*bfloat16"):
        parse(study=study, precision="half")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "simulated"),
        ({"init": "simulated"}, "simulated"),
        ({"init": "imagenet"}, "simulated"),
        ({"init": "weights.h5"}, "simulated"),
        ({"experiment": "cellclass_maskrcnn"}, "simulated"),
        # The namer's layers are not changed by those of the detector.
        ({"params_override": OTHER_NETWORK}, "simulated"),
        ({"params_override": "task.namer_init=''"}, ""),
        ({"init": "random"}, ""),
    ],
)
def test_a_namer_starts_from_shipped_weights_unless_they_are_to_be_random(
    study, given, expected
):
    assert parse(study=study, **given).task.namer_init == expected


def test_a_namer_starts_from_the_run_whose_weights_are_given(
    study, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    record = finished.NamerTraining(("a",), 1.0, False, steps=1, seed=0)
    (run / finished.FOLDER).mkdir(parents=True)
    record.write(run / finished.FOLDER / finished.RECORD_FILE)
    (run / "params.yaml").write_text("task: {}")
    monkeypatch.chdir(tmp_path)
    task = parse(study=study, init="run").task
    assert (task.init_checkpoint, task.namer_init) == (str(run), str(run))


def test_a_namer_is_trained_unless_it_is_switched_off(study):
    for given, steps in (({}, 5), ({"namer": False}, 0), ({"steps": 900}, 600)):
        params = parse(**{"study": study, "steps": 5} | given)
        assert params.task.namer_steps == steps
