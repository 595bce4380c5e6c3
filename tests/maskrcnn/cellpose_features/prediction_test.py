"""Tests of cellclass_tf.maskrcnn.cellpose_features.prediction."""

import numpy as np
import tensorflow as tf

from cellclass_tf.maskrcnn.cellpose_features.prediction import FeatureClassifier


def test_a_cell_without_features_has_no_probabilities():
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, 20:] = 200
    labels = np.zeros((40, 40), np.int32)
    labels[4:16, 4:16], labels[4:16, 24:36], labels[39, 39] = 1, 2, 3
    scales = []

    def encode(planes):
        scales.append(planes.shape[1])
        return {"level_0": planes}

    def name_features(features):
        bright = tf.constant(features[:, :1])
        return {"probabilities": tf.concat([1 - bright, bright, 0 * bright], axis=1)}

    classifier = FeatureClassifier(encode, name_features, scale=0.2)
    found = classifier.probabilities_of(image, labels, ratio=1.0, views=4)
    np.testing.assert_allclose(found[:2], [[1, 0, 0], [0, 1, 0]], atol=0.2)
    assert np.isnan(found[2]).all()
    # Pixels half as large as in training: half as many pixels for the network.
    assert classifier.probabilities_of(image, labels, ratio=2.0, views=1).shape == (
        3,
        3,
    )
    assert scales == [8, 16]
