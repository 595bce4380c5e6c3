"""Tests of cellclass_tf.maskrcnn.loop; training_test runs it."""

import types

import pytest
import tensorflow as tf
from official.core import train_lib  # noqa: F401 - registers what the loop needs.

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import loop


class Controller:
    """A stub that trains instantly and returns the given scores."""

    def __init__(self, scores):
        self.global_step = tf.Variable(0, dtype=tf.int64)
        self._scores, self.saved_at = iter(scores), None

    def train(self, until, checkpoint_at_completion):
        self.global_step.assign(until)

    def evaluate(self, steps):
        return {"AP": next(self._scores), "AP50": 0.0, "type_accuracy": 0.0}

    def save_checkpoint(self):
        self.saved_at = int(self.global_step)


def params(patience, steps=60, interval=10):
    trainer = types.SimpleNamespace(
        train_steps=steps, validation_interval=interval, steps_per_loop=interval
    )
    return types.SimpleNamespace(
        trainer=trainer, task=types.SimpleNamespace(patience=patience)
    )


@pytest.mark.parametrize(
    ("patience", "scores", "step"),
    [
        (0, [0.5, 0.4, 0.3, 0.2, 0.1, 0.1], 60),
        (2, [0.5, 0.4, 0.3, 0.2, 0.1, 0.1], 30),
        # A better score in between restarts the count.
        (2, [0.5, 0.4, 0.6, 0.2, 0.1, 0.1], 50),
        (2, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 60),
    ],
)
def test_early_stopping_ends_training_when_ap_does_not_improve(patience, scores, step):
    controller = Controller(scores)
    loop._train_and_evaluate(controller, params(patience))
    assert controller.saved_at == step


def test_a_loss_that_becomes_nan_stops_training_with_advice(tmp_path):
    task = types.SimpleNamespace(first_bad_batch=lambda: None)
    progress = loop._Progress(task, params(0), tmp_path)
    progress({"total_loss": 1.5})
    with pytest.raises(InputError, match=r"step 10 or later.*lower the learning rate"):
        progress({"total_loss": float("nan")})
    progress.close()


def test_every_worker_gets_best_score_and_checkpoint_of_the_first(tmp_path):
    first, other = tmp_path / "first", tmp_path / "other"
    (first / "best").mkdir(parents=True)
    (first / "best" / "info.json").write_text('{"AP": 0.5}')
    other.mkdir()
    variable = tf.Variable(3.0)
    tf.train.Checkpoint(v=variable).save(str(first / "ckpt"))
    loop._copy_state(str(first), str(other), "best")
    assert (other / "best" / "info.json").read_text() == '{"AP": 0.5}'
    # A copy, which still exists after the first worker's file is replaced.
    latest = tf.train.latest_checkpoint(str(other))
    assert latest == str(other / "ckpt-1")
    variable.assign(0)
    tf.train.Checkpoint(v=variable).restore(latest)
    assert float(variable) == 3.0
