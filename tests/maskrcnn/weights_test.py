"""Tests of starting weights: loaded weights are equal, and unsuitable ones are refused."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.vision.modeling import backbones

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import (
    config,
    data_facts,
    named_weights,
    network,
    runs,
    weights,
)
from tests.maskrcnn.facts import facts


def task_of():
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(params, facts())
    return smallest(params).task


def smallest(params):
    """Reduces the network to as few layers of the same kinds as possible."""
    model = params.task.model
    model.backbone.resnet.model_id, model.max_level = 10, 3
    model.mask_head.num_convs = 1
    return params


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    task = task_of()
    task.init_checkpoint = str(tmp_path)
    with pytest.raises(InputError, match="no checkpoint found"):
        weights.load(task, None)


def test_a_backbone_checkpoint_of_model_garden_is_loaded_completely(tmp_path):
    task = task_of()
    whole = backbones.factory.build_backbone(
        tf_keras.layers.InputSpec(shape=[None, 64, 64, 3]),
        task.model.backbone,
        task.model.norm_activation,
    )
    path = tf.train.Checkpoint(backbone=whole).write(str(tmp_path / "ckpt"))
    model = network.build_model(task, 64)
    task.init_checkpoint = path
    weights.load(task, model)
    image = tf.random.stateless_uniform([1, 64, 64, 3], [0, 1])
    for level, values in model.backbone(image, training=False).items():
        np.testing.assert_array_equal(values, whole(image, training=False)[level])


def test_the_shipped_weights_fit_the_small_experiment(caplog):
    params = config.cellclass_maskrcnn_small()
    changed = dataclasses.replace(
        facts(), type_names=("a", "b", "c"), cells_by_type=(9, 9, 9)
    )
    data_facts.apply_facts(params, changed)
    # Neither changes the weights.
    params.task.model_diameter_px, params.task.grayscale = 32.0, True
    assert weights.simulated_fit(params.task)
    params.task.init_checkpoint = config.SIMULATED
    model = network.build_model(params.task, 64)
    with caplog.at_level("INFO", logger="cellclass_tf"):
        weights.load(params.task, model)
    assert "starts from the weights shipped with the package" in caplog.text
    with np.load(weights.SIMULATED_FILE, allow_pickle=False) as arrays:
        # The classification layer is not among them.
        assert named_weights.named(model).keys() == arrays.keys()
        for name, variable in named_weights.named(model).items():
            np.testing.assert_array_equal(variable, arrays[name].astype(np.float32))
    assert weights.SIMULATED_FILE.stat().st_size < 7e6


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """Makes a run of this package with two types."""
    folder = tmp_path_factory.mktemp("earlier")
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(smallest(params), facts())
    runs.begin(folder, "cellclass_maskrcnn_small", params)
    model = network.build_model(params.task, 64)
    tf.train.CheckpointManager(tf.train.Checkpoint(model=model), folder, 1).save()
    return folder, model


@pytest.mark.parametrize("types", [("HEK", "N2a"), ("a", "b"), ("a", "b", "c")])
def test_all_but_the_classification_layer_is_loaded_from_an_earlier_run(
    earlier, types, caplog
):
    folder, donor = earlier
    params = config.cellclass_maskrcnn_small()
    changed = dataclasses.replace(
        facts(), type_names=types, cells_by_type=(9,) * len(types)
    )
    data_facts.apply_facts(smallest(params), changed)
    params.task.init_checkpoint = str(folder)
    model = network.build_model(params.task, 128)
    with caplog.at_level("INFO", logger="cellclass_tf"):
        weights.load(params.task, model)
    assert f"starts from the weights of the training run {folder}." in caplog.text
    assert ("random weights" in caplog.text) == (types != ("HEK", "N2a"))
    other = [
        variable.name
        for variable, given in zip(model.variables, donor.variables, strict=True)
        if variable.shape != given.shape
        or not np.array_equal(variable.numpy(), given.numpy())
    ]
    # A new bias is 0, like the old one.
    expected = {"kernel"} if len(types) == 2 else {"kernel", "bias"}
    assert {name.rpartition("/")[2][:-2] for name in other} == (
        set() if types == ("HEK", "N2a") else expected
    )
    assert all("detection-scores" in name for name in other)


def test_the_shipped_weights_are_refused_for_another_network(earlier):
    task = task_of()
    assert not weights.simulated_fit(task)
    assert not weights.simulated_fit(config.cellclass_maskrcnn().task)
    task.init_checkpoint = config.SIMULATED
    with pytest.raises(
        InputError, match=r"weights are of another network.*--init=random"
    ):
        weights.load(task, earlier[1])


def test_a_run_of_another_network_is_refused(earlier):
    folder, _ = earlier
    task = task_of()
    task.init_checkpoint, task.model.decoder.fpn.num_filters = str(folder), 32
    with pytest.raises(InputError, match="shapes of weights differ"):
        weights.load(task, network.build_model(task, 64))


def test_restoring_a_checkpoint_with_another_number_of_types_is_refused(
    earlier, tmp_path
):
    folder, _ = earlier
    task = task_of()
    task.model.num_classes = 5
    with pytest.raises(InputError, match="number of types may differ"):
        runs.restore(network.build_model(task, 64), runs.checkpoint_in(folder))
