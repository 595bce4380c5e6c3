"""Makes the training targets of a crop from its label image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from cellclass_tf.maskrcnn.config import CellMaskRCNNTask, DataConfig
from cellclass_tf.maskrcnn.input import network_input
from cellclass_tf.maskrcnn.input.anchor_labels import SeededAnchorLabeler
from cellclass_tf.maskrcnn.model_garden import box_ops, preprocess_ops


class Targets(NamedTuple):
    """The N cells of a crop.

    Attributes:
      boxes: (N, 4) float32.
      outer_boxes: (N, 4) float32, somewhat wider than the boxes.
      classes: (N,) int32; 1 to K for the types, K + 1 for a cell of unknown type.
      masks: (N, m, m) float32. They fill the outer boxes, so that the outline is not cut
        off if a predicted box is a little too small.
    """

    boxes: tf.Tensor
    outer_boxes: tf.Tensor
    classes: tf.Tensor
    masks: tf.Tensor


def cut_targets(
    task: CellMaskRCNNTask,
    data: DataConfig,
    labels: tf.Tensor,
    cells: Mapping[str, tf.Tensor],
) -> Targets:
    """Cuts the cells out of a crop's label image.

    Args:
      task: says how large the network's input is.
      data: says which cells are targets, and how large masks are.
      labels: (s, s) int32 label image of the crop.
      cells: of the cells 1 to N, `type` (N,), counted from 0, -1 if unknown; and `area_px`
        (N,), the area in the whole field.

    Returns:
      The targets, with boxes in pixels of the network's input.
    """
    ids, boxes = visible_cells(labels, cells["area_px"], data.min_visible_share)
    types = tf.cast(tf.gather(cells["type"], ids - 1), tf.int32)
    classes = tf.where(types < 0, len(task.type_names), types) + 1
    shape = tf.cast(tf.shape(labels), tf.float32)
    outer = box_ops.compute_outer_boxes(boxes, shape, task.model.outer_boxes_scale)
    masks = masks_in_boxes(labels, ids, outer, data.parser.mask_crop_size)
    zoom = task.model.input_size[0] / shape[0]
    return Targets(boxes * zoom, outer * zoom, classes, masks)


def training_labels(
    task: CellMaskRCNNTask, data: DataConfig, targets: Targets, seed: tf.Tensor
) -> dict[str, Any]:
    """Returns the labels for Model Garden's Mask R-CNN task, padded to static shapes.

    Args:
      task: says how large the network's input is, and what its anchors are.
      data: says how anchors are matched, and what the maximum number of cells is.
      targets: targets of the crop.
      seed: (2,) int64 random seed for the sampling of anchors.
    """
    parser, size = data.parser, task.model.input_size[0]
    labeler = SeededAnchorLabeler(
        parser.rpn_match_threshold,
        parser.rpn_unmatched_threshold,
        parser.rpn_batch_size_per_im,
        parser.rpn_fg_fraction,
    )
    anchors = network_input.build_anchors(task.model, size)
    room = parser.max_num_instances
    score_targets, box_targets = labeler.label_anchors(
        anchors, targets.boxes, targets.classes, seed=seed
    )
    return {
        "anchor_boxes": anchors,
        "image_info": network_input.image_info(size),
        "rpn_score_targets": score_targets,
        "rpn_box_targets": box_targets,
        "gt_boxes": _pad(targets.boxes, room),
        "gt_outer_boxes": _pad(targets.outer_boxes, room),
        "gt_classes": _pad(targets.classes, room),
        "gt_masks": _pad(targets.masks, room),
    }


def visible_cells(
    labels: tf.Tensor, areas_px: tf.Tensor, min_visible_share: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Finds the cells that are sufficiently visible in a crop, and their boxes.

    Args:
      labels: (H, W) int32 label image of the crop.
      areas_px: (N,) areas of the cells 1 to N in the whole field, at the scale of `labels`.
      min_visible_share: smallest visible fraction of a cell's area.

    Returns:
      The cells' labels, (M,) int32, and boxes, (M, 4) float32 [top, left, bottom, right)
      in pixels.
    """
    count = tf.shape(areas_px)[0] + 1
    flat = tf.reshape(labels, [-1])
    seen = tf.math.bincount(flat, minlength=count, maxlength=count)
    whole = tf.concat([[1.0], tf.cast(areas_px, tf.float32)], axis=0)
    enough = tf.cast(seen, tf.float32) >= min_visible_share * whole
    # Label 0 is the background, and invisible cells have no box.
    enough &= (seen > 0) & (tf.range(count) > 0)
    rows, columns = tf.meshgrid(
        tf.range(tf.shape(labels)[0]), tf.range(tf.shape(labels)[1]), indexing="ij"
    )
    rows, columns = tf.reshape(rows, [-1]), tf.reshape(columns, [-1])
    edges = [
        tf.math.unsorted_segment_min(rows, flat, count),
        tf.math.unsorted_segment_min(columns, flat, count),
        tf.math.unsorted_segment_max(rows, flat, count) + 1,
        tf.math.unsorted_segment_max(columns, flat, count) + 1,
    ]
    ids = tf.cast(tf.where(enough)[:, 0], tf.int32)
    return ids, tf.cast(tf.gather(tf.stack(edges, axis=-1), ids), tf.float32)


def masks_in_boxes(
    labels: tf.Tensor, ids: tf.Tensor, boxes_yxyx: tf.Tensor, size: int
) -> tf.Tensor:
    """Cuts each cell's mask out of the label image, without a full-size mask per cell.

    Args:
      labels: (H, W) int32 label image.
      ids: (N,) int32 labels.
      boxes_yxyx: (N, 4) float32 boxes in pixels.
      size: width m of the masks.

    Returns:
      (N, m, m) float32 masks of 0 and 1, sampled at the centres of m x m bins of the box.
    """
    shape = tf.cast(tf.shape(labels), tf.float32)
    # crop_and_resize puts its outermost samples on the edges of the box, and its coordinates
    # refer to the centres of pixels.
    top_left, bottom_right = boxes_yxyx[:, :2], boxes_yxyx[:, 2:]
    half = (bottom_right - top_left) / (2 * size)
    first, last = top_left + half - 0.5, bottom_right - half - 0.5
    samples = tf.image.crop_and_resize(
        tf.cast(labels, tf.float32)[tf.newaxis, ..., tf.newaxis],
        tf.concat([first, last], axis=1) / tf.tile(shape - 1, [2]),
        tf.zeros_like(ids),
        [size, size],
        method="nearest",
    )
    same = tf.equal(samples[..., 0], tf.cast(ids, tf.float32)[:, None, None])
    return tf.cast(same, tf.float32)


def _pad(values: tf.Tensor, room: int) -> tf.Tensor:
    return preprocess_ops.clip_or_pad_to_fixed_size(values, room, -1)
