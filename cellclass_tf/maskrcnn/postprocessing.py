"""Converts detections to cells that do not overlap."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.model_metadata import UNCALIBRATED_MASK_THRESHOLD
from cellclass_tf.labels import components, tiling

# A detection that overlaps an accepted cell by more than this fraction (of the smaller of the
# two) is the same cell.
_SAME_CELL_SHARE = 0.5
# Width of the Gaussian that smooths outlines, as a fraction of the cell's diameter.
_SMOOTHING = 0.05
# Detections with a lower score are ignored.
SCORE_THRESHOLD = 0.1
# Lower limit of probabilities whose logarithm is taken.
_LEAST_PROBABILITY = 1e-9


@dataclasses.dataclass(frozen=True)
class Detections:
    """Detected cells, which may still overlap.

    Attributes:
      boxes_yxyx: (N, 4) float32 in pixels of the field, somewhat wider than the cells.
      scores: (N,) float32, probabilities of being a cell.
      probabilities: (N, K) float32, probabilities of the types.
      masks: (N, m, m) float16 in [0, 1], which fill the boxes.
      features: (N, F) float32, the network's features; F is 0 for models of versions
        without features.
    """

    boxes_yxyx: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    masks: np.ndarray
    features: np.ndarray


def keep_owned(
    outputs: Mapping[str, np.ndarray], tile: tiling.Tile, threshold: float
) -> Detections:
    """Returns the detections whose centre is in the tile's core, in field coordinates.

    Args:
      outputs: outputs of the network for this tile; see `export.export`.
      tile: position of the tile.
      threshold: detections with a lower score are left out.
    """
    corner = np.tile(tile.corner_yx, 2)
    boxes = outputs["detection_boxes"] + corner
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    keep = tile.owns(middle) & (outputs["detection_scores"] >= threshold)
    features = outputs.get("detection_features", np.zeros((len(keep), 0), np.float32))
    return Detections(
        (outputs["detection_outer_boxes"][keep] + corner).astype(np.float32),
        outputs["detection_scores"][keep],
        outputs["detection_probabilities"][keep],
        outputs["detection_masks"][keep].astype(np.float16),
        features[keep],
    )


def joined(parts: Sequence[Detections]) -> Detections:
    """Concatenates detections in the same coordinate system."""
    names = [field.name for field in dataclasses.fields(Detections)]
    return Detections(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in names)
    )


def kept(detections: Detections, keep: np.ndarray) -> Detections:
    """Returns the detections selected by `keep`, (N,) bool."""
    names = [field.name for field in dataclasses.fields(Detections)]
    return Detections(*(getattr(detections, name)[keep] for name in names))


def cells_from_detections(
    detections: Detections,
    shape_yx: tuple[int, ...],
    type_names: tuple[str, ...],
    *,
    mask_threshold: float = UNCALIBRATED_MASK_THRESHOLD,
    temperature: float = 1.0,
) -> Cells:
    """Assigns each pixel to the cell with the highest mask value there.

    Cells are added in the order of their scores. A detection that mostly overlaps an
    accepted cell is a duplicate and is dropped. A cell is one piece without holes and with
    a smooth outline. A cell that loses more than half of its pixels to its neighbours is
    dropped.

    Args:
      detections: N detected cells.
      shape_yx: height and width of the field.
      type_names: names of the K types.
      mask_threshold: a pixel is in a mask if the mask's value is at least this.
      temperature: temperature of the types' probabilities; see `at_temperature`.
    """
    labels = np.zeros(shape_yx, np.int32)
    sureness = np.zeros(shape_yx, np.float32)
    areas: dict[int, int] = {}
    for index in np.argsort(-detections.scores, kind="stable"):
        window, mask = _paste(
            detections.boxes_yxyx[index], detections.masks[index], shape_yx
        )
        inside = mask >= mask_threshold
        area = int(inside.sum())
        if not area or _is_known(labels[window], inside, areas):
            continue
        areas[index + 1] = area
        # Where two masks are both near 1, the nearer centre decides; otherwise the border
        # between them would follow their noise.
        pull = mask * _nearness(detections.boxes_yxyx[index], window)
        wins = inside & (pull > sureness[window])
        labels[window][wins] = index + 1
        sureness[window][wins] = pull[wins]
    del sureness
    labels = _with_smooth_outlines(labels)
    components.keep_largest_pieces(labels, fill_holes=True)
    kept = np.bincount(labels.ravel(), minlength=len(detections.scores) + 1)
    good = [number for number, area in areas.items() if kept[number] * 2 >= area]
    # Cells are numbered in the order of their detections.
    numbers = np.array(sorted(good), np.int64)
    table = np.zeros(len(detections.scores) + 1, np.int32)
    table[numbers] = np.arange(1, len(numbers) + 1)
    chosen = numbers - 1
    probabilities = at_temperature(detections.probabilities[chosen], temperature)
    return Cells(
        table[labels],
        tuple(type_names),
        (probabilities.argmax(axis=1) + 1).astype(np.int32),
        detections.scores[chosen].astype(np.float32),
        probabilities,
        detections.features[chosen],
    )


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Applies temperature scaling: softmax(log p / T) (Guo et al. 2017, arXiv:1706.04599).

    Probabilities become less extreme with T > 1 and more extreme with T < 1; the most
    probable type stays the same.

    Args:
      probabilities: (N, K); rows sum to 1.
      temperature: T, above 0.

    Returns:
      (N, K) float32; rows sum to 1.
    """
    return softmax(log_of(probabilities) / temperature)


