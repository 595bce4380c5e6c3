"""The network: Model Garden's Mask R-CNN with one detection per cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from cellclass_tf.maskrcnn import config
from cellclass_tf.maskrcnn.model_garden import (
    backbones,
    box_ops,
    configs,
    factory,
    maskrcnn_model,
    nn_blocks,
    roi_generator,
)

OUTPUTS = {
    "detection_boxes": tf.float32,
    "detection_outer_boxes": tf.float32,
    "detection_scores": tf.float32,
    "detection_probabilities": tf.float32,
    "detection_masks": tf.float32,
    "num_detections": tf.int32,
}


class CellMaskRCNN(maskrcnn_model.MaskRCNNModel):
    """A Mask R-CNN with class-agnostic non-maximum suppression.

    Model Garden suppresses duplicate detections separately for each type, so one cell may
    be returned as two cells of different types. Here, suppression uses the probability of
    being a cell of any type, and the probabilities of all types are returned as
    `detection_probabilities` (B, D, K), whose rows sum to 1.

    Boxes, scores and masks are float32, whatever precision the network is trained in: in
    bfloat16, the edges of a box at 300 px could only be even numbers.

    Attributes:
      leaves_out_padding: whether D is the largest number of detections in the batch,
        instead of the maximum number; see `serving.for_serving`.
    """

    leaves_out_padding = False

    def _call_box_outputs(
        self, images: tf.Tensor, image_shape: tf.Tensor, **kwargs: Any
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        outputs, between = super()._call_box_outputs(
            images=images, image_shape=image_shape, **kwargs
        )
        if "decoded_boxes" in outputs:
            options = self.detection_generator.get_config()
            found = class_agnostic_nms(
                outputs.pop("decoded_boxes")[:, :, 0],
                outputs.pop("decoded_box_scores"),
                most=options["max_num_detections"],
                iou_threshold=options["nms_iou_threshold"],
                score_threshold=options["pre_nms_score_threshold"],
            )
            if self.leaves_out_padding:
                most = tf.maximum(tf.reduce_max(found["num_detections"]), 1)
                found = {k: v[:, :most] if v.ndim > 1 else v for k, v in found.items()}
            outputs.update(found)
            # The mask branch reads these boxes, and its masks fill them.
            outputs["detection_outer_boxes"] = box_ops.compute_outer_boxes(
                outputs["detection_boxes"],
                image_shape[:, tf.newaxis],
                self.outer_boxes_scale,
            )
        return outputs, between

    def types_at(self, images: tf.Tensor, boxes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies the cells in given boxes, without masks.

        Args:
          images: (B, H, W, 3) float, normalised images.
          boxes: (B, N, 4) float32 [top, left, bottom, right] in pixels.

        Returns:
          A dictionary of float32: `scores` (B, N), the probability of being a cell of any
          type; `probabilities` (B, N, K) of the types, whose rows sum to 1; and `features`
          (B, N, F), averaged over the box.
        """
        _, features = self._get_backbone_and_decoder_features(images)
        inside = self.roi_aligner(features, boxes)
        logits, _ = self.detection_head[-1](inside)
        types = tf.nn.softmax(tf.cast(logits, tf.float32))[..., 1:]
        scores = tf.reduce_sum(types, axis=-1)
        return {
            "scores": scores,
            "probabilities": tf.math.divide_no_nan(types, scores[..., tf.newaxis]),
            "features": _mean_over_boxes(inside),
        }

    def features_in(
        self, decoder_features: Mapping[str, tf.Tensor], boxes: tf.Tensor
    ) -> tf.Tensor:
        """Returns the features averaged over (B, N, 4) boxes, (B, N, F) float32."""
        return _mean_over_boxes(self.roi_aligner(decoder_features, boxes))

    def _run_frcnn_head(self, *args: Any, **kwargs: Any) -> tuple[tf.Tensor, ...]:
        classes, boxes, *rest = super()._run_frcnn_head(*args, **kwargs)
        return tf.cast(classes, tf.float32), tf.cast(boxes, tf.float32), *rest

    def _features_to_mask_outputs(self, *args: Any) -> tuple[tf.Tensor, tf.Tensor]:
        logits = tf.cast(super()._features_to_mask_outputs(*args)[0], tf.float32)
        return logits, tf.sigmoid(logits)

    def _call_mask_outputs(
        self,
        *args: Any,
        matched_gt_boxes: tf.Tensor,
        gt_masks: tf.Tensor | None,
        **kwargs: Any,
    ) -> dict[str, tf.Tensor]:
        # When Model Garden resamples the target masks, it takes the centres of pixels to
        # be at integer coordinates, which is half a pixel off: every mask would be
        # learned shifted up and to the left. Shifting the boxes compensates for that.
        if gt_masks is not None:
            matched_gt_boxes = moved_by_half_a_pixel(matched_gt_boxes, gt_masks)
        return super()._call_mask_outputs(
            *args, matched_gt_boxes=matched_gt_boxes, gt_masks=gt_masks, **kwargs
        )


def _mean_over_boxes(inside: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(inside, tf.float32), axis=[2, 3])


