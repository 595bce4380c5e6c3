"""Tests of cellclass_tf.maskrcnn.keras_state."""

import random

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from cellclass_tf.maskrcnn import keras_state


@pytest.mark.parametrize(
    ("precision", "compute"),
    [("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")],
)
@pytest.mark.parametrize("outside", ["float32", "mixed_bfloat16"])
def test_a_precision_ends_with_its_block(precision, compute, outside):
    layers = []

    def build_a_layer_and_fail():
        with keras_state.precision(precision):
            layers.append(tf_keras.layers.Dense(1))
            raise KeyError

    tf_keras.mixed_precision.set_global_policy(outside)
    try:
        with pytest.raises(KeyError):
            build_a_layer_and_fail()
        assert tf_keras.mixed_precision.global_policy().name == outside
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    assert (layers[0].compute_dtype, layers[0].dtype) == (compute, "float32")


def draw():
    """Draws one number of each library, and a weight of Keras."""
    return (
        random.random(),
        float(np.random.random()),
        float(tf.random.uniform([])),
        float(tf_keras.initializers.GlorotUniform()([1, 1])[0, 0]),
    )


def draw_and_fail(seed):
    with keras_state.random_seed(seed):
        draw()
        raise KeyError


def test_a_seed_gives_the_same_numbers_and_restores_the_callers_sequence():
    with keras_state.random_seed(7):
        first = draw()
    tf_keras.utils.set_random_seed(3)
    expected = [draw() for _ in range(4)]
    tf_keras.utils.set_random_seed(3)
    found = [draw()]
    with keras_state.random_seed(7):
        assert draw() == first
    found.append(draw())
    with pytest.raises(KeyError):
        draw_and_fail(seed=8)
    assert [*found, draw(), draw()] == expected


def test_numbers_stay_random_where_no_seed_was_set():
    tf.random.set_seed(None)
    found = set()
    for _ in range(3):
        with keras_state.random_seed(7):
            draw()
        found.add(float(tf.random.uniform([])))
    assert len(found) == 3


def test_the_default_summary_step_is_restored():
    tf.summary.experimental.set_step(12)
    try:
        with keras_state.keep_summary_step():
            tf.summary.experimental.set_step(tf.Variable(3, dtype=tf.int64))
        assert tf.summary.experimental.get_step() == 12
    finally:
        tf.summary.experimental.set_step(None)
