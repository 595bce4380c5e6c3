"""The loop of a training run: progress, evaluation, early stop, and losses gone wrong."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile

import tensorflow as tf
import tqdm
from absl import logging
from official.core import config_definitions as cfg
from official.core import train_lib

from cellclass_tf.files import InputError
from cellclass_tf.maskrcnn import inputs
from cellclass_tf.maskrcnn.task import CellMaskRCNNTask


def run(
    strategy: tf.distribute.Strategy,
    task: CellMaskRCNNTask,
    mode: str,
    params: cfg.ExperimentConfig,
    model_dir: str | os.PathLike,
) -> None:
    """Trains and evaluates with Model Garden's controller.

    Raises:
      InputError: if the loss is no number any more. Checkpoints from before stay.
    """
    # The controller prints every loop's losses; the log has them too, and the bar shows.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        progress = _Progress(task, params, model_dir)
        folder = _own_folder(strategy, params, model_dir)
        runner = train_lib.OrbitExperimentRunner(
            distribution_strategy=strategy,
            task=task,
            mode=mode,
            params=params,
            model_dir=os.fspath(folder),
            train_actions=[progress],
        )
        checkpoint = tf.train.latest_checkpoint(os.fspath(model_dir))
        if checkpoint and folder != model_dir:
            runner.trainer.checkpoint.restore(checkpoint)
        with strategy.scope(), contextlib.closing(progress):
            _make_moments(runner.trainer)
            if mode == "train":
                runner.controller.train(params.trainer.train_steps)
            elif mode == "eval":
                _log_scores(runner.controller.evaluate(steps=-1))
            elif mode == "train_and_eval":
                _train_and_evaluate(runner.controller, params)
            else:
                runner.run()


def _own_folder(
    strategy: tf.distribute.Strategy, params: cfg.ExperimentConfig, model_dir
):
    """Where this worker writes: the first into the run, any other where it is lost.

    All have to write, as norms are averaged over the workers while they are written; and
    so all have to know the best score.
    """
    if strategy.extended.should_checkpoint:
        return model_dir
    folder = tempfile.mkdtemp()
    best = params.trainer.best_checkpoint_export_subdir
    known = os.path.join(model_dir, best or "", "best_ckpt_info.json")
    if best and os.path.exists(known):
        os.makedirs(os.path.join(folder, best))
        shutil.copy(known, os.path.join(folder, best))
    return folder


def _make_moments(trainer) -> None:
    """Makes the optimizer's variables before the first step.

    A first step that makes them is traced within a condition, whose branches TensorFlow
    2.20 cannot run on several replicas of a processor.
    """
    # Keras' old optimizers, which Model Garden uses, have no public name for it.
    trainer.optimizer._create_all_weights(trainer.model.trainable_variables)


def _train_and_evaluate(controller, params: cfg.ExperimentConfig) -> None:
    steps, patience = params.trainer.train_steps, params.task.patience
    best, since = -math.inf, 0
    while (step := int(controller.global_step.numpy())) < steps:
        until = min(steps, step + params.trainer.validation_interval)
        controller.train(until, checkpoint_at_completion=False)
        scores = controller.evaluate(steps=-1)
        _log_scores(scores)
        best, since = max(best, scores["AP"]), since + 1 if scores["AP"] <= best else 0
        if patience and since >= patience:
            logging.info(
                "Stopped at step %d: %d evaluations without a better AP than %.3f.",
                until,
                since,
                best,
            )
            break
    controller.save_checkpoint()


def _log_scores(scores) -> None:
    logging.info(
        "Validation fields: AP %.3f, AP50 %.3f, type accuracy %.3f.",
        *(scores[key] for key in ("AP", "AP50", "type_accuracy")),
    )


class _Progress:
    """A bar that moves after every loop of steps, and the end of a run gone wrong."""

    def __init__(self, task: CellMaskRCNNTask, params, model_dir: str | os.PathLike):
        checkpoint = tf.train.latest_checkpoint(os.fspath(model_dir))
        self._done = int(checkpoint.rsplit("-", 1)[1]) if checkpoint else 0
        self._task, self._trainer = task, params.trainer
        self._bar = tqdm.tqdm(
            total=params.trainer.train_steps,
            initial=self._done,
            desc="train",
            dynamic_ncols=True,
        )

    def __call__(self, output) -> None:
        """Is called by Model Garden's controller with a loop's mean losses."""
        loss = float(output["total_loss"])
        if not math.isfinite(loss):
            raise InputError(self._what_went_wrong())
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self._bar.update(
            min(self._trainer.steps_per_loop, self._bar.total - self._bar.n)
        )

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()

    def _what_went_wrong(self) -> str:
        bad = self._task.first_bad_batch()
        where = f"step {self._bar.n} or later"
        if bad:
            step, fields = bad
            names = _names_of(self._task.task_config.train_data, fields)
            where = f"step {step}, on crops of {', '.join(names)}"
        return (
            f"The loss is no number any more (first at {where}). Look at those fields, "
            "or lower the learning rate: "
            "--params_override=trainer.optimizer_config.learning_rate.cosine."
            "initial_learning_rate=… . Checkpoints from before are kept."
        )


def _names_of(data, fingerprints) -> list[str]:
    names = [f["image_name"] for f in inputs.fields_of(data.replace(cache=False))]
    found = inputs.fingerprint(tf.stack(names)).numpy().tolist()
    return [
        name.numpy().decode()
        for name, number in zip(names, found, strict=True)
        if number in set(fingerprints)
    ]
