"""The training loop: progress, evaluation, early stopping, and losses that become NaN."""

from __future__ import annotations

import contextlib
import glob
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
from official.core import base_trainer, train_lib
from official.core import config_definitions as cfg
from orbit import controller as orbit_controller

from cellclass_tf.errors import InputError
from cellclass_tf.maskrcnn import config, keras_state
from cellclass_tf.maskrcnn.input import reading
from cellclass_tf.maskrcnn.task import CellMaskRCNNTask
from cellclass_tf.messages import logger, progress_bar

# Number of warm-up steps, which include compilation; twice as many steps are timed.
_TIMED_STEPS = 5


def run(
    strategy: tf.distribute.Strategy,
    task: CellMaskRCNNTask,
    mode: str,
    params: cfg.ExperimentConfig,
    model_dir: str | os.PathLike,
) -> None:
    """Trains and evaluates with Model Garden's controller.

    Raises:
      InputError: if the loss becomes NaN or infinite. Earlier checkpoints are kept.
    """
    with (
        _silent_controller(),
        keras_state.keep_summary_step(),
        _own_folder(strategy, params, os.fspath(model_dir)) as folder,
    ):
        progress = _Progress(task, params, model_dir)
        runner = _Runner(
            distribution_strategy=strategy,
            task=task,
            mode=mode,
            params=params,
            model_dir=folder,
            train_actions=[progress],
        )
        with strategy.scope(), contextlib.closing(progress):
            if mode == "train":
                runner.controller.train(params.trainer.train_steps)
            elif mode == "eval":
                _log_scores(runner.controller.evaluate(steps=-1))
            elif mode == "train_and_eval":
                _train_and_evaluate(runner.controller, params)
            else:
                runner.run()


class Speed(NamedTuple):
    """The speed of training.

    Attributes:
      start_s: seconds from the start until the warm-up steps are done.
      step_s: seconds per step from then on.
    """

    start_s: float
    step_s: float


def measure(
    strategy: tf.distribute.Strategy,
    task: CellMaskRCNNTask,
    params: cfg.ExperimentConfig,
) -> Speed:
    """Times a few training steps in a temporary folder; their weights are discarded."""
    trial = params.replace()
    trial.trainer.steps_per_loop = trial.trainer.summary_interval = _TIMED_STEPS
    trial.trainer.best_checkpoint_export_subdir = ""
    start = time.monotonic()
    with _silent_controller(), tempfile.TemporaryDirectory() as folder:
        runner = _Runner(
            distribution_strategy=strategy,
            task=task,
            mode="train",
            params=trial,
            model_dir=folder,
        )
        with strategy.scope():
            runner.controller.train(_TIMED_STEPS, checkpoint_at_completion=False)
            started = time.monotonic()
            runner.controller.train(3 * _TIMED_STEPS, checkpoint_at_completion=False)
    done = time.monotonic()
    return Speed(started - start, (done - started) / (2 * _TIMED_STEPS))


@contextlib.contextmanager
def _silent_controller() -> Iterator[None]:
    """Makes Model Garden's controller log the losses of every loop instead of printing them."""
    log_and_print = orbit_controller._log
    orbit_controller._log = logger.debug
    try:
        yield
    finally:
        orbit_controller._log = log_and_print


@contextlib.contextmanager
def _own_folder(
    strategy: tf.distribute.Strategy, params: cfg.ExperimentConfig, model_dir: str
) -> Iterator[str]:
    """Yields the folder this worker writes to: the first the run's, others a temporary one.

    All workers must write checkpoints, because batch norms are averaged over the workers
    while they are written. Therefore all workers also need the best score and the
    checkpoint to continue from; see `_copy_state`.
    """
    if strategy.extended.should_checkpoint:
        yield model_dir
        return
    with tempfile.TemporaryDirectory() as folder:
        _copy_state(model_dir, folder, params.trainer.best_checkpoint_export_subdir)
        yield folder


def _copy_state(model_dir: str, folder: str, best: str) -> None:
    known = os.path.join(model_dir, best, "info.json") if best else ""
    if os.path.exists(known):
        os.makedirs(os.path.join(folder, best))
        shutil.copy(known, os.path.join(folder, best))
    checkpoint = tf.train.latest_checkpoint(model_dir)
    if checkpoint:
        for path in glob.glob(f"{glob.escape(checkpoint)}.*"):
            shutil.copy(path, folder)
        own = os.path.join(folder, os.path.basename(checkpoint))
        tf.compat.v1.train.update_checkpoint_state(folder, own)


