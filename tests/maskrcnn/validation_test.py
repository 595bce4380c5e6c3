"""Tests of cellclass_tf.maskrcnn.validation; tiles_test scores fields with it."""

import numpy as np
import tensorflow as tf

from cellclass_tf.maskrcnn import validation


def outputs(number):
    """Returns one tile of a field, without detections."""
    return {
        "tile": [np.array([[number, 0, 0, -np.inf, -np.inf, np.inf, np.inf]])],
        "num_detections": [np.zeros(1, np.int32)],
        "detection_boxes": [np.zeros((1, 3, 4), np.float32)],
        "detection_outer_boxes": [np.zeros((1, 3, 4), np.float32)],
        "detection_scores": [np.zeros((1, 3), np.float32)],
        "detection_probabilities": [np.zeros((1, 3, 2), np.float32)],
        "detection_masks": [np.zeros((1, 3, 28, 28), np.float32)],
    }


def test_a_network_without_detections_scores_zero_and_has_pictures(task):
    scores = validation.FieldScores(task)
    scores.add(outputs(0))
    # Empty tiles that fill a batch are not counted as fields.
    scores.add(outputs(-1))
    result = scores.result()
    assert result["AP"] == result["type_accuracy"] == result["AP50_cells"] == 0
    assert len(scores.pictures) == 1


def test_pictures_of_any_size_go_to_tensorboard(tmp_path):
    pictures = [np.zeros((20, 30, 3), np.uint8), np.zeros((40, 10, 3), np.uint8)]
    with tf.summary.create_file_writer(str(tmp_path)).as_default(step=1):
        validation.write_pictures(pictures)
    (path,) = tmp_path.iterdir()
    tags = [
        value.tag
        for record in tf.compat.v1.io.tf_record_iterator(str(path))
        for value in tf.compat.v1.Event.FromString(record).summary.value
    ]
    assert tags == ["validation_field_1", "validation_field_2"]