def log_of(probabilities: np.ndarray) -> np.ndarray:
    """Returns the logarithms of probabilities, which are limited from below."""
    return np.log(np.maximum(probabilities, _LEAST_PROBABILITY))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax over the last axis, float32.

    Of averaged logarithms of probabilities, it is their normalised geometric mean.
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)


def _paste(
    box: np.ndarray, mask: np.ndarray, shape_yx: tuple[int, ...]
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Resamples a mask at the pixels of the field.

    Returns:
      The window of the field, and the mask's values at the centres of its pixels.
    """
    first = np.clip(np.floor(box[:2]), 0, shape_yx).astype(int)
    last = np.clip(np.ceil(box[2:]), 0, shape_yx).astype(int)
    weights = [
        _interpolation(np.arange(a, b) + 0.5, low, high, mask.shape[0])
        for a, b, low, high in zip(first, last, box[:2], box[2:], strict=True)
    ]
    values = weights[0] @ _smooth(mask.astype(np.float32)) @ weights[1].T
    return (slice(first[0], last[0]), slice(first[1], last[1])), values


def _with_smooth_outlines(labels: np.ndarray) -> np.ndarray:
    """Assigns each pixel to the cell, or background, that dominates its neighbourhood.

    The neighbourhood is a Gaussian as wide as a twentieth of the cell's diameter. Without
    this step, the border between two overlapping masks would follow their noise.
    """
    from scipy import ndimage

    smooth = np.zeros_like(labels)
    most = np.zeros(labels.shape, np.float32)
    background = np.ones(labels.shape, np.float32)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        width = _SMOOTHING * 2 * math.sqrt((labels[box] == number).sum() / math.pi)
        reach = math.ceil(4 * width)
        box = tuple(
            slice(max(part.start - reach, 0), min(part.stop + reach, end))
            for part, end in zip(box, labels.shape, strict=True)
        )
        cell = (labels[box] == number).astype(np.float32)
        share = ndimage.gaussian_filter(cell, width, mode="nearest")
        wins = share > most[box]
        smooth[box][wins] = number
        most[box][wins] = share[wins]
        background[box] -= share
    smooth[background > most] = 0
    return smooth


def _smooth(mask: np.ndarray) -> np.ndarray:
    """Removes the checkerboard pattern of transposed convolutions (Odena et al. 2016)."""
    for _ in range(2):
        padded = np.pad(mask, [(1, 1), (0, 0)], mode="edge")
        mask = (padded[:-2] + 2 * padded[1:-1] + padded[2:]).T / 4
    return mask


def _interpolation(
    points: np.ndarray, low: float, high: float, count: int
) -> np.ndarray:
    """Returns weights of linear interpolation from samples in [low, high); 0 outside."""
    place = (points - low) / max(high - low, 1e-6) * count - 0.5
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count)[None]))
    # Between the edge of the box and the outermost samples, values are constant.
    weights[(place < 0) & (points >= low), 0] = 1
    weights[(place > count - 1) & (points <= high), -1] = 1
    return weights.astype(np.float32)


def _nearness(box: np.ndarray, window: tuple[slice, slice]) -> np.ndarray:
    """Returns 1 at the centre of a box, 0.75 at the centres of its sides, 0.5 in its corners."""
    squares = []
    for part, low, high in zip(window, box[:2], box[2:], strict=True):
        points = np.arange(part.start, part.stop) + 0.5
        middle, half = (low + high) / 2, max((high - low) / 2, 1e-6)
        squares.append(((points - middle) / half) ** 2)
    return 1 - 0.25 * (squares[0][:, None] + squares[1][None])


def _is_known(there: np.ndarray, inside: np.ndarray, areas: dict[int, int]) -> bool:
    """Returns whether a mask mostly overlaps one of the accepted cells."""
    numbers, counts = np.unique(there[inside], return_counts=True)
    area = int(inside.sum())
    return any(
        count > _SAME_CELL_SHARE * min(area, areas[number])
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
        if number
    )
