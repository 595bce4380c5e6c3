"""Tests of cellclass_tf.maskrcnn.network."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.vision.modeling.layers.mask_sampler import MaskSampler

from cellclass_tf.maskrcnn import config, data_facts, keras_state, network, serving
from cellclass_tf.maskrcnn.input import network_input
from tests.maskrcnn.facts import facts


def call(boxes, probabilities, most=4):
    return network.class_agnostic_nms(
        tf.constant([boxes], tf.float32),
        tf.constant([probabilities], tf.float32),
        most=most,
        iou_threshold=0.5,
        score_threshold=0.05,
    )


def test_a_cell_detected_as_two_types_is_returned_once():
    # The same box twice, certainly a cell: once rather N2a, once rather HEK.
    found = call([[0, 0, 10, 10], [0, 0, 10, 9]], [[0.3, 0.6], [0.5, 0.2]])
    assert found["num_detections"][0] == 1
    np.testing.assert_allclose(found["detection_scores"][0, 0], 0.9, atol=1e-6)
    assert found["detection_classes"][0, 0] == 2
    np.testing.assert_allclose(
        found["detection_probabilities"][0, 0], [1 / 3, 2 / 3], atol=1e-6
    )


def test_neighbours_are_both_kept_and_padding_is_zero():
    found = call([[0, 0, 10, 10], [0, 10, 10, 20]], [[0.9, 0.0], [0.0, 0.8]])
    assert found["num_detections"][0] == 2
    np.testing.assert_array_equal(found["detection_scores"][0, 2:], [0, 0])
    assert not found["detection_boxes"][0, 2:].numpy().any()


def test_four_hundred_cells_are_all_found():
    corners = (
        np.stack(np.meshgrid(np.arange(20), np.arange(20)), -1).reshape(-1, 2) * 12
    )
    boxes = np.concatenate([corners, corners + 10], axis=1)
    found = call(boxes.tolist(), [[0.5, 0.2]] * 400, most=450)
    assert found["num_detections"][0] == 400


def test_the_network_gives_one_probability_vector_per_cell_at_any_size():
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(params, facts())
    model = network.build_model(params.task, 64)
    anchors = network_input.build_anchors(params.task.model, 64)
    outputs = model(
        tf.zeros([2, 64, 64, 3]),
        image_shape=tf.fill([2, 2], 64.0),
        anchor_boxes={k: tf.tile(v[None], [2, 1, 1, 1]) for k, v in anchors.items()},
        training=False,
    )
    # A lower maximum than in an exported tile, but more cells than fit side by side.
    most = model.detection_generator.get_config()["max_num_detections"]
    whole = params.task.model.detection_generator.max_num_detections
    assert 4 * (64 / params.task.model_diameter_px) ** 2 < most < whole
    assert outputs["detection_probabilities"].shape == (2, most, 2)
    assert outputs["detection_masks"].shape == (2, most, 28, 28)
    # The unused last stage of the backbone is not there.
    assert sorted(model.backbone.output) == ["2", "3", "4"]


def test_target_masks_are_not_shifted():
    # A cell fills the left half of its box; the proposal is the box's middle third.
    masks = np.zeros((1, 1, 56, 56), np.float32)
    masks[..., :28] = 1
    boxes = tf.constant([[[0.0, 0.0, 56.0, 56.0]]])
    rois = tf.constant([[[14.0, 14.0, 42.0, 42.0]]])
    sampler = MaskSampler(mask_target_size=28, num_sampled_masks=1)
    moved = network.moved_by_half_a_pixel(boxes, masks)
    ones = tf.ones([1, 1], tf.int32)
    for cut, first_half in ((moved, 14), (boxes, 13.5)):
        _, _, target = sampler(rois, cut, ones, 0 * ones, tf.constant(masks))
        # 14 of 28 px are in the cell; without the shift the border is half a pixel off.
        assert float(tf.reduce_sum(target[0, 0, 5])) == pytest.approx(first_half)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_boxes_scores_and_masks_are_float32_in_every_precision(precision):
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(params, facts())
    size = 256
    images = tf.random.stateless_normal([1, size, size, 3], [0, 1])
    anchors = network_input.build_anchors(params.task.model, size)
    # A cell far from the origin, where bfloat16 has only every second integer.
    true = tf.constant([[[200.4, 201.3, 225.2, 219.7]]])
    call = {
        "image_shape": tf.fill([1, 2], float(size)),
        "anchor_boxes": {k: v[None] for k, v in anchors.items()},
    }
    targets = {
        "gt_boxes": true,
        "gt_outer_boxes": true,
        "gt_classes": tf.ones([1, 1], tf.int32),
        "gt_masks": tf.ones([1, 1, 56, 56]),
    }
    with keras_state.precision(precision):
        model = network.build_model(params.task, size)
        outputs = model(images, training=False, **call)
        trained = model(images, training=True, **call, **targets)
    kernels = [layer.compute_dtype for layer in model.backbone.layers]
    assert precision in kernels
    for name, dtype in network.OUTPUTS.items():
        assert outputs[name].dtype == dtype
    boxes = outputs["detection_boxes"].numpy()[boxes_of(outputs)]
    assert len(boxes)
    assert np.any(boxes % 1 > 0)
    # The true box is among the regions of training; its offset from itself is 0.
    found = trained["class_targets"][0] > 0
    assert trained["box_targets"].dtype == tf.float32
    assert np.abs(trained["box_targets"][0][found]).min() < 1e-5
    assert trained["mask_targets"].dtype == tf.float32


def boxes_of(outputs):
    """Returns which of the boxes (B, D, 4) are detections far from the origin."""
    return outputs["detection_boxes"].numpy().min(axis=-1) > 128


def test_given_boxes_are_classified_like_detected_ones():
    tf_keras.utils.set_random_seed(0)
    params = config.cellclass_maskrcnn_small()
    data_facts.apply_facts(params, facts())
    model = network.build_model(params.task, 64)
    serving.for_serving(model)
    anchors = network_input.build_anchors(params.task.model, 64)
    images = tf.random.stateless_normal([2, 64, 64, 3], [0, 1])
    outputs, between = model._call_box_outputs(
        images,
        tf.fill([2, 2], 64.0),
        anchor_boxes={k: tf.tile(v[None], [2, 1, 1, 1]) for k, v in anchors.items()},
        training=False,
    )
    own = tf.nn.softmax(outputs["cls_outputs"])[..., 1:].numpy()
    boxes = between["current_rois"]
    named = {name: v.numpy() for name, v in model.types_at(images, boxes).items()}
    scores, probabilities = named["scores"], named["probabilities"]
    assert named["features"].shape == (2, boxes.shape[1], 48)
    np.testing.assert_allclose(scores, own.sum(-1), atol=1e-5)
    np.testing.assert_allclose(probabilities * scores[..., None], own, atol=1e-5)
    # Any number of boxes, and in any order.
    some = tf.gather(boxes, [5, 2, 2], axis=1)
    again = model.types_at(images, some)["scores"].numpy()
    np.testing.assert_allclose(again, scores[:, [5, 2, 2]], atol=1e-5)
