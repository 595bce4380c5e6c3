"""Targets of a crop: its cells are cut out of the label image, one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from cellclass_tf.maskrcnn.config import CellMaskRCNNTask, DataConfig
from cellclass_tf.maskrcnn.input import network_input
from cellclass_tf.maskrcnn.input.anchor_labels import SeededAnchorLabeler
from cellclass_tf.maskrcnn.model_garden import box_ops, preprocess_ops


class Targets(NamedTuple):
    """Cells of a crop: N boxes and outer boxes (N, 4), classes (N,), masks.

    Classes are 1..K for the types, and K + 1 for a cell of unknown type.

    The masks, (N, m, m) float32, fill the outer boxes, so that a box which is a little
    small does not cut the cell's outline.
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
      data: says which cells count, and how large masks are.
      labels: (s, s) int32 label image of the crop.
      cells: `type` (N,), from 0 on or -1 for unknown, and `area_px` (N,) in the whole field, of cell 1..N.

    Returns:
      The targets, boxes in the network's pixels.
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
    """What Model Garden's Mask R-CNN task learns from, filled up to a fixed size.

    Args:
      task: says how large the network's input is, and what its anchors are.
      data: says how anchors are matched, and how many cells there is room for.
      targets: of the crop.
      seed: (2,) int64; which anchors count is drawn at random.
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
    """Finds the cells of which a crop shows enough, and their boxes.

    Args:
      labels: (H, W) int32 label image of the crop.
      areas_px: (N,) areas of cell 1..N in the whole field; the crop's area counts in
        the same pixels.
      min_visible_share: cells of which less is seen are left out.

    Returns:
      ids (M,) int32, boxes (M, 4) float32 [top, left, bottom, right) in pixels.
    """
    count = tf.shape(areas_px)[0] + 1
    flat = tf.reshape(labels, [-1])
    seen = tf.math.bincount(flat, minlength=count, maxlength=count)
    whole = tf.concat([[1.0], tf.cast(areas_px, tf.float32)], axis=0)
    enough = tf.cast(seen, tf.float32) >= min_visible_share * whole
    # Background is number 0; and what is not seen at all has no box.
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
    """Cuts each cell's mask out of the label image; never a stack of whole fields.

    Args:
      labels: (H, W) int32 label image.
      ids: (N,) int32 labels.
      boxes_yxyx: (N, 4) float32 boxes in pixels.
      size: the masks' width m.

    Returns:
      (N, m, m) float32 of 0 and 1, sampled at the middles of m x m squares of the box.
    """
    shape = tf.cast(tf.shape(labels), tf.float32)
    # crop_and_resize puts its samples on the box's edges and counts from pixel middles.
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
