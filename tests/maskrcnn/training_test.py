"""Tests of training, export and prediction together, on a tiny study."""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from pyarrow import parquet

import cellclass_tf as cc
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.maskrcnn import (
    config,
    export,
    hardware,
    loop,
    named_weights,
    network,
    runs,
    training,
    weights,
)
from cellclass_tf.maskrcnn.cell_namer import crops, finished
from cellclass_tf.maskrcnn.cell_namer import network as namer_network
from cellclass_tf.maskrcnn.cell_namer import training as cell_namer
from cellclass_tf.storage import lock
from experiments import starting_weights
from tests.annotation import cellpose_networks

SMALL = "cellclass_maskrcnn_small"
# One step is enough to test that all parts work together; the demo shows the accuracy.
FAST = (
    "task.train_data.global_batch_size=2,task.validation_data.global_batch_size=2,"
    "task.export_size_px=64,trainer.steps_per_loop=1,trainer.checkpoint_interval=1,"
    "trainer.summary_interval=1,task.model.input_size=[64,64,3],"
    "task.model.backbone.resnet.model_id=10,task.model.max_level=3,"
    "task.model.mask_head.num_convs=1,task.namer_steps=0,task.views=2"
)


@pytest.fixture(scope="module")
def study(prepared):
    return prepared


