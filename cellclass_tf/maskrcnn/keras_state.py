"""Changes global settings of TensorFlow and Keras for a block, then restores them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf
import tf_keras

# The state of the random generators has no public name. Without it, a caller's sequence of
# random numbers would restart after the block.
from tensorflow.python.eager import context as tf_context
from tf_keras.src import backend as keras_backend

from cellclass_tf import process_state


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Makes Keras build and trace layers in one of `hardware.PRECISIONS`.

    'bfloat16' and 'float16' select Keras's mixed-precision policies: layers compute in that
    type and keep their weights in float32.
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

    Afterwards, each continues its previous sequence of random numbers.
    """
    tensorflow, keras = tf_context.context(), keras_backend._SEED_GENERATOR
    seed_before = tensorflow._seed
    # These attributes exist only after a seed has been set.
    drawing = getattr(tensorflow, "_rng", None), getattr(keras, "generator", None)
    with process_state.keep_random_numbers():
        tf_keras.utils.set_random_seed(seed)
        try:
            yield
        finally:
            # This also clears cached kernels that have the seed of the block.
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
