"""Tests of training, export and prediction together, on a tiny study."""

import argparse
import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import cellclass_tf as cc
from cellclass_tf.maskrcnn import export, training

SMALL = "cellclass_maskrcnn_small"
# One step is enough to see that every part fits; what is learned, the demo shows.
FAST = (
    "task.train_data.global_batch_size=2,task.validation_data.global_batch_size=2,"
    "task.export_size_px=64,trainer.steps_per_loop=1,trainer.checkpoint_interval=1,"
    "trainer.summary_interval=1"
)


@pytest.fixture(scope="module")
def study(prepared):
    return prepared


@pytest.fixture(scope="module")
def model_dir(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    override = f"{FAST},task.train_data.seed=3"
    training.train(
        SMALL, folder, study=study, mode="train", steps=1, params_override=override
    )
    return folder


@pytest.fixture(scope="module")
def model(model_dir, tmp_path_factory):
    return export.export(SMALL, model_dir, tmp_path_factory.mktemp("export") / "model")


def test_training_leaves_a_checkpoint_logs_and_its_parameters(model_dir):
    assert tf.train.latest_checkpoint(model_dir).endswith("ckpt-1")
    assert list((model_dir / "train").glob("events.*"))
    params = training.load_params(SMALL, model_dir)
    assert params.task.type_names == ["HEK", "N2a"]
    assert params.task.train_data.seed == 3


def test_a_run_goes_on_where_it_stopped(study, model_dir, tmp_path):
    for file in model_dir.glob("ckpt-1*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "checkpoint").write_bytes((model_dir / "checkpoint").read_bytes())
    override = f"{FAST},trainer.validation_interval=2"
    training.train(
        SMALL,
        tmp_path,
        study=study,
        mode="train_and_eval",
        steps=2,
        params_override=override,
    )
    assert tf.train.latest_checkpoint(tmp_path).endswith("ckpt-2")
    reader = tf.train.load_checkpoint(tmp_path)
    assert reader.get_tensor("global_step/.ATTRIBUTES/VARIABLE_VALUE") == 2
    assert list((tmp_path / "validation").glob("events.*"))


def test_checkpoints_of_another_dataset_are_not_relabelled(study, model_dir, tmp_path):
    for file in model_dir.glob("c*k*p*t*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = (model_dir / "params.yaml").read_text()
    now = training.load_params(SMALL, model_dir).task.fingerprint
    (tmp_path / "params.yaml").write_text(text.replace(now, "another"))
    with pytest.raises(cc.InputError, match="trained on another dataset"):
        training.train(SMALL, tmp_path, study=study, steps=2, params_override=FAST)


def test_a_study_that_has_changed_is_not_trained_on_unasked(study, tmp_path):
    root = shutil.copytree(study, tmp_path / "study")
    row = next(row for row in cc.Study.open(root).rows() if row.split == "train")
    cc.Study.open(root).update([dataclasses.replace(row, verdict="rejected")])
    with pytest.raises(cc.InputError, match="cellclass dataset --study.*_version"):
        training.train(SMALL, tmp_path / "m", study=root)
    with pytest.raises(cc.InputError, match="no version 2.7.0"):
        training.train(SMALL, tmp_path / "m", study=root, dataset_version="2.7.0")
    for where in ({"study": root}, {"study": None, "data_dir": root / "tfds"}):
        flags = {"experiment": SMALL, "steps": 1, "data_dir": None, **where}
        flags |= {"dataset_version": "2.0.0", "config_file": [], "tpu": None}
        flags |= {"params_override": None, "tf_data_service": None}
        params = training.parse(argparse.Namespace(**flags))
        assert params.task.train_data.tfds_name == "cell_types/study:2.0.0"


def test_a_folder_that_is_no_model_is_not_overwritten(model_dir, tmp_path):
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(cc.InputError, match="no exported model"):
        export.export(SMALL, model_dir, tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_the_exported_model_answers_through_its_signature(model):
    metadata = json.loads((model / "cellclass.json").read_text())
    serve = tf.saved_model.load(str(model)).signatures["serving_default"]
    outputs = serve(images=tf.zeros([3, 64, 64, 3], tf.uint8))
    assert outputs["detection_probabilities"].shape[-1] == len(metadata["type_names"])
    assert outputs["detection_boxes"].shape[0] == 3


def test_predict_writes_all_that_it_promises_and_goes_on(study, model, tmp_path):
    run = {"cell_type": "mixed", "score_threshold": 0.0}
    outcome = cc.predict(model, study, tmp_path, **run)
    assert list(outcome.done) == ["mixed/mixed_dish1_0001"]
    for name in ("cells.csv", "counts.csv", "run.json"):
        assert (tmp_path / name).exists()
    labels = cc.Cells.read(
        tmp_path / "labels/mixed/mixed_dish1_0001.tif", ("HEK", "N2a")
    )
    assert labels.labels.shape == (224, 224)
    assert (tmp_path / "overlays/mixed/mixed_dish1_0001.png").exists()
    assert cc.predict(model, study, tmp_path, **run).done == {}
    assert json.loads((tmp_path / "run.json").read_text())["model_sha256"]


def test_predict_takes_raw_files_and_names_those_that_fail(study, model, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    good = (study / "raw/HEK/HEK_dish1_0001.ome.tif").read_bytes()
    (raw / "good.ome.tif").write_bytes(good)
    (raw / "bad.tif").write_text("no picture")
    outcome = cc.predict(model, raw, tmp_path / "out")
    assert list(outcome.failures) == [str(raw / "bad.tif")]
    assert (tmp_path / "out" / "labels" / "good.tif").exists()


def test_a_run_without_a_dataset_or_checkpoint_says_what_to_do(tmp_path):
    cc.Study.create(tmp_path / "s")
    with pytest.raises(cc.InputError, match="cellclass dataset"):
        training.train(SMALL, tmp_path / "m", study=tmp_path / "s")
    with pytest.raises(cc.InputError, match="no checkpoint"):
        export.export(SMALL, tmp_path, tmp_path / "out")
    with pytest.raises(cc.InputError, match="cellclass_maskrcnn_small"):
        training.train("retinanet", tmp_path / "m")


def test_the_network_names_cells_at_the_scale_of_the_training_images(model):
    predictor = cc.Predictor.load(model)
    assert predictor.type_names == ("HEK", "N2a")
    assert predictor.scale_for(2 * 0.325) == pytest.approx(
        2 * predictor.scale_for(None)
    )
    found = predictor.predict(np.zeros((100, 150, 3), np.uint8))
    assert found.labels.shape == (100, 150)
