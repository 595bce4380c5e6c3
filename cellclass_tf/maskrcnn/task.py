"""The task: Model Garden's Mask R-CNN, fed by label images, one call a cell."""

from __future__ import annotations

import tensorflow as tf
import tf_keras
from official.core import task_factory
from official.vision.modeling import backbones, factory, maskrcnn_model
from official.vision.tasks import maskrcnn

from cellclass_tf.maskrcnn import config, inputs


class CellMaskRCNN(maskrcnn_model.MaskRCNNModel):
    """A Mask R-CNN in which a cell is found once, whatever its type.

    Model Garden suppresses double detections type by type, so that one cell can come
    back as two types. Here suppression runs on the probability of being any cell, and
    the probabilities of all types come along as `detection_probabilities` (B, D, K),
    rows summing to 1.
    """

    def _call_box_outputs(self, *args, **kwargs):
        outputs, between = super()._call_box_outputs(*args, **kwargs)
        if "decoded_boxes" in outputs:
            options = self.detection_generator.get_config()
            outputs.update(
                one_call_a_cell(
                    outputs.pop("decoded_boxes")[:, :, 0],
                    outputs.pop("decoded_box_scores"),
                    most=options["max_num_detections"],
                    iou_threshold=options["nms_iou_threshold"],
                    score_threshold=options["pre_nms_score_threshold"],
                )
            )
        return outputs, between


def one_call_a_cell(
    boxes, probabilities, *, most: int, iou_threshold: float, score_threshold: float
):
    """Suppresses double detections across types.

    Args:
      boxes: (B, R, 4) float.
      probabilities: (B, R, K) float, of each type; what is missing to 1 is background.
      most: D, the number of detections returned.
      iou_threshold: of two boxes that overlap more, the surer one stays.
      score_threshold: what is less sure to be a cell is no detection.

    Returns:
      A dictionary of detection_boxes (B, D, 4), detection_scores (B, D; the
      probability of being a cell of any type), detection_classes (B, D; from 1 on),
      detection_probabilities (B, D, K) and num_detections (B,); rest 0.
    """
    boxes = tf.cast(boxes, tf.float32)
    probabilities = tf.cast(probabilities, tf.float32)
    scores = tf.reduce_sum(probabilities, axis=-1)
    chosen, valid = tf.image.non_max_suppression_padded(
        boxes,
        scores,
        most,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        pad_to_max_output_size=True,
        canonicalized_coordinates=True,
    )
    real = tf.cast(tf.sequence_mask(valid, most), tf.float32)
    scores = tf.gather(scores, chosen, batch_dims=1) * real
    types = tf.gather(probabilities, chosen, batch_dims=1) * real[..., tf.newaxis]
    return {
        "detection_boxes": tf.gather(boxes, chosen, batch_dims=1) * real[..., None],
        "detection_scores": scores,
        "detection_classes": tf.argmax(types, axis=-1, output_type=tf.int32) + 1,
        "detection_probabilities": tf.math.divide_no_nan(types, scores[..., None]),
        "num_detections": valid,
    }


def build_model(task: config.CellMaskRCNNTask, size: int, l2_regularizer=None):
    """Builds the network for (size, size, 3) inputs; weights fit any size."""
    spec = tf_keras.layers.InputSpec(shape=[None, size, size, 3])
    options = task.model.replace()
    options.detection_generator.apply_nms = False
    backbone = _truncated(
        backbones.factory.build_backbone(
            spec, options.backbone, options.norm_activation, l2_regularizer
        ),
        options.max_level,
    )
    plain = factory.build_maskrcnn(spec, options, l2_regularizer, backbone=backbone)
    model = CellMaskRCNN(**plain.get_config())
    # A call with symbolic inputs makes the weights.
    model(
        tf_keras.Input([size, size, 3]),
        image_shape=tf_keras.Input([2]),
        training=False,
    )
    return model


def _truncated(backbone: tf_keras.Model, max_level: int) -> tf_keras.Model:
    """Drops the stages beyond `max_level`, which would be computed for nothing."""
    kept = {k: v for k, v in backbone.output.items() if int(k) <= max_level}
    model = tf_keras.Model(backbone.input, kept, name="backbone")
    model.output_specs = {level: tensor.shape for level, tensor in kept.items()}
    return model


@task_factory.register_task_cls(config.CellMaskRCNNTask)
class CellMaskRCNNTask(maskrcnn.MaskRCNNTask):
    """Trains and evaluates the Mask R-CNN on `cell_types`."""

    def build_model(self):
        """Builds the network for the size of the training crops."""
        decay = self.task_config.losses.l2_weight_decay
        regularizer = tf_keras.regularizers.l2(decay / 2) if decay else None
        model = build_model(
            self.task_config, self.task_config.model.input_size[0], regularizer
        )
        model.backbone.trainable = not self.task_config.freeze_backbone
        return model

    def build_inputs(self, params, input_context=None, dataset_fn=None):
        """Builds batches of crops; see `inputs.build_dataset`."""
        del dataset_fn
        return inputs.build_dataset(self.task_config, params, input_context)
