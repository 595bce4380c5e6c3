"""Tests of cellclass_tf.maskrcnn.serving: results are those of the trained network."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.vision.modeling.layers import roi_aligner

from cellclass_tf.maskrcnn import config, data_facts, network, serving
from cellclass_tf.maskrcnn.input import network_input
from tests.maskrcnn.facts import facts

_BOXES = "detection_boxes"
_PER_CELL = (_BOXES, "detection_scores", "detection_probabilities", "detection_masks")


def test_a_served_network_finds_the_same_cells(monkeypatch):
    tf_keras.utils.set_random_seed(0)
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(params, facts())
    # Scores of an untrained network are near 0.5, so those of proposals are spread.
    params.task.model.detection_generator.pre_nms_score_threshold = 0.0
    # A larger maximum number than there are proposals.
    params.task.export_size_px = 64
    params.task.model.roi_generator.test_num_proposals = 1000
    params.task.model.roi_generator.test_pre_nms_top_k = 2000
    model = network.build_model(params.task, 64)
    for variable in model.rpn_head.trainable_variables:
        if "rpn-scores" in variable.name:
            variable.assign(20 * variable)
    anchors = network_input.build_anchors(params.task.model, 64)
    images = tf.random.stateless_normal([2, 64, 64, 3], [0, 1])
    before_suppression, suppress = [], network.class_agnostic_nms

    def noted(boxes, probabilities, **options):
        before_suppression.append((boxes.numpy(), probabilities.numpy()))
        return suppress(boxes, probabilities, **options)

    monkeypatch.setattr(network, "class_agnostic_nms", noted)

    def call():
        outputs = model(
            images,
            image_shape=tf.fill([2, 2], 64.0),
            anchor_boxes={
                k: tf.tile(v[None], [2, 1, 1, 1]) for k, v in anchors.items()
            },
            training=False,
        )
        return {name: outputs[name].numpy() for name in network.OUTPUTS}

    padded = call()
    serving.for_serving(model)
    found = call()
    (boxes, probabilities), (served_boxes, served_probabilities) = before_suppression
    real = served_boxes.shape[1]
    assert 100 < real < boxes.shape[1]
    for b in range(2):
        apart = np.abs(served_boxes[b][:, None] - boxes[b]).max(axis=2)
        assert apart.min(axis=1).max() < 1e-3
        again = probabilities[b][apart.argmin(axis=1)]
        np.testing.assert_allclose(served_probabilities[b], again, atol=1e-4)
    assert found["num_detections"].max() == found["detection_masks"].shape[1]
    for b, count in enumerate(padded["num_detections"]):
        expected = {k: padded[k][b, :count] for k in _PER_CELL}
        apart = np.abs(expected[_BOXES][:, None] - found[_BOXES][b]).max(axis=2)
        again = apart.min(axis=1) < 1e-3
        # Rounding decides which of two boxes with nearly equal scores is kept.
        assert again.mean() > 0.9
        places = apart.argmin(axis=1)[again]
        for name, values in expected.items():
            np.testing.assert_allclose(found[name][b][places], values[again], atol=1e-3)


@pytest.mark.parametrize("count", [0, 1, 600])
def test_features_are_sampled_at_the_same_points_as_in_model_garden(count):
    rng = np.random.default_rng(0)
    features = {
        str(n): tf.constant(rng.normal(size=(2, 256 >> n, 256 >> n, 5)), tf.float32)
        for n in (2, 3, 4)
    }
    # Boxes of all sizes up to the whole field, some at its border, some empty.
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