@tf_keras.utils.register_keras_serializable(package="cellclass_tf")
class ROIGenerator(roi_generator.MultilevelROIGenerator):
    """Model Garden's generator with float32 scores; it decodes boxes in the scores' type."""

    def call(
        self,
        raw_boxes: Mapping[str, tf.Tensor],
        raw_scores: Mapping[str, tf.Tensor],
        anchor_boxes: Mapping[str, tf.Tensor],
        image_shape: tf.Tensor,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns proposals, (B, P, 4) float32, and their scores, (B, P) float32."""
        scores = {k: tf.cast(v, tf.float32) for k, v in raw_scores.items()}
        return super().call(raw_boxes, scores, anchor_boxes, image_shape, training)


def moved_by_half_a_pixel(boxes: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
    """Shifts (B, R, 4) boxes by half a pixel of the (B, N, m, m) masks in them."""
    half = (boxes[..., 2:] - boxes[..., :2]) / (2 * masks.shape[-1])
    return boxes + tf.concat([half, half], axis=-1)


def class_agnostic_nms(
    boxes: tf.Tensor,
    probabilities: tf.Tensor,
    *,
    most: int,
    iou_threshold: float,
    score_threshold: float,
) -> dict[str, tf.Tensor]:
    """Suppresses duplicate detections, whatever their types (class-agnostic NMS).

    Args:
      boxes: (B, R, 4) float.
      probabilities: (B, R, K) float, probabilities of the types; the remainder to 1 is the
        probability of the background.
      most: D, the maximum number of detections.
      iou_threshold: of two boxes with a larger IoU, the one with the lower score is removed.
      score_threshold: boxes with a lower score are removed.

    Returns:
      A dictionary of detection_boxes (B, D, 4), detection_scores (B, D), the probability
      of being a cell of any type, detection_classes (B, D), counted from 1,
      detection_probabilities (B, D, K) and num_detections (B,), padded with 0.
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


def build_model(
    task: config.CellMaskRCNNTask,
    size: int,
    l2_regularizer: tf_keras.regularizers.Regularizer | None = None,
) -> CellMaskRCNN:
    """Builds the network for (size, size, 3) inputs; its weights fit any input size."""
    spec = tf_keras.layers.InputSpec(shape=[None, size, size, 3])
    options = _with_room_for(task, size)
    options.detection_generator.apply_nms = False
    backbone = build_backbone(task, size, l2_regularizer)
    plain = factory.build_maskrcnn(spec, options, l2_regularizer, backbone=backbone)
    model = CellMaskRCNN(**_with_boxes_in_float32(plain.get_config()))
    # A call with symbolic inputs creates the weights.
    model(
        tf_keras.Input([size, size, 3]),
        image_shape=tf_keras.Input([2]),
        training=False,
    )
    return model


# Layers that compute with boxes.
_ON_BOXES = ("roi_sampler", "roi_aligner", "mask_sampler", "mask_roi_aligner")


def _with_boxes_in_float32(parts: dict) -> dict:
    """Replaces the layers for boxes by float32 ones; they have no weights.

    Otherwise Keras would cast boxes to the type of the features.
    """

    def in_float32(layer: Any, kind: type | None = None) -> Any:
        if isinstance(layer, (list, tuple)):
            return [in_float32(one) for one in layer]
        return (kind or type(layer))(**layer.get_config(), dtype="float32")

    new = {name: in_float32(parts[name]) for name in _ON_BOXES}
    new["roi_generator"] = in_float32(parts["roi_generator"], ROIGenerator)
    return {**parts, **new}


def _with_room_for(task: config.CellMaskRCNNTask, size: int) -> configs.MaskRCNN:
    """Returns the network's options, with maximum numbers of detections for this size.

    For an input smaller than an exported tile, they are reduced in proportion to the width,
    not to the area, because a smaller tile can be denser.
    """
    options = task.model.replace()
    share = min(1.0, size / task.export_size_px)
    detections, proposals = options.detection_generator, options.roi_generator
    for part, name, least in (
        (detections, "max_num_detections", config.LEAST_DETECTIONS),
        (proposals, "test_num_proposals", config.LEAST_PROPOSALS),
        (proposals, "test_pre_nms_top_k", 2 * config.LEAST_PROPOSALS),
    ):
        room = getattr(part, name)
        setattr(part, name, min(room, max(math.ceil(share * room), least)))
    return options


def build_backbone(
    task: config.CellMaskRCNNTask,
    size: int,
    l2_regularizer: tf_keras.regularizers.Regularizer | None = None,
) -> tf_keras.Model:
    """Builds the stages of the backbone that the network uses."""
    spec = tf_keras.layers.InputSpec(shape=[None, size, size, 3])
    options = task.model
    backbone = backbones.factory.build_backbone(
        spec, options.backbone, options.norm_activation, l2_regularizer
    )
    if task.keras_strides:
        _stride_as_keras(backbone)
    return _truncate(backbone, options.max_level)


def _stride_as_keras(resnet: tf_keras.Model) -> None:
    """Moves the stride of a bottleneck to its first convolution, as in Keras Applications.

    Model Garden's ResNet-50 has it in the second convolution ("v1.5").
    """
    for layer in resnet.layers:
        if isinstance(layer, nn_blocks.BottleneckBlock):
            first, second = layer._conv1, layer._conv2
            strides = max(first.strides, second.strides)
            first.strides, second.strides = strides, (1, 1)


def _truncate(backbone: tf_keras.Model, max_level: int) -> tf_keras.Model:
    """Removes the stages beyond `max_level`, which the network does not use."""
    kept = {k: v for k, v in backbone.output.items() if int(k) <= max_level}
    model = tf_keras.Model(backbone.input, kept, name="backbone")
    model.output_specs = {level: tensor.shape for level, tensor in kept.items()}
    return model
