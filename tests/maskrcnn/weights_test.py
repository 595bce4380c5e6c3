"""Starting weights: what goes over is the same, and what does not fit is said."""

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
    """Of the same kinds of layers, and as few as it goes."""
    model = params.task.model
    model.backbone.resnet.model_id, model.max_level = 10, 3
    model.mask_head.num_convs = 1
    return params


def keras_task(kind):
    task = task_of()
    if kind == "mobilenet":
        task.model.backbone.type = "mobilenet"
        task.model.backbone.mobilenet.model_id = "MobileNetV2"
        task.model.norm_activation.activation = "relu6"
    else:
        task.model.backbone.resnet.model_id = 50
        task.model.backbone.resnet.depth_multiplier = 1.0
        task.keras_strides = True
    task.model.max_level = 5
    return task


ENDS = {
    "mobilenet": ("block_2_add", "block_5_add", "block_12_add", "block_16_project_BN"),
    "resnet": (
        "conv2_block3_out",
        "conv3_block4_out",
        "conv4_block6_out",
        "conv5_block3_out",
    ),
}


@pytest.fixture(scope="module", params=["mobilenet", "resnet"])
def given(request, tmp_path_factory):
    """A donor of the shape of ImageNet's, whose norms and biases do something."""
    tf_keras.utils.set_random_seed(0)
    make = {"mobilenet": "MobileNetV2", "resnet": "ResNet50"}[request.param]
    donor = getattr(tf_keras.applications, make)(
        include_top=False, weights=None, input_shape=(224, 224, 3)
    )
    rng = np.random.default_rng(0)
    for variable in donor.weights:
        if "kernel" not in variable.name:
            variable.assign(rng.uniform(0.2, 0.8, variable.shape))
    path = tmp_path_factory.mktemp("keras") / "weights.h5"
    donor.save_weights(path)
    return request.param, donor, str(path)


def features(kind, donor, image):
    ends = [donor.get_layer(name).output for name in ENDS[kind]]
    return [
        end.numpy() for end in tf_keras.Model(donor.input, ends)(image, training=False)
    ]


def test_every_end_point_of_keras_is_found_again(given):
    kind, donor, _ = given
    task = keras_task(kind)
    backbone = network.build_backbone(task, 224)
    weights.carry(donor, backbone, task.model.norm_activation.norm_epsilon)
    image = np.random.default_rng(1).random((1, 224, 224, 3)).astype(np.float32)
    expected = features(kind, donor, image)
    # ResNet's of Keras pads three pixels more at the top and the left.
    moved = np.roll(image, (3, 3), (1, 2)) if kind == "resnet" else image
    found = backbone(moved, training=False)
    for level, values in zip("2345", expected, strict=True):
        edge = {"resnet": values.shape[1] // 3, "mobilenet": 0}[kind]
        inside = (0, slice(edge, -edge or None), slice(edge, -edge or None))
        difference = np.abs(found[level].numpy()[inside] - values[inside]).max()
        assert difference <= 1e-4 * np.abs(values).max(), level


def test_the_donors_scaling_of_images_goes_into_the_first_layers(given):
    kind, donor, path = given
    task = keras_task(kind)
    backbone = network.build_backbone(task, 224)
    task.init_checkpoint = path
    weights.from_keras(task, backbone, path)
    image = np.random.default_rng(1).random((1, 224, 224, 3)).astype(np.float32)
    mean, spread = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    moved = np.roll(image, (3, 3), (1, 2)) if kind == "resnet" else image
    found = backbone((moved - mean) / spread, training=False)["2"].numpy()
    prepare = getattr(
        tf_keras.applications, {"mobilenet": "mobilenet_v2"}.get(kind, kind)
    )
    expected = features(kind, donor, prepare.preprocess_input(255 * image))[0]
    inside = (0, slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(
        found[inside], expected[inside], atol=1e-4 * np.abs(expected).max()
    )


def test_weights_that_do_not_fit_are_refused(given, tmp_path):
    kind, _, path = given
    task = task_of()
    with pytest.raises(InputError, match="resnet 10"):
        weights.from_keras(task, None, path)
    other = keras_task({"mobilenet": "resnet", "resnet": "mobilenet"}[kind])
    with pytest.raises(InputError, match="expected weights of"):
        weights.from_keras(other, None, path)
    with pytest.raises(InputError, match="does not exist"):
        weights.from_keras(other, None, str(tmp_path / "none.h5"))
    task.init_checkpoint = str(tmp_path)
    with pytest.raises(InputError, match="no checkpoint to start from"):
        weights.load(task, None)


def test_a_backbone_of_model_garden_goes_over_whole(tmp_path):
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


def test_the_weights_that_come_with_the_package_fit_the_small_experiment():
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
    weights.load(params.task, model)
    with np.load(weights.SIMULATED_FILE, allow_pickle=False) as arrays:
        # The layer that tells the types is not among them.
        assert named_weights.named(model).keys() == arrays.keys()
        for name, variable in named_weights.named(model).items():
            np.testing.assert_array_equal(variable, arrays[name].astype(np.float32))
    assert weights.SIMULATED_FILE.stat().st_size < 7e6


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A run of this package with two types, as `training` leaves it."""
    folder = tmp_path_factory.mktemp("earlier")
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(smallest(params), facts())
    runs.begin(folder, "cellclass_maskrcnn_small", params)
    model = network.build_model(params.task, 64)
    tf.train.CheckpointManager(tf.train.Checkpoint(model=model), folder, 1).save()
    return folder, model


@pytest.mark.parametrize("types", [("HEK", "N2a"), ("a", "b"), ("a", "b", "c")])
def test_all_but_the_type_layer_comes_from_an_earlier_run(earlier, types):
    folder, donor = earlier
    params = config.cellclass_maskrcnn_small()
    changed = dataclasses.replace(
        facts(), type_names=types, cells_by_type=(9,) * len(types)
    )
    data_facts.apply_facts(smallest(params), changed)
    params.task.init_checkpoint = str(folder)
    model = network.build_model(params.task, 128)
    weights.load(params.task, model)
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


def test_the_weights_that_come_with_the_package_fit_no_other_network(earlier):
    task = task_of()
    assert not weights.simulated_fit(task)
    assert not weights.simulated_fit(config.cellclass_maskrcnn().task)
    task.init_checkpoint = config.SIMULATED
    with pytest.raises(InputError, match="weights of another network.*--init=random"):
        weights.load(task, earlier[1])


def test_a_run_of_another_network_is_refused(earlier):
    folder, _ = earlier
    task = task_of()
    task.init_checkpoint, task.model.decoder.fpn.num_filters = str(folder), 32
    with pytest.raises(InputError, match="weights of other shapes"):
        weights.load(task, network.build_model(task, 64))


def test_a_checkpoint_of_other_types_is_no_checkpoint_of_this_run(earlier, tmp_path):
    folder, _ = earlier
    task = task_of()
    task.model.num_classes = 5
    with pytest.raises(InputError, match="another number of types"):
        runs.restore(network.build_model(task, 64), runs.checkpoint_in(folder))