class _Runner(train_lib.OrbitExperimentRunner):
    """Creates the optimizer's variables before the first step and before a restore.

    If the first step created them, it would be traced within a condition, whose branches
    TensorFlow 2.20 cannot run on several replicas on a CPU. Also, all workers must create
    the same variables in the same order.
    """

    def _build_trainer(
        self, task: CellMaskRCNNTask, train: bool, evaluate: bool
    ) -> base_trainer.Trainer:
        trainer = super()._build_trainer(task, train, evaluate)
        with self.strategy.scope():
            # Keras's legacy optimizers, which Model Garden uses, have no public name for it.
            trainer.optimizer._create_all_weights(trainer.model.trainable_variables)
        return trainer

    def _maybe_build_checkpoint_manager(self) -> tf.train.CheckpointManager:
        """Returns a checkpoint manager like Model Garden's, but in this worker's folder."""
        trainer = self.params.trainer
        return tf.train.CheckpointManager(
            self.trainer.checkpoint,
            directory=self.model_dir,
            max_to_keep=trainer.max_to_keep,
            step_counter=self.trainer.global_step,
            checkpoint_interval=trainer.checkpoint_interval,
            init_fn=self.trainer.initialize,
        )


def _train_and_evaluate(
    controller: orbit_controller.Controller, params: cfg.ExperimentConfig
) -> None:
    steps, patience = params.trainer.train_steps, params.task.patience
    best, since = -math.inf, 0
    while (step := int(controller.global_step.numpy())) < steps:
        until = min(steps, step + params.trainer.validation_interval)
        controller.train(until, checkpoint_at_completion=False)
        scores = controller.evaluate(steps=-1)
        _log_scores(scores)
        best, since = max(best, scores["AP"]), since + 1 if scores["AP"] <= best else 0
        if patience and since >= patience:
            logger.info(
                "Early stopping at step %d: AP was not above %.3f in the last %d "
                "evaluations.",
                until,
                best,
                since,
            )
            break
    controller.save_checkpoint()


def _log_scores(scores: Mapping[str, float]) -> None:
    logger.info(
        "Scores on the validation fields: AP %.3f, AP50 %.3f, type accuracy %.3f.",
        *(scores[key] for key in ("AP", "AP50", "type_accuracy")),
    )


class _Progress:
    """Updates the progress bar after every loop of steps, and stops if the loss is NaN."""

    def __init__(
        self,
        task: CellMaskRCNNTask,
        params: cfg.ExperimentConfig,
        model_dir: str | os.PathLike,
    ) -> None:
        checkpoint = tf.train.latest_checkpoint(os.fspath(model_dir))
        self._done = int(checkpoint.rsplit("-", 1)[1]) if checkpoint else 0
        self._task, self._trainer = task, params.trainer
        self._bar = progress_bar(
            description="train",
            total=params.trainer.train_steps,
            initial=self._done,
            unit="step",
        )

    def __call__(self, output: Mapping[str, Any]) -> None:
        """Takes the mean losses of a loop; Model Garden's controller calls it."""
        loss = float(output["total_loss"])
        if not math.isfinite(loss):
            raise InputError(self._what_went_wrong())
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update(
            min(self._trainer.steps_per_loop, self._bar.total - self._bar.n)
        )

    def close(self) -> None:
        """Closes the bar."""
        self._bar.close()

    def _what_went_wrong(self) -> str:
        bad = self._task.first_bad_batch()
        where = f"step {self._bar.n} or later"
        if bad:
            step, fields = bad
            names = _names_of(self._task.task_config.train_data, fields)
            where = f"step {step}, on crops of {', '.join(names)}"
        return (
            f"The loss became NaN or infinite (first at {where}). Check the images and "
            "outlines of those fields, or lower the learning rate: "
            "--params_override=trainer.optimizer_config.learning_rate.cosine."
            "initial_learning_rate=… . Earlier checkpoints are kept."
        )


def _names_of(data: config.DataConfig, fingerprints: Sequence[int]) -> list[str]:
    splits = filter(None, (data.tfds_split, data.untyped_split))
    names = [
        field["image_name"]
        for split in splits
        for field in reading.fields_of(data.replace(cache=False, tfds_split=split))
    ]
    found = reading.fingerprint(tf.stack(names)).numpy().tolist()
    wanted = set(fingerprints)
    return [
        name.numpy().decode()
        for name, number in zip(names, found, strict=True)
        if number in wanted
    ]
