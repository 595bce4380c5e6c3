"""Tests of cellclass_tf.maskrcnn.inputs."""

import numpy as np
import pytest
import tensorflow as tf

from cellclass_tf.maskrcnn import config, inputs

# Cell 1: rows 1-2, columns 1-4. Cell 3: one pixel. Cell 2 is outside this crop.
LABELS = np.zeros((6, 8), np.int32)
LABELS[1:3, 1:5] = 1
LABELS[5, 7] = 3


def facts(most_cells=20):
    return config.DataFacts(
        type_names=("HEK", "N2a"),
        cell_diameter_px=24.0,
        most_cells=most_cells,
        densest=most_cells / 128**2,
        pixel_size_um=0.5,
        decoded_bytes=1,
        fields=1,
        validation_fields=1,
        fingerprint="f",
    )


def parser(most_cells=20):
    params = config.cellclass_maskrcnn_small()
    config.apply_facts(params, facts(most_cells))
    return inputs.Parser(params.task, params.task.train_data)


def field(rows, columns, size=128):
    """A field with a grid of 5 x 5 px cells, types in turn."""
    labels = np.zeros((size, size, 1), np.uint16)
    for i in range(rows * columns):
        top, left = 6 * (i // columns), 6 * (i % columns)
        labels[top : top + 5, left : left + 5] = i + 1
    count = rows * columns
    return {
        "image": np.full((size, size, 3), 60, np.uint8),
        "labels": labels,
        "cells": {
            "type": np.arange(count, dtype=np.int64) % 2,
            "area_px": np.full(count, 25, np.int64),
            "box": np.zeros((count, 4), np.float32),
        },
    }


def test_boxes_are_those_of_the_visible_pixels():
    ids, boxes = inputs.visible_cells(LABELS, np.array([8, 50, 1]), 0.3)
    np.testing.assert_array_equal(ids, [1, 3])
    np.testing.assert_array_equal(boxes, [[1, 1, 3, 5], [5, 7, 6, 8]])


def test_a_cell_cut_to_a_sliver_is_no_target():
    # 8 of 27 pixels are seen: less than 0.3 of them; 8 of 26 are more.
    assert inputs.visible_cells(LABELS, np.array([27, 50, 9]), 0.3)[0].shape == 0
    np.testing.assert_array_equal(
        inputs.visible_cells(LABELS, np.array([26, 50, 9]), 0.3)[0], [1]
    )


def test_masks_are_the_pixels_of_the_label_image():
    labels = np.zeros((6, 8), np.int32)
    labels[1:5, 2:6] = 2
    labels[2, 3] = 1
    masks = inputs.masks_in_boxes(
        labels, tf.constant([2, 1]), tf.constant([[1.0, 2, 5, 6], [2.0, 3, 3, 4]]), 8
    )
    # A box of 4 x 4 px seen at 8 x 8: every pixel is four samples.
    expected = np.kron((labels[1:5, 2:6] == 2).astype(np.float32), np.ones((2, 2)))
    np.testing.assert_array_equal(masks[0], expected)
    np.testing.assert_array_equal(masks[1], np.ones((8, 8)))


@pytest.mark.parametrize("grid", [(0, 0), (1, 1), (20, 20)])
def test_fields_of_no_one_and_four_hundred_cells_fit(grid):
    count = grid[0] * grid[1]
    image, labels = parser(max(count, 20)).parse_for_training(
        (field(*grid), field(*grid)), tf.constant(0, tf.int64)
    )
    assert image.shape == (128, 128, 3)
    classes = labels["gt_classes"].numpy()
    real = classes > 0
    assert real.sum() <= count and (count == 0 or real.any())
    assert labels["gt_masks"].shape == (len(classes), 56, 56)
    assert np.isin(classes, [-1, 1, 2]).all()


def test_no_cell_of_a_crowded_field_is_clipped():
    crowd = parser(400)
    _, labels = crowd.parse_for_evaluation(field(20, 20))
    assert (labels["groundtruths"]["classes"].numpy() > 0).sum() == 400


def test_eager_and_tf_data_agree():
    the_parser, example = parser(), field(4, 4)
    pair, number = (example, field(2, 3)), tf.constant(5, tf.int64)
    eager = the_parser.parse_for_training(pair, number)
    dataset = tf.data.Dataset.from_tensors((pair, number))
    (graph,) = dataset.map(the_parser.parse_for_training)
    for a, b in zip(tf.nest.flatten(eager), tf.nest.flatten(graph), strict=True):
        # The sampled anchors are drawn by Model Garden without a seed.
        assert a.shape == b.shape
    np.testing.assert_allclose(eager[0], graph[0], atol=1e-4)
    np.testing.assert_array_equal(eager[1]["gt_boxes"], graph[1]["gt_boxes"])
    np.testing.assert_array_equal(eager[1]["gt_masks"], graph[1]["gt_masks"])


def test_data_without_a_directory_is_refused():
    params = config.cellclass_maskrcnn_small()
    params.task.train_data.tfds_name = "cell_types/study"
    with pytest.raises(ValueError, match="tfds_data_dir"):
        inputs.build_dataset(params.task, params.task.train_data)
