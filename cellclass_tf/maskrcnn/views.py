"""Views of a field (rotated, mirrored, enlarged), and merging of their detections.

A network trained on few cells finds slightly different cells in each view. Detections that
several views agree on are more reliable, and their averaged outlines are smoother.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from cellclass_tf.maskrcnn.postprocessing import Detections, joined, log_of, softmax

# Largest enlargement in training with few cells; see `planning.plan`.
_LARGER = 1.4
# Number of quarter turns, whether the field is then mirrored, and its enlargement. The first
# view is the unchanged field. Of the first two, four and eight views, half are enlarged.
_VIEWS = (
    (0, False, 1.0),
    (2, False, _LARGER),
    (1, False, _LARGER),
    (3, False, 1.0),
    (0, True, _LARGER),
    (2, True, 1.0),
    (1, True, 1.0),
    (3, True, _LARGER),
)
# Detections of two views with at least this IoU of their boxes are the same cell.
_SAME_CELL_IOU = 0.5


def turned(pixels: np.ndarray, view: int) -> np.ndarray:
    """Returns a field (H, W, ...) in one of its views, not enlarged, not copied."""
    turns, mirrored, _ = _VIEWS[view]
    found = np.rot90(pixels, turns)
    return found[:, ::-1] if mirrored else found


def zoom_of(view: int) -> float:
    """Returns the enlargement of a view."""
    return _VIEWS[view][2]


def seen_boxes(
    boxes_yxyx: np.ndarray,
    view: int,
    shape_yx: tuple[int, ...],
    seen_yx: tuple[int, ...],
) -> np.ndarray:
    """Transforms boxes from a field to one of its views.

    Args:
      boxes_yxyx: (N, 4) boxes [top, left, bottom, right) in the field.
      view: number of the view.
      shape_yx: height and width of the field.
      seen_yx: height and width of the view.
    """
    turns, mirrored, _ = _VIEWS[view]
    boxes = _quarter_turns(boxes_yxyx, turns, shape_yx)
    turned_yx = _turned_shape(shape_yx, turns)
    if mirrored:
        boxes = _mirrored(boxes, turned_yx[1])
    return boxes * _per_side(turned_yx, seen_yx)


def upright(
    detections: Detections,
    view: int,
    seen_yx: tuple[int, ...],
    shape_yx: tuple[int, ...],
) -> Detections:
    """Transforms detections from a view back to the field.

    Args:
      detections: detections in pixels of the view.
      view: number of the view.
      seen_yx: height and width of the view.
      shape_yx: height and width of the field.
    """
    turns, mirrored, _ = _VIEWS[view]
    boxes, masks = detections.boxes_yxyx, detections.masks
    if mirrored:
        boxes, masks = _mirrored(boxes, seen_yx[1]), masks[:, :, ::-1]
    # One quarter turn is undone by three more.
    boxes = _quarter_turns(boxes, -turns % 4, seen_yx)
    boxes = boxes * _per_side(_turned_shape(seen_yx, turns), shape_yx)
    masks = np.rot90(masks, -turns, axes=(1, 2))
    return dataclasses.replace(
        detections, boxes_yxyx=boxes.astype(np.float32), masks=masks
    )


def _per_side(old_yx: tuple[int, ...], new_yx: tuple[int, ...]) -> np.ndarray:
    """Returns the factors for [top, left, bottom, right] when a field is resized."""
    return np.tile(np.array(new_yx) / np.array(old_yx), 2)


def _quarter_turns(
    boxes: np.ndarray, turns: int, shape_yx: tuple[int, ...]
) -> np.ndarray:
    """Rotates boxes by quarter turns, as `np.rot90` rotates a field of this shape."""
    for turn in range(turns):
        width = _turned_shape(shape_yx, turn)[1]
        top, left, bottom, right = boxes.T
        boxes = np.stack([width - right, top, width - left, bottom], axis=1)
    return boxes


def _turned_shape(shape_yx: tuple[int, ...], turns: int) -> tuple[int, ...]:
    return shape_yx[::-1] if turns % 2 else shape_yx


def _mirrored(boxes: np.ndarray, width: int) -> np.ndarray:
    top, left, bottom, right = boxes.T
    return np.stack([top, width - right, bottom, width - left], axis=1)


def merge(found: Sequence[Detections]) -> Detections:
    """Merges the detections of the same cell in several views.

    Starting with the highest score, a detection is grouped with the one of each view whose
    box has the largest IoU with its own. Boxes, masks, features and types (by the geometric
    mean) are averaged with the scores as weights. The score is the mean over all views, with
    0 for views in which the cell was not found (after Solovyev et al. 2021, Image and Vision
    Computing 107, 104117).

    Args:
      found: detections of each view, in pixels of the field.
    """
    if len(found) == 1:
        return found[0]
    every = joined(found)
    boxes, scores = every.boxes_yxyx, every.scores
    ends = np.cumsum([0, *(len(part.scores) for part in found)])
    is_free = np.ones(len(scores), bool)
    groups = []
    for first in np.argsort(-scores, kind="stable"):
        if is_free[first]:
            overlaps = np.where(is_free, _ious(boxes[first], boxes), 0.0)
            # A box with no area must also be in its own group.
            overlaps[first] = np.inf
            members = [
                start + int(overlaps[start:end].argmax())
                for start, end in itertools.pairwise(ends)
                if start < end
            ]
            same = np.array([i for i in members if overlaps[i] >= _SAME_CELL_IOU])
            is_free[same] = False
            groups.append(same)
    return _averaged(every, groups, len(found))


def _averaged(
    every: Detections, groups: Sequence[np.ndarray], views: int
) -> Detections:
    """Averages the detections of each group of indices."""
    boxes, scores = every.boxes_yxyx, every.scores
    size = every.masks.shape[-1]
    made = Detections(
        np.zeros((len(groups), 4), np.float32),
        np.zeros(len(groups), np.float32),
        np.zeros((len(groups), every.probabilities.shape[1]), np.float32),
        np.zeros((len(groups), size, size), np.float16),
        np.zeros((len(groups), every.features.shape[1]), np.float32),
    )
    for n, members in enumerate(groups):
        weights = scores[members] / scores[members].sum()
        made.boxes_yxyx[n] = weights @ boxes[members]
        made.scores[n] = scores[members].sum() / views
        logs = log_of(every.probabilities[members])
        made.probabilities[n] = softmax(weights @ logs)
        made.features[n] = weights @ every.features[members]
        masks = [
            _resampled(every.masks[i], boxes[i], made.boxes_yxyx[n]) for i in members
        ]
        made.masks[n] = np.tensordot(weights, masks, axes=1)
    return made


def _ious(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    top_left = np.maximum(box[:2], boxes[:, :2])
    bottom_right = np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(bottom_right - top_left, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    union = np.prod(box[2:] - box[:2]) + areas - shared
    return shared / np.maximum(union, 1e-6)


def _resampled(mask: np.ndarray, box: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Resamples an (m, m) mask from its box to another one, linearly; 0 outside."""
    rows, columns = (
        _weights(len(mask), *box[axis::2], *other[axis::2]) for axis in (0, 1)
    )
    return rows @ mask.astype(np.float32) @ columns.T


def _weights(
    size: int, start: float, end: float, new_start: float, new_end: float
) -> np.ndarray:
    """Returns the (m, m) weights of old samples for new samples along one axis."""
    wanted = new_start + (np.arange(size) + 0.5) / size * (new_end - new_start)
    places = (wanted - start) / max(end - start, 1e-6) * size - 0.5
    distances = np.abs(places[:, np.newaxis] - np.arange(size))
    return np.maximum(1 - distances, 0).astype(np.float32)
