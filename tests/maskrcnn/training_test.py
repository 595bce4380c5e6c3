"""Tests of training, export and prediction together, on a tiny study."""

import argparse
import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from pyarrow import parquet

import cellclass_tf as cc
from cellclass_tf.analysis.predictions import Predictions
from cellclass_tf.maskrcnn import export, runs, training

SMALL = "cellclass_maskrcnn_small"
# One step is enough to see that every part fits; what is learned, the demo shows.
FAST = (
    "task.train_data.global_batch_size=2,task.validation_data.global_batch_size=2,"
    "task.export_size_px=64,trainer.steps_per_loop=1,trainer.checkpoint_interval=1,"
    "trainer.summary_interval=1,task.model.input_size=[64,64,3],"
    "task.model.backbone.resnet.model_id=10,task.model.max_level=3,"
    "task.model.mask_head.num_convs=1"
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
    params = runs.load_params(SMALL, model_dir)
    assert params.task.type_names == ["HEK", "N2a"]
    assert params.task.train_data.seed == 3
    record = json.loads((model_dir / "run.json").read_text())
    assert (record["experiment"], record["seed"], record["steps"]) == (SMALL, 3, 1)
    assert record["versions"]["tensorflow"] == tf.__version__


def test_a_run_goes_on_where_it_stopped_and_ends_when_it_no_longer_improves(
    study, model_dir, tmp_path
):
    for file in model_dir.glob("ckpt-1*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "checkpoint").write_bytes((model_dir / "checkpoint").read_bytes())
    override = (
        f"{FAST},trainer.validation_interval=1,task.patience=1,"
        "trainer.optimizer_config.learning_rate.cosine.initial_learning_rate=1.0e-20"
    )
    training.train(
        SMALL,
        tmp_path,
        study=study,
        mode="train_and_eval",
        steps=9,
        params_override=override,
    )
    # Without learning the evaluation at step 3 is no better than that at step 2.
    assert tf.train.latest_checkpoint(tmp_path).endswith("ckpt-3")
    reader = tf.train.load_checkpoint(tmp_path)
    assert reader.get_tensor("global_step/.ATTRIBUTES/VARIABLE_VALUE") == 3
    # The best one by validation is what is exported.
    assert runs.checkpoint_in(tmp_path).startswith(str(tmp_path / "best"))
    assert _has_pictures(tmp_path / "validation")


def _has_pictures(folder):
    tags = {
        value.tag
        for path in folder.glob("events.*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    return {"AP", "type_accuracy", "validation_field_1"} <= tags


def test_checkpoints_of_another_dataset_are_not_relabelled(study, model_dir, tmp_path):
    for file in model_dir.glob("c*k*p*t*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = (model_dir / "params.yaml").read_text()
    now = runs.load_params(SMALL, model_dir).task.fingerprint
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
        flags |= {"init": None, "heads_steps": None, "seed": None}
        flags |= {"dataset_version": "2.0.0", "config_file": [], "tpu": None}
        flags |= {"params_override": None, "tf_data_service": None}
        params = training.parse(argparse.Namespace(**flags))
        assert params.task.train_data.tfds_name == "cell_types/study:2.0.0"


def test_where_the_dataset_is_gone_a_model_is_exported_uncalibrated(
    model_dir, tmp_path
):
    training_dir = shutil.copytree(model_dir, tmp_path / "training")
    params = training_dir / "params.yaml"
    lines = params.read_text().splitlines()
    gone = [
        f"{line.partition(':')[0]}: {tmp_path / 'gone'}"
        if "tfds_data_dir" in line
        else line
        for line in lines
    ]
    params.write_text("\n".join(gone))
    exported = export.export(SMALL, training_dir, tmp_path / "model")
    metadata = json.loads((exported / "cellclass.json").read_text())
    assert metadata["calibration"] is None and metadata["temperature"] == 1.0


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
    for name in ("cells.csv", "counts.csv", "run.json", "mixture.json", "report.html"):
        assert (tmp_path / name).exists()
    with open(tmp_path / "cells.csv", encoding="utf-8") as file:
        cells = len(file.readlines()) - 1
    assert parquet.read_table(tmp_path / "cells.parquet").num_rows == cells
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
    # The images are found again for whoever wants them, also after a move.
    (tmp_path / "out").rename(tmp_path / "moved")
    ((path, size_um),) = Predictions(tmp_path / "moved").images.values()
    assert path.exists() and size_um == 0.325


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


def test_a_loss_that_is_no_number_ends_the_run_and_says_where(study, tmp_path):
    override = (
        f"{FAST},trainer.optimizer_config.learning_rate.cosine.initial_learning_rate=1e18,"
        "trainer.optimizer_config.warmup.linear.warmup_steps=0,"
        "trainer.optimizer_config.optimizer.adam.global_clipnorm=null"
    )
    with pytest.raises(
        cc.InputError, match=r"first at step [1-9], on crops of .*\.png"
    ):
        training.train(
            SMALL,
            tmp_path,
            study=study,
            mode="train",
            steps=6,
            params_override=override,
        )
    # The checkpoint of a step before is of numbers.
    reader = tf.train.load_checkpoint(tmp_path)
    step = int(reader.get_tensor("global_step/.ATTRIBUTES/VARIABLE_VALUE"))
    assert 1 <= step < 6


def test_the_backbone_stays_while_the_heads_learn(study, tmp_path):
    def backbone_at(step):
        reader = tf.train.load_checkpoint(str(tmp_path / f"ckpt-{step}"))
        return {
            key: reader.get_tensor(key)
            for key in reader.get_variable_to_shape_map()
            if key.startswith("backbone") and "kernel/.ATTR" in key
        }

    training.train(
        SMALL,
        tmp_path,
        study=study,
        mode="train",
        steps=3,
        heads_steps=2,
        params_override=f"{FAST},trainer.max_to_keep=5",
    )
    first, second, third = (backbone_at(step) for step in (1, 2, 3))
    assert first and all(np.array_equal(first[key], second[key]) for key in first)
    assert not all(np.array_equal(second[key], third[key]) for key in first)
    params = runs.load_params(SMALL, tmp_path)
    course = params.trainer.optimizer_config.learning_rate.stepwise
    assert course.boundaries == [2] and course.values[1] == course.values[0] / 10


def test_the_same_seed_gives_the_same_weights(study, model_dir, tmp_path):
    training.train(
        SMALL,
        tmp_path,
        study=study,
        mode="train",
        steps=1,
        seed=3,
        params_override=FAST,
    )
    first, second = (
        tf.train.load_checkpoint(str(folder)) for folder in (model_dir, tmp_path)
    )
    kernels = [k for k in first.get_variable_to_shape_map() if "/kernel/.ATTR" in k]
    assert len(kernels) >= 20
    for key in kernels:
        np.testing.assert_allclose(
            first.get_tensor(key), second.get_tensor(key), atol=1e-6
        )
