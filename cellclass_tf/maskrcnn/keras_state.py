"""Settings that TensorFlow and Keras keep for the whole process, put back afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf
import tf_keras

# Neither seed can be read through a public name: setting them anew would start a
# caller's sequence of random numbers again from its first.
from tensorflow.python.eager import context as tf_context
from tf_keras.src import backend as keras_backend

from cellclass_tf import process_state


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Lets Keras build and trace layers in a precision, one of `hardware.PRECISIONS`.

    'bfloat16' and 'float16' stand for Keras's mixed policies: layers compute in that type
    and keep their weights in float32.
    """
    before = tf_keras.mixed_precision.global_policy()
    policy = dtype if dtype == "float32" else f"mixed_{dtype}"
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


@contextlib.contextmanager
def random_seed(seed: int) -> Iterator[None]:
    """Seeds Python, NumPy, TensorFlow and Keras for the block.

    Afterwards each goes on with the random numbers that it would have drawn next.
    """
    tensorflow, keras = tf_context.context(), keras_backend._SEED_GENERATOR
    seed_before = tensorflow._seed
    # Each is there once a seed has been set.
    drawing = getattr(tensorflow, "_rng", None), getattr(keras, "generator", None)
    with process_state.keep_random_numbers():
        tf_keras.utils.set_random_seed(seed)
        try:
            yield
        finally:
            # This also clears the kernels that were built with the block's seed.
            tf.random.set_seed(seed_before)
            if drawing[0] is not None:
                tensorflow._rng = drawing[0]
            keras.generator = drawing[1]


@contextlib.contextmanager
def keep_summary_step() -> Iterator[None]:
    """Restores the default step of `tf.summary`, which Model Garden's controller sets."""
    before = tf.summary.experimental.get_step()
    try:
        yield
    finally:
        tf.summary.experimental.set_step(before)