@pytest.fixture(scope="module")
def model_dir(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    override = f"{FAST},task.train_data.seed=3,task.namer_steps=1"
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


def test_a_run_continues_where_it_stopped_and_ends_when_it_no_longer_improves(
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
    # With this learning rate, the score at step 3 is no better than that at step 2.
    assert tf.train.latest_checkpoint(tmp_path).endswith("ckpt-3")
    reader = tf.train.load_checkpoint(tmp_path)
    assert reader.get_tensor("global_step/.ATTRIBUTES/VARIABLE_VALUE") == 3
    # The checkpoint with the best validation score is exported.
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


def test_a_run_on_another_dataset_does_not_continue_in_the_same_folder(
    study, model_dir, tmp_path
):
    for file in model_dir.glob("c*k*p*t*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = (model_dir / "params.yaml").read_text()
    now = runs.load_params(SMALL, model_dir).task.fingerprint
    (tmp_path / "params.yaml").write_text(text.replace(now, "another"))
    with pytest.raises(cc.InputError, match="trained on another dataset"):
        training.train(SMALL, tmp_path, study=study, steps=2, params_override=FAST)


def test_export_without_the_dataset_is_an_error_unless_calibration_is_off(
    model_dir, tmp_path
):
    training_dir = shutil.copytree(model_dir, tmp_path / "training")
    params, run = training_dir / "params.yaml", training_dir / "run.json"
    lines = params.read_text().splitlines()
    gone = [
        f"{line.partition(':')[0]}: {tmp_path / 'gone'}"
        if "tfds_data_dir" in line
        else line
        for line in lines
    ]
    params.write_text("\n".join(gone))
    with pytest.raises(cc.InputError, match=r"not found .*gone.*--no-calibration"):
        export.export(SMALL, training_dir, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    exported = export.export(SMALL, training_dir, tmp_path / "model", calibrate=False)
    metadata = json.loads((exported / "cellclass.json").read_text())
    assert metadata["calibration"] is None
    assert metadata["temperature"] == 1.0
    assert metadata["named_by"] == ["detector", "namer"]
    # The record of an older version has no folder.
    run.write_text(json.dumps({"experiment": SMALL}))
    with pytest.raises(cc.InputError, match="was not found"):
        export.export(SMALL, training_dir, tmp_path / "model2")


def test_a_model_of_several_runs_averages_their_probabilities(
    model_dir, model, study, tmp_path
):
    two = export.export(SMALL, [model_dir, model_dir], tmp_path / "two")
    alone, both = cc.Predictor.load(model), cc.Predictor.load(two)
    assert (alone.metadata.networks, both.metadata.networks) == (1, 2)
    image, labels = field_of(study)
    # The mean of two equal networks is the result of one.
    first, second = (p.name_uncalibrated(image, labels) for p in (alone, both))
    assert len(first) == len(second) > 0
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=1e-5)
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-5)
    # For detected cells, the second network classifies the final boxes, not the proposals.
    assert all(len(p.predict(image, score_threshold=0.05)) for p in (alone, both))
    run = shutil.copytree(model_dir, tmp_path / "other")
    text = (run / "params.yaml").read_text()
    (run / "params.yaml").write_text(
        text.replace("grayscale: false", "grayscale: true")
    )
    with pytest.raises(cc.InputError, match="other: grayscale is True, but False in"):
        export.export(SMALL, [model_dir, run], tmp_path / "not")


def test_both_networks_of_a_run_are_written_as_starting_weights(model_dir, tmp_path):
    starting_weights.write_weights(model_dir, tmp_path)
    name = weights.SIMULATED_FILE.name
    task = runs.load_params(SMALL, model_dir).task
    detector = network.build_model(task, 64)
    named_weights.assign(named_weights.named(detector), tmp_path / name)
    trained, record = finished.load(model_dir)
    assert record.starting_weights == config.SIMULATED
    namer = namer_network.build(3)
    given = namer_network.named(namer)
    named_weights.assign(given, tmp_path / "cell_namer" / name)
    for key, variable in namer_network.named(trained).items():
        np.testing.assert_allclose(given[key], variable, rtol=1e-3, atol=1e-6)


def test_a_run_without_a_namer_gives_no_starting_weights(model_dir, tmp_path):
    run = shutil.copytree(model_dir, tmp_path / "run")
    shutil.rmtree(run / finished.FOLDER)
    with pytest.raises(cc.InputError, match="has no namer"):
        starting_weights.write_weights(run, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_the_exported_namer_is_the_one_that_was_trained(model_dir, model, study):
    trained, record = finished.load(model_dir)
    predictor = cc.Predictor.load(model)
    predictor.metadata = dataclasses.replace(predictor.metadata, views=1)
    metadata = predictor.metadata
    combinations = {"detector", "namer", "detector+namer"}
    assert "+".join(metadata.named_by) in combinations
    assert set(metadata.log_likelihoods) == combinations
    assert metadata.namer.scale == record.scale == 1.0
    image, labels = field_of(study)
    cut = crops.crops_of(image, labels)
    expected = cell_namer.probabilities_of(trained, cut)
    found = predictor.probabilities_by("namer", image, labels)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    signature = tf.saved_model.load(str(model)).signatures["name_crops"]
    assert signature(crops=cut)["features"].shape == (len(cut), 256)
    # The probabilities are combined as in the metadata.
    means = {}
    for names in combinations:
        predictor.metadata = dataclasses.replace(
            metadata, views=1, named_by=tuple(names.split("+"))
        )
        means[names] = predictor.name_uncalibrated(image, labels)
    np.testing.assert_allclose(means["namer"].probabilities, expected, atol=1e-5)
    both = (means["detector"].probabilities * expected) ** np.sqrt(0.5)
    both /= both.sum(axis=1, keepdims=True)
    combined = means["detector+namer"]
    np.testing.assert_allclose(combined.probabilities, both, atol=1e-5)
    assert (combined.scores == means["detector"].scores).all()


@cellpose_networks.needs_3
def test_a_model_with_cellposes_encoder_classifies_by_its_features_too(
    model_dir, study, tmp_path
):
    import torch

    torch.save(cellpose_networks.make().state_dict(), tmp_path / "weights")
    annotator = cc.CellposeAnnotator(tmp_path / "weights", 8.0)
    exported = export.export(
        SMALL,
        model_dir,
        tmp_path / "model",
        encoder_weights=annotator.encoder_weights(),
    )
    predictor = cc.Predictor.load(exported)
    metadata = predictor.metadata
    record = metadata.cellpose_features
    assert record.sha256 == annotator.weights_sha256
    assert record.scale == pytest.approx(30 / metadata.cell_diameter_px)
    assert record.cells > 10
    assert metadata.classifiers == ("detector", "namer", "cellpose_features")
    assert len(metadata.log_likelihoods) == 7
    assert "+".join(metadata.named_by) in metadata.log_likelihoods
    image, labels = field_of(study)
    by_features = predictor.probabilities_by("cellpose_features", image, labels)
    np.testing.assert_allclose(by_features.sum(axis=1), 1, atol=1e-5)
    # The model is complete without cellpose's file.
    (tmp_path / "weights").unlink()
    predictor.metadata = dataclasses.replace(metadata, named_by=("cellpose_features",))
    found = predictor.name_uncalibrated(image, labels)
    np.testing.assert_allclose(found.probabilities, by_features, atol=1e-6)
    # Simulated types differ in size and brightness, which any features show.
    types = cc.Study.open(study).read_cells(cc.Study.open(study).rows()[0])
    known = types.with_types(metadata.type_names).type_ids
    assert (found.type_ids == known).mean() > 0.8


def field_of(study):
    """Returns the image and the labels of a field."""
    opened = cc.Study.open(study)
    row = opened.rows()[0]
    return opened.read_image(row), opened.read_cells(row).labels


def test_probabilities_of_networks_are_averaged_geometrically():
    odds = tf.constant([[[0.8, 0.2]]]), tf.constant([[[0.5, 0.5]]])
    # The geometric mean of the odds 4 and 1 is 2.
    mean = export._MEANS["probabilities"](list(odds)).numpy()
    np.testing.assert_allclose(mean, [[[2 / 3, 1 / 3]]], atol=1e-6)
    assert export._MEANS["scores"]([tf.constant(0.4), tf.constant(0.8)]) == 0.6


def test_the_dataset_of_a_run_is_found_again(study, model_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = runs.load_params(SMALL, model_dir).task
    here = study / "tfds" / "cell_types" / "study" / "2.0.0"
    assert str(runs.find_dataset(model_dir, task)) == str(here)
    # Both were moved together; the old place is empty, or has another dataset.
    shutil.copytree(study / "tfds", tmp_path / "new" / "study" / "tfds")
    moved = shutil.copytree(model_dir, tmp_path / "new" / "training")
    record = json.loads((moved / "run.json").read_text())
    record["folder"] = str(tmp_path / "old" / "training")
    (moved / "run.json").write_text(json.dumps(record))
    task.validation_data.tfds_data_dir = str(tmp_path / "old" / "study" / "tfds")
    place = tmp_path / "new" / "study" / "tfds" / "cell_types" / "study" / "2.0.0"
    assert str(runs.find_dataset(moved, task)) == str(place)
    # Another dataset is at the old place.
    other = pathlib.Path(task.validation_data.tfds_data_dir) / place.relative_to(
        tmp_path / "new" / "study" / "tfds"
    )
    shutil.copytree(place, other)
    (other / "metadata.json").write_text('{"fingerprint": "another"}')
    assert str(runs.find_dataset(moved, task)) == str(place)
    shutil.rmtree(tmp_path / "old")
    # They were moved separately: the user gives the new place.
    (tmp_path / "new" / "study").rename(tmp_path / "elsewhere")
    with pytest.raises(cc.InputError, match="--data_dir"):
        runs.find_dataset(moved, task)
    place = tmp_path / "elsewhere" / "tfds"
    assert runs.find_dataset(moved, task, place).parts[-4:] == (
        "tfds",
        "cell_types",
        "study",
        "2.0.0",
    )
    task.fingerprint = "another"
    with pytest.raises(
        cc.InputError, match=r"is not the dataset that .*--no-calibration"
    ):
        runs.find_dataset(moved, task, place)


@pytest.mark.parametrize("name", ["off", "one_device", "mirrored"])
def test_training_prints_its_devices_and_unused_gpus(name, capsys, caplog):
    params = config.cellclass_maskrcnn_small()
    params.runtime.distribution_strategy = name
    machine = hardware.Hardware(driver_gpus=("NVIDIA H100",), processors=8)
    strategy = training._strategy(params.runtime)
    training._print_devices(strategy, params.runtime, machine)
    said = "Training on CPU (8 logical processors), precision float32.\n"
    assert capsys.readouterr().err.startswith(said)
    assert "GPU not used: NVIDIA H100" in caplog.text
    caplog.clear()
    training._print_devices(strategy, params.runtime, hardware.Hardware())
    assert caplog.text == ""


def test_a_model_is_exported_from_any_directory_and_terminal(model_dir, tmp_path):
    arguments = [f"--experiment={SMALL}", f"--checkpoint={model_dir}"]
    arguments += [f"--output={tmp_path / 'Modell ä'}", "--no-calibration"]
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"}
    found = subprocess.run(
        [sys.executable, "-m", "experiments.export", *arguments],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
        capture_output=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.decode("ascii").endswith("Modell \\xe4\n")
    metadata = json.loads((tmp_path / "Modell ä" / "cellclass.json").read_text())
    assert metadata["calibration"] is None


def test_a_folder_that_is_not_a_model_is_not_overwritten(model_dir, tmp_path):
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(cc.InputError, match="not an exported model"):
        export.export(SMALL, model_dir, tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_the_exported_model_can_be_called_by_its_signature(study, model):
    metadata = json.loads((model / "cellclass.json").read_text())
    seen = [
        r for r in cc.Study.open(study).rows() if r.split in ("train", "validation")
    ]
    assert len(metadata["labelled_images"]) == len(seen) > 0
    serve = tf.saved_model.load(str(model)).signatures["serving_default"]
    outputs = serve(images=tf.zeros([3, 64, 64, 3], tf.uint8))
    assert outputs["detection_probabilities"].shape[-1] == len(metadata["type_names"])
    assert outputs["detection_boxes"].shape[0] == 3


def test_predict_writes_all_its_files_and_has_nothing_to_do_again(
    study, model, tmp_path
):
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


ALL_COMMANDS = """
import pathlib, sys
from cellclass_tf import process_state
from cellclass_tf.cli import main as cli

process_state.begin_program()
raw, model, out, few = sys.argv[1:]
study, out = f"--study={out}/study", pathlib.Path(out)
ran = {}
def run(name, *flags, status=0):
    ran[name] = cli.run([name, *map(str, flags)])
    assert ran[name] == status, (name, ran[name])
for name in cli.COMMANDS:
    run(name, "--help")
ran.clear()
run("convert", f"--input={raw}", study, "--group=[^/]+_dish[0-9]+", "--processes=1")
if few:
    run("trace", next((out / "study" / "images").rglob("*.png")))
    sys.exit()
run("simulate", f"--study={out}/drawn", "--images_per_type=1", "--mixed=0", "--size=160")
run("annotate", study, "--annotator=watershed")
run("export", study, "--format=cellpose", f"--output={out}/gui")
run("import", study, "--format=cellpose", f"--source={out}/gui")
run("export", study, "--format=coco", f"--output={out}/coco")
run("import", study, "--format=coco", f"--source={out}/coco")
for form in ("imagej", "geojson", "ome", "zarr"):
    run("export", study, f"--format={form}", f"--output={out}/{form}")
run("dataset", study, "--processes=1", "--allow_no_validation")
run("check", study)
run("predict", f"--model={model}", f"--input={raw}/mixed", f"--output={out}/found")
run("predict", f"--model={model}", f"--input={out}/study", f"--output={out}/found2")
run("evaluate", f"--predictions={out}/found2", study)
run("report", f"--predictions={out}/found2")
run("compare", f"--a={out}/found2", f"--b={out}/study", f"--output={out}/compared")
(label,) = (out / "found2" / "labels" / "mixed").glob("*.tif")
run("trace", label)
run("finetune", study, "--model=none", f"--output={out}/w", status=2)
run("spotcheck", f"--predictions={out}/found2", "--cells=1")
run("conditions", study)
run("compare-conditions", f"--predictions={out}/found2", f"--output={out}/c", status=2)
run("restore", f"--folder={out}/study")
run("schemas", f"--output={out}/schemas")
one = f"--image={label.stem}"
run("figure", f"--predictions={out}/found2", one, f"--output={out}/figures/a.svg")
places = (f"--input={raw}", f"--study={out}/s", f"--output={out}/r")
run("run", *places, "--plan", "--annotator=watershed")
run("train", study, f"--output={out}/t", "--steps=1", "--minutes=1", status=2)
run("export-model", f"--training={out}/nothing", f"--output={out}/m", status=2)
owner = ("--authors=Ana", "--license=CC0-1.0", f"--image={out}/nothing.png")
run("package-model", f"--model={model}", f"--output={out}/m.txt", *owner, status=2)
# The demo takes minutes, and .ci/run runs it on such a terminal.
assert set(ran) == set(cli.COMMANDS) - {"demo"}, set(cli.COMMANDS) - set(ran)
"""


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_every_command_runs_on_a_terminal_without_utf_8(study, model, tmp_path, locale):
    raw = tmp_path / "Zellen ä µ"
    for path in sorted((study / "raw").rglob("*_000[12].ome.tif")):
        name = path.name.replace("_000", "_ü_000")
        (raw / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, raw / path.parent.name / name)
    environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0"}
    environment.pop("PYTHONIOENCODING", None)
    found = subprocess.run(
        [
            *(sys.executable, "-c", ALL_COMMANDS, raw, model, tmp_path / "ö"),
            # In UTF-8, as in all other tests, two commands are enough.
            "" if locale == "C" else "few",
        ],
        env=environment,
        capture_output=True,
        check=False,
    )
    encoding = "ascii" if locale == "C" else "utf-8"
    printed = found.stdout.decode(encoding) + found.stderr.decode(encoding)
    assert found.returncode == 0, printed
    assert ("pixel size in \\xb5m" in printed) == (locale == "C")
    assert ("pixel size in µm" in printed) == (locale != "C")
    # Tables and file names are UTF-8 in any locale.
    manifest = (tmp_path / "ö" / "study" / "images.csv").read_text(encoding="utf-8")
    assert "_ü_0001" in manifest
    assert list((tmp_path / "ö" / "study" / "images" / "HEK").glob("*_ü_0001.png"))


def test_predict_takes_raw_files_and_names_those_that_fail(study, model, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    good = (study / "raw/HEK/HEK_dish1_0001.ome.tif").read_bytes()
    (raw / "good.ome.tif").write_bytes(good)
    (raw / "bad.tif").write_text("no picture")
    outcome = cc.predict(model, raw, tmp_path / "out")
    assert list(outcome.failures) == [str(raw / "bad.tif")]
    assert (tmp_path / "out" / "labels" / "good.tif").exists()
    # The images can be found again, also after a move.
    (tmp_path / "out").rename(tmp_path / "moved")
    ((path, size_um),) = Predictions(tmp_path / "moved").images().values()
    assert path.exists()
    assert size_um == 0.325


def test_a_run_without_a_dataset_or_checkpoint_says_what_to_do(tmp_path):
    cc.Study.create(tmp_path / "s")
    with pytest.raises(cc.InputError, match="cellclass dataset"):
        training.train(SMALL, tmp_path / "m", study=tmp_path / "s")
    with pytest.raises(cc.InputError, match="no checkpoint"):
        export.export(SMALL, tmp_path, tmp_path / "out")
    with pytest.raises(cc.InputError, match="cellclass_maskrcnn_small"):
        training.train("retinanet", tmp_path / "m")


def test_the_network_classifies_cells_at_the_scale_of_the_training_images(model):
    predictor = cc.Predictor.load(model)
    assert predictor.type_names == ("HEK", "N2a")
    assert predictor.scale_for(2 * 0.325) == pytest.approx(
        2 * predictor.scale_for(None)
    )
    found = predictor.predict(np.zeros((100, 150, 3), np.uint8))
    assert found.labels.shape == (100, 150)


def test_a_loss_that_becomes_nan_stops_training_and_names_step_and_fields(
    study, tmp_path
):
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
    # The checkpoint of an earlier step has finite weights.
    reader = tf.train.load_checkpoint(tmp_path)
    step = int(reader.get_tensor("global_step/.ATTRIBUTES/VARIABLE_VALUE"))
    assert 1 <= step < 6


def test_a_time_limit_is_turned_into_steps_and_settings_are_logged_once(
    study, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(loop, "_TIMED_STEPS", 1)
    # 4 of 5 minutes, minus two starts of 20 s and the ten steps that were timed.
    assert training.steps_within(300, loop.Speed(20.0, 0.5)) == 390
    assert training.steps_within(1, loop.Speed(20.0, 0.5)) == 100
    measured, found = loop.measure, []

    def measure(*args):
        found.append(measured(*args))
        assert found[0].start_s > found[0].step_s > 0
        return loop.Speed(20.0, 0.5)

    monkeypatch.setattr(loop, "measure", measure)
    monkeypatch.setattr(loop, "run", lambda *_: None)
    for minutes in (5, 50):
        caplog.clear()
        caplog.set_level("INFO", logger="cellclass_tf")
        training.train(
            SMALL,
            tmp_path,
            study=study,
            mode="train",
            minutes=minutes,
            params_override=FAST,
        )
        # Once, although the parameters are parsed twice; and the measurement is silent.
        assert caplog.text.count("Set from the data") == 1
        assert caplog.text.count("trainer.train_steps = 390") == 1
        assert "Training starts from" not in caplog.text
        # A continued run keeps its number of steps.
        assert runs.load_params(SMALL, tmp_path).trainer.train_steps == 390
    assert len(found) == 1
    # The measurement leaves no files.
    assert not list(tmp_path.glob("ckpt*"))


@pytest.mark.parametrize("options", [{"steps": 5, "minutes": 1.0}, {"minutes": 0.0}])
def test_steps_and_minutes_are_not_both_given(study, tmp_path, options):
    with pytest.raises(cc.InputError, match="either steps, or more than 0 minutes"):
        training.train(SMALL, tmp_path, study=study, params_override=FAST, **options)
    assert not list(tmp_path.iterdir())


def test_two_trainings_do_not_mix_their_checkpoints(study, tmp_path):
    def train():
        training.train(SMALL, tmp_path, study=study, steps=2, params_override=FAST)

    with (
        lock.one_writer(tmp_path, "train"),
        concurrent.futures.ThreadPoolExecutor(1) as other,
        pytest.raises(cc.InputError, match="is being written to by `train`"),
    ):
        other.submit(train).result()
    assert [path.name for path in tmp_path.iterdir()] == [".journal"]


def test_the_backbone_is_not_changed_while_only_the_heads_are_trained(study, tmp_path):
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
    assert first
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert not all(np.array_equal(second[key], third[key]) for key in first)
    params = runs.load_params(SMALL, tmp_path)
    course = params.trainer.optimizer_config.learning_rate.stepwise
    assert course.boundaries == [2]
    assert course.values[1] == course.values[0] / 10


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


def test_prediction_loads_neither_pytorch_nor_model_garden(study, model, tmp_path):
    code = (
        "import sys, cellclass_tf as cc; cc.predict(*sys.argv[1:], cell_type='mixed'); "
        "loaded = {'torch', 'cellpose', 'official', 'orbit', 'tf_keras'}; "
        "loaded &= set(sys.modules); assert not loaded, loaded"
    )
    arguments = [sys.executable, "-c", code, model, study, tmp_path / "out"]
    subprocess.run(arguments, check=True)
    assert (tmp_path / "out" / "report.html").exists()
