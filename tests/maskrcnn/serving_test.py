"""The network that is served is the one that was trained."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.vision.modeling.layers import roi_aligner

from cellclass_tf.maskrcnn import config, data_facts, inputs, network, serving
from tests.maskrcnn.inputs_test import facts


def test_a_served_network_finds_the_same_cells():
    tf_keras.utils.set_random_seed(0)
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(params, facts())
    params.task.model.detection_generator.pre_nms_score_threshold = 0.0
    model = network.build_model(params.task, 64)
    # Untrained, scores would be so close that rounding decides which box is the surest.
    for variable in model.trainable_variables:
        if "-scores/" in variable.name:
            variable.assign(30 * variable)
    anchors = inputs.build_anchors(params.task.model, 64)

    @tf.function
    def call(images):
        return model(
            images,
            image_shape=tf.fill([2, 2], 64.0),
            anchor_boxes={
                k: tf.tile(v[None], [2, 1, 1, 1]) for k, v in anchors.items()
            },
            training=False,
        )

    images = tf.random.stateless_normal([2, 64, 64, 3], [0, 1])
    padded = {k: call(images)[k].numpy() for k in network.OUTPUTS}
    serving.for_serving(model)
    call = tf.function(call.python_function)
    found = {k: call(images)[k].numpy() for k in network.OUTPUTS}
    most = found["num_detections"].max()
    assert 0 < most == padded["num_detections"].max()
    room = params.task.model.detection_generator.max_num_detections
    assert found["detection_masks"].shape[1] == most < room
    for name in ("detection_boxes", "detection_probabilities", "detection_masks"):
        for b, count in enumerate(padded["num_detections"]):
            np.testing.assert_allclose(
                found[name][b, :count], padded[name][b, :count], atol=1e-4
            )


@pytest.mark.parametrize("count", [0, 1, 600])
def test_features_are_read_where_model_garden_reads_them(count):
    rng = np.random.default_rng(0)
    features = {
        str(n): tf.constant(rng.normal(size=(2, 256 >> n, 256 >> n, 5)), tf.float32)
        for n in (2, 3, 4)
    }
    # Of all sizes, up to the whole field, some of them at its end, some empty.
    corners = rng.uniform(0, 256, (2, count, 2))
    sizes = np.exp(rng.uniform(0, 6, (2, count, 2)))
    boxes = np.concatenate([corners, np.minimum(corners + sizes, 256)], axis=2)
    boxes[:, ::50, 2:] = boxes[:, ::50, :2]
    boxes = tf.constant(boxes, tf.float32)
    theirs = roi_aligner.MultilevelROIAligner(crop_size=7, sample_offset=0.5)
    expected = theirs(features, boxes).numpy()
    found = serving._CroppingAligner(theirs)(features, boxes).numpy()
    assert found.shape == (2, count, 7, 7, 5)
    np.testing.assert_allclose(found, expected, atol=2e-4)
