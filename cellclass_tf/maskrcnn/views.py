"""A field in several views, turned, mirrored and enlarged, and what is found in all of them.

A network that has learned from few cells finds somewhat other ones when a field lies another
way or is larger. What several views agree on is surer, and their outlines are smoother
together.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from cellclass_tf.core.model_metadata import MOST_VIEWS
from cellclass_tf.maskrcnn.postprocessing import Detections, joined

# As large as training shows cells where they are few; see `planning.plan`.
_LARGER = 1.4
# Quarter turns, whether the field is mirrored then, and how much it is enlarged; the first
# is the field as it is. Of two, of four and of eight views half are larger.
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
assert len(_VIEWS) == MOST_VIEWS
# Boxes of two views that overlap more are of one cell.
_SAME_CELL_IOU = 0.5


def turned(pixels: np.ndarray, view: int) -> np.ndarray:
    """A field (H, W, ...) in one of `MOST_VIEWS` views, not enlarged; nothing is copied."""
    turns, mirrored, _ = _VIEWS[view]
    found = np.rot90(pixels, turns)
    return found[:, ::-1] if mirrored else found


def zoom_of(view: int) -> float:
    """How much larger cells are in a view than in the first."""
    return _VIEWS[view][2]


def seen_boxes(
    boxes_yxyx: np.ndarray,
    view: int,
    shape_yx: tuple[int, ...],
    seen_yx: tuple[int, ...],
) -> np.ndarray:
    """Where (N, 4) boxes of a field lie in a view of it.

    Args:
      boxes_yxyx: [top, left, bottom, right) in the field.
      view: number of the view.
      shape_yx: height and width of the field.
      seen_yx: of the view.
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
    """Puts what was found in a view into the field as it is.

    Args:
      detections: in the pixels of the view.
      view: number of the view.
      seen_yx: height and width of the view.
      shape_yx: of the field.
    """
    turns, mirrored, _ = _VIEWS[view]
    boxes, masks = detections.boxes_yxyx, detections.masks
    if mirrored:
        boxes, masks = _mirrored(boxes, seen_yx[1]), masks[:, :, ::-1]
    # What is turned once comes back by three more.
    boxes = _quarter_turns(boxes, -turns % 4, seen_yx)
    boxes = boxes * _per_side(_turned_shape(seen_yx, turns), shape_yx)
    masks = np.rot90(masks, -turns, axes=(1, 2))
    return dataclasses.replace(
        detections, boxes_yxyx=boxes.astype(np.float32), masks=masks
    )


def _per_side(old_yx: tuple[int, ...], new_yx: tuple[int, ...]) -> np.ndarray:
    """What (N, 4) boxes are multiplied by when their field is resized."""
    return np.tile(np.array(new_yx) / np.array(old_yx), 2)


def _quarter_turns(
    boxes: np.ndarray, turns: int, shape_yx: tuple[int, ...]
) -> np.ndarray:
    """Turns boxes with a field of this shape, as `np.rot90` turns its pixels."""
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
    """Makes one detection of those of one cell in several views.

    The surest comes first, and takes from each view the one whose box overlaps its own
    most. Boxes, masks, types (geometrically) and features are averaged, each by its
    score; the score is the mean over all views, 0 where a cell was not found (after
    Solovyev et al. 2021, Image and Vision Computing 107, 104117).

    Args:
      found: of each view, in the pixels of the field.
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
            # A box without an area, too, is that of a cell.
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
    """Makes one detection of each group of numbers of detections."""
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
        logs = np.log(np.maximum(every.probabilities[members], 1e-9))
        types = np.exp(weights @ logs)
        made.probabilities[n] = types / types.sum()
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
    """An (m, m) mask in one box as it is in another, linearly; 0 outside of its own."""
    rows, columns = (
        _weights(len(mask), *box[axis::2], *other[axis::2]) for axis in (0, 1)
    )
    return rows @ mask.astype(np.float32) @ columns.T


def _weights(
    size: int, start: float, end: float, new_start: float, new_end: float
) -> np.ndarray:
    """(m, m) shares of the old samples of a line in its new ones."""
    wanted = new_start + (np.arange(size) + 0.5) / size * (new_end - new_start)
    places = (wanted - start) / max(end - start, 1e-6) * size - 0.5
    distances = np.abs(places[:, np.newaxis] - np.arange(size))
    return np.maximum(1 - distances, 0).astype(np.float32)
