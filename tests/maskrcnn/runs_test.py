"""Tests of cellclass_tf.maskrcnn.runs."""

import dataclasses
import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import runs

SMALL = "cellclass_maskrcnn_small"
# The record that version 0.1.0 wrote beside its checkpoints.
PREVIOUS = pathlib.Path(__file__).parents[1] / "previous_version" / "training"


def write_checkpoints(folder, *names, last=None):
    """Makes empty checkpoints, and the file that lists them."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.index").touch()
    if last:
        (folder / "checkpoint").write_text(f'model_checkpoint_path: "{last}"\n')


def test_a_new_run_writes_its_parameters_and_its_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = runs.load_params(SMALL, PREVIOUS)
    params.task.train_data.seed = 5
    params.trainer.train_steps = 70
    params.task.init_checkpoint = ""
    runs.begin("training", SMALL, params)
    assert runs.experiment_of("training") == SMALL
    assert runs.load_params(SMALL, "training").as_dict() == params.as_dict()
    record = runs.TrainingRecord.read("training/run.json")
    assert record.folder == str(tmp_path / "training")
    assert (record.seed, record.steps, record.starting_weights) == (5, 70, None)
    assert record.dataset_fingerprint == params.task.fingerprint
    assert record.versions["numpy"] == np.__version__


def begun(folder):
    """Begins a run that has a checkpoint, and returns its parameters."""
    params = runs.load_params(SMALL, PREVIOUS)
    params.task.init_checkpoint = "simulated"
    runs.begin(folder, SMALL, params)
    write_checkpoints(folder, "ckpt-3", last="ckpt-3")
    return params


def test_a_run_continues_with_more_steps_but_not_with_another_network(tmp_path):
    params = begun(tmp_path / "run")
    params.trainer.train_steps += 10
    params.task.train_data.aug_scale_max = 1.5
    runs.begin(tmp_path / "run", SMALL, params)
    written = (tmp_path / "run/params.yaml").read_text()
    params.task.model_diameter_px = 30.5
    with pytest.raises(
        InputError, match=r"task\.model_diameter_px=.*, not 30\.5\. Choose"
    ):
        runs.begin(tmp_path / "run", SMALL, params)
    params.task.model.backbone.resnet.model_id = 50
    words = r"task\.model\.backbone\.resnet\.model_id=18, not 50 \(and 1 more"
    with pytest.raises(InputError, match=words):
        runs.begin(tmp_path / "run", SMALL, params)
    assert (tmp_path / "run/params.yaml").read_text() == written
    runs.begin(tmp_path / "another", SMALL, params)


def test_a_run_does_not_continue_with_another_seed(tmp_path):
    params = begun(tmp_path / "run")
    params.task.train_data.seed += 1
    words = r"trained with task\.train_data\.seed=0, not 1\. Choose a new folder"
    with pytest.raises(InputError, match=words):
        runs.begin(tmp_path / "run", SMALL, params)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("trainer", "train_steps", 2),
        ("runtime", "mixed_precision_dtype", "bfloat16"),
        ("task.train_data", "blur", 3.5),
        ("task.losses", "mask_weight", 2.0),
    ],
)
def test_a_finished_run_takes_no_other_parameters(tmp_path, caplog, part, name, value):
    params = begun(tmp_path / "run")
    place = params
    for key in part.split("."):
        place = getattr(place, key)
    setattr(place, name, value)
    if name != "train_steps":
        # They may change while steps are left.
        runs.begin(tmp_path / "run", SMALL, params)
        setattr(place, name, getattr(place, name) + type(value)("1"))
    write_checkpoints(tmp_path / "run", "ckpt-9999", last="ckpt-9999")
    written = (tmp_path / "run/params.yaml").read_text()
    with pytest.raises(InputError, match=rf"trained with {part}\.{name}="):
        runs.begin(tmp_path / "run", SMALL, params)
    assert (tmp_path / "run/params.yaml").read_text() == written
    again = runs.load_params(SMALL, tmp_path / "run")
    caplog.set_level("INFO")
    runs.begin(tmp_path / "run", SMALL, again)
    assert "is finished already" in caplog.text


def test_starting_weights_that_are_not_used_are_reported(tmp_path, caplog):
    params = begun(tmp_path / "run")
    runs.begin(tmp_path / "run", SMALL, params)
    assert not caplog.messages
    params.task.init_checkpoint = "imagenet"
    runs.begin(tmp_path / "run", SMALL, params)
    (message,) = caplog.messages
    assert message.startswith("The starting weights imagenet are not used, because")


def test_a_run_lists_the_labelled_images_of_its_training(tmp_path):
    params = runs.load_params(SMALL, PREVIOUS)
    assert params.task.labelled_images == []
    params.task.labelled_images = ["a" * 16]
    runs.begin(tmp_path / "run", SMALL, params)
    write_checkpoints(tmp_path / "run", "ckpt-3")
    for place in (tmp_path / "run", tmp_path / "run" / "ckpt-3"):
        assert runs.labelled_images(os.fspath(place)) == ["a" * 16]
    for name in ("", "simulated", os.fspath(tmp_path), "run/nothing"):
        assert runs.labelled_images(name) == []


def test_the_record_of_the_version_before_is_read_and_written_in_the_new_format(
    tmp_path,
):
    record = runs.TrainingRecord.read(PREVIOUS / "run.json")
    assert (record.experiment, record.steps, record.gpus) == (SMALL, 600, 0)
    assert (record.folder, record.seed) == ("/data/previous/training", 0)
    assert record.versions["cellclass_tf"] == "0.1.0"
    changed = dataclasses.replace(record, starting_weights="weights.h5", seed=None)
    changed.write(tmp_path / "run.json")
    assert runs.TrainingRecord.read(tmp_path / "run.json") == changed
    content = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert content["format"] == "cellclass_tf training 1"


def test_a_folder_without_a_run_and_an_unknown_experiment_are_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"run\.json does not exist: .* not a training"
    ):
        runs.experiment_of(tmp_path)
    with pytest.raises(
        InputError, match=r"params\.yaml does not exist: .* not a train"
    ):
        runs.load_params(SMALL, tmp_path)
    known = "'resnet'; known are cellclass_maskrcnn, cellclass_maskrcnn_small"
    for call in (runs.check_experiment, lambda name: runs.load_params(name, PREVIOUS)):
        with pytest.raises(InputError, match=known):
            call("resnet")
    (tmp_path / "run.json").write_text('{"experiment": 3}')
    with pytest.raises(InputError, match=r"run\.json: .*experiment: .*train again"):
        runs.experiment_of(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("task:", "task:\n  unheard_of: 3"),
        lambda text: text[:200] + "\n: [",
        lambda text: "- a\n",
        lambda text: "",
        lambda text: "\udcff",
    ],
    ids=["another version", "cut off", "a list", "empty", "bytes"],
)
def test_parameters_that_cannot_be_read_are_named(tmp_path, damage):
    text = (PREVIOUS / "params.yaml").read_text(encoding="utf-8")
    content = damage(text).encode("utf-8", "surrogateescape")
    (tmp_path / "params.yaml").write_bytes(content)
    words = (
        r"params\.yaml: the parameters .* cannot be read .*run\.json beside it names"
    )
    with pytest.raises(InputError, match=words):
        runs.load_params(SMALL, tmp_path)
    if "unheard_of" not in damage(text):
        write_checkpoints(tmp_path, "ckpt-3", last="ckpt-3")
        for call in (
            lambda: runs.labelled_images(os.fspath(tmp_path)),
            lambda: runs.begin(tmp_path, SMALL, runs.load_params(SMALL, PREVIOUS)),
        ):
            with pytest.raises(InputError, match=words):
                call()


def test_the_run_of_a_checkpoint_or_folder_is_found(tmp_path):
    write_checkpoints(tmp_path, "ckpt-5")
    write_checkpoints(tmp_path / "best", "best_ckpt-3")
    for place in ("", "ckpt-5", "best", "best/best_ckpt-3"):
        assert runs.folder_of(tmp_path / place) == tmp_path


def test_the_best_checkpoint_is_preferred_then_the_last_one(tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint found. Train a model first"):
        runs.checkpoint_in(tmp_path)
    write_checkpoints(tmp_path, "ckpt-5", "ckpt-10", "ckpt-15", last="ckpt-15")
    assert runs.checkpoint_in(tmp_path) == str(tmp_path / "ckpt-15")
    # A run that has not been evaluated yet.
    write_checkpoints(tmp_path / "best")
    assert runs.checkpoint_in(tmp_path) == str(tmp_path / "ckpt-15")
    write_checkpoints(tmp_path / "best", "best_ckpt-5")
    best = str(tmp_path / "best" / "best_ckpt-5")
    assert runs.checkpoint_in(tmp_path) == runs.checkpoint_in(best) == best
    assert runs.checkpoint_in(tmp_path / "ckpt-5") == str(tmp_path / "ckpt-5")
    with pytest.raises(InputError, match="ckpt-20: no checkpoint found"):
        runs.checkpoint_in(tmp_path / "ckpt-20")


def test_the_last_checkpoint_is_found_without_the_list_of_checkpoints(tmp_path):
    write_checkpoints(tmp_path, "ckpt-1000", "ckpt-200", "ckpt-90")
    assert runs.checkpoint_in(tmp_path) == str(tmp_path / "ckpt-1000")


def test_weights_of_another_network_are_refused(tmp_path):
    def network(outputs):
        return tf_keras.Sequential([tf_keras.layers.Dense(outputs, input_shape=(3,))])

    trained, same = network(2), network(2)
    checkpoint = tf.train.Checkpoint(model=trained).save(str(tmp_path / "ckpt"))
    runs.restore(same, checkpoint)
    np.testing.assert_array_equal(same.get_weights()[0], trained.get_weights()[0])
    larger = tf_keras.Sequential([*network(2).layers, tf_keras.layers.Dense(1)])
    larger.build((None, 3))
    for other in (network(4), larger):
        with pytest.raises(
            InputError, match=r"does not fit the network in params.yaml"
        ):
            runs.restore(other, checkpoint)
