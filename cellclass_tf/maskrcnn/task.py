"""The Model Garden task that trains the network and evaluates it on whole fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras
from official.core import task_factory

from cellclass_tf.maskrcnn import (
    config,
    model_garden,
    network,
    tiles,
    validation,
    weights,
)
from cellclass_tf.maskrcnn.input import pipeline
from cellclass_tf.messages import logger


@task_factory.register_task_cls(config.CellMaskRCNNTask)
class CellMaskRCNNTask(model_garden.tasks.MaskRCNNTask):
    """Trains and evaluates the Mask R-CNN on `cell_types`.

    Attributes:
      quiet: whether the starting weights are loaded without a message, as when only the
        speed of a step is measured.
    """

    quiet = False

    def build_model(self) -> network.CellMaskRCNN:
        """Builds the network for the size of the training crops."""
        task = self.task_config
        decay = task.losses.l2_weight_decay
        regularizer = tf_keras.regularizers.l2(decay / 2) if decay else None
        model = network.build_model(task, task.model.input_size[0], regularizer)
        model.backbone.trainable = not task.freeze_backbone
        self._first_bad = _FirstBad(task.train_data.global_batch_size)
        self._backbone = {v.ref() for v in model.backbone.trainable_variables}
        return model

    def initialize(self, model: tf_keras.Model) -> None:
        """Loads the starting weights of a new run; see `weights.load`."""
        if self.task_config.init_checkpoint:
            weights.load(self.task_config, model, quiet=self.quiet)
        elif not self.quiet:
            logger.info("Training starts from random weights.")

    def create_optimizer(
        self, *args: Any, **kwargs: Any
    ) -> tf_keras.optimizers.Optimizer:
        """Builds the optimizer; in the first `heads_steps` it does not change the backbone."""
        optimizer = super().create_optimizer(*args, **kwargs)
        steps = self.task_config.heads_steps
        if not steps:
            return optimizer

        def without_backbone(
            gradients: Sequence[tuple[tf.Tensor, tf.Variable]],
        ) -> list[tuple[tf.Tensor, tf.Variable]]:
            share = tf.cast(optimizer.iterations >= steps, tf.float32)
            return [
                (tf.cast(share, g.dtype) * g if v.ref() in self._backbone else g, v)
                for g, v in gradients
            ]

        # An optimizer that averages weights or scales the loss wraps the actual one.
        inner = getattr(optimizer, "_optimizer", optimizer)
        inner.gradient_transformers.append(without_backbone)
        return optimizer

    def build_inputs(
        self,
        params: config.DataConfig,
        input_context: tf.distribute.InputContext | None = None,
        dataset_fn: Any = None,
    ) -> tf.data.Dataset:
        """Builds batches of crops for training, or of tiles for evaluation."""
        del dataset_fn
        build = pipeline.build_dataset if params.is_training else tiles.build_dataset
        return build(self.task_config, params, input_context)

    def _build_frcnn_losses(
        self, outputs: Mapping[str, tf.Tensor], labels: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # Cells of unknown type have class K + 1, for which Model Garden's loss is 0.
        classes, boxes = super()._build_frcnn_losses(outputs, labels)
        if self.task_config.train_data.untyped_split:
            is_untyped = outputs["class_targets"] > len(self.task_config.type_names)
            losses = untyped_loss(outputs["class_outputs"])
            classes += tf.reduce_mean(tf.where(is_untyped, losses, 0.0))
        return classes, boxes

    def build_metrics(self, training: bool = True) -> list[tf_keras.metrics.Metric]:
        """Returns the metrics of the losses; scores are computed by `FieldScores`."""
        return super().build_metrics(training) if training else []

    def train_step(
        self,
        inputs: tuple[tf.Tensor, Mapping[str, Any]],
        model: tf_keras.Model,
        optimizer: tf_keras.optimizers.Optimizer,
        metrics: Sequence[tf_keras.metrics.Metric] | None = None,
    ) -> dict[str, tf.Tensor]:
        """Does a training step; records the first batch whose loss is NaN or infinite."""
        step = tf.identity(optimizer.iterations)
        logs = super().train_step(inputs, model, optimizer, metrics)
        self._first_bad.note(step, inputs[1]["fields"], logs[self.loss])
        return logs

    def first_bad_batch(self) -> tuple[int, list[int]] | None:
        """Returns step and fields' fingerprints of the first loss that is NaN or infinite."""
        return self._first_bad.read()

    def validation_step(
        self,
        inputs: tuple[tf.Tensor, Mapping[str, Any]],
        model: tf_keras.Model,
        metrics: Sequence[tf_keras.metrics.Metric] | None = None,
    ) -> dict[str, tf.Tensor]:
        """Returns the detections in a batch of tiles."""
        images, labels = inputs
        outputs = model(
            images,
            anchor_boxes=labels["anchor_boxes"],
            image_shape=labels["image_info"][:, 1, :],
            training=False,
        )
        found = {name: outputs[name] for name in network.OUTPUTS}
        return found | {"tile": labels["tile"]}

    def aggregate_logs(
        self, state: validation.FieldScores | None = None, step_outputs: Any = None
    ) -> validation.FieldScores:
        """Collects the tiles of all replicas on the host."""
        state = state or validation.FieldScores(self.task_config)
        state.add(step_outputs)
        return state

    def reduce_aggregated_logs(
        self,
        aggregated_logs: validation.FieldScores,
        global_step: tf.Tensor | None = None,
    ) -> dict[str, float]:
        """Returns the scores on the validation fields; writes pictures of some of them."""
        scores = aggregated_logs.result()
        validation.write_pictures(aggregated_logs.pictures)
        return scores


def untyped_loss(logits: tf.Tensor) -> tf.Tensor:
    """Returns minus the log of the probability of being a cell of any type.

    This loss does not depend on the ratios of the types' probabilities.

    Args:
      logits: (..., K + 1) float32, logits of the background and K types.

    Returns:
      (...) float32.
    """
    either = tf.reduce_logsumexp(logits, axis=-1)
    return either - tf.reduce_logsumexp(logits[..., 1:], axis=-1)


class _FirstBad:
    """Records, on the device, the first batch whose loss is NaN or infinite."""

    def __init__(self, batch: int) -> None:
        self._fields = tf.Variable(
            tf.zeros([batch, 2], tf.int64), **_PER_REPLICA, name="first_bad_fields"
        )
        self._step = tf.Variable(
            tf.constant(-1, tf.int64), **_PER_REPLICA, name="first_bad_step"
        )

    def note(self, step: tf.Tensor, fields: tf.Tensor, loss: tf.Tensor) -> None:
        is_first = ~tf.math.is_finite(loss) & (self._step < 0)
        missing = tf.shape(self._fields)[0] - tf.shape(fields)[0]
        fields = tf.pad(fields, [[0, missing], [0, 0]])
        self._fields.assign(tf.where(is_first, fields, self._fields))
        self._step.assign(tf.where(is_first, step, self._step))

    def read(self) -> tuple[int, list[int]] | None:
        step = int(self._step.read_value())
        if step < 0:
            return None
        fields = self._fields.read_value().numpy().ravel().tolist()
        return step, sorted(set(fields) - {0})


_PER_REPLICA = {
    "trainable": False,
    "synchronization": tf.VariableSynchronization.ON_READ,
    "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA,
}
