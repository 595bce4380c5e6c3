"""Tests of cellclass_tf.maskrcnn.input.anchor_labels."""

import numpy as np
import pytest
import tensorflow as tf
from official.vision.ops import anchor

from cellclass_tf.maskrcnn.input import anchor_labels

ANCHORS = anchor.build_anchor_generator(2, 4, 1, [0.6, 1.0, 1.7], 4.24)(
    image_size=(128, 128)
)
SETTINGS = (0.7, 0.3, 64, 0.5)


def boxes_of(number, seed=0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 110, (number, 2))
    foot = np.minimum(corner + rng.uniform(2, 60, (number, 2)), 128)
    return tf.constant(np.concatenate([corner, foot], axis=1), tf.float32)


def labels(boxes, number=0):
    seed = tf.constant([7, number], tf.int64)
    labeler = anchor_labels.SeededAnchorLabeler(*SETTINGS)
    return labeler.label_anchors(ANCHORS, boxes, None, seed=seed)


def flat(by_level):
    return np.concatenate([np.asarray(t).ravel() for t in by_level.values()])


@pytest.mark.parametrize("number", [0, 1, 30, 200])
def test_matches_and_offsets_equal_those_of_model_garden(number):
    boxes = boxes_of(number)
    stock = anchor.RpnAnchorLabeler(*SETTINGS)
    _, offsets = stock.label_anchors(ANCHORS, boxes, tf.ones([number, 1]))
    scores, found = labels(boxes)
    np.testing.assert_array_equal(flat(found), flat(offsets))
    every = tf.concat([tf.reshape(a, [-1, 4]) for a in ANCHORS.values()], axis=0)
    _, indicators = stock.matcher(stock.similarity_calc(every, boxes))
    # Samples are a subset of the anchors that Model Garden samples from.
    assert (indicators.numpy()[flat(scores) == 1] == 1).all()
    assert (indicators.numpy()[flat(scores) == 0] == -1).all()


def test_overlaps_equal_those_of_all_pairs():
    stock = anchor.RpnAnchorLabeler(*SETTINGS)
    for anchors in ANCHORS.values():
        pairs = stock.similarity_calc(tf.reshape(anchors, [-1, 4]), boxes_of(40))
        found = anchor_labels.grid_overlaps(anchors, boxes_of(40))
        np.testing.assert_array_equal(found, tf.transpose(pairs))


def test_every_cell_has_an_anchor_however_small_the_overlap():
    # A very small box, and one that is more elongated than any anchor.
    boxes = tf.constant([[50.0, 50, 50.5, 50.5], [100, 0, 102, 128]])
    assert (flat(labels(boxes)[0]) == 1).sum() == 2


def test_half_of_the_samples_are_positive_if_there_are_enough():
    scores = flat(labels(boxes_of(60))[0])
    assert (scores == 1).sum() == 32
    assert (scores == 0).sum() == 32
    few = flat(labels(boxes_of(1))[0])
    assert (few == 1).sum() < 32
    assert (few >= 0).sum() == 64
    none = flat(labels(boxes_of(0))[0])
    assert (none == 1).sum() == 0
    assert (none == 0).sum() == 64


def test_samples_follow_the_seed():
    once, again, other = (flat(labels(boxes_of(60), n)[0]) for n in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)
