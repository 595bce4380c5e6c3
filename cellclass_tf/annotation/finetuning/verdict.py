"""Decides whether tuned weights are better than the base weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from cellclass_tf.annotation.annotators.protocol import Annotator
from cellclass_tf.annotation.finetuning import material
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.drawing import caption, palette, picture
from cellclass_tf.labels import matching

IOUS = (0.5, 0.75, 0.9)
# Smallest number of fields for an interval.
_FEWEST_FIELDS = 3
_REFERENCE = palette.WHITE
# Colours of base and tuned.
COLOURS = (palette.PINK, palette.SKY_BLUE)


@dataclasses.dataclass(frozen=True)
class FieldScore:
    """The scores of a held-out field: TP / (TP + FP + FN) at IoU 0.5, 0.75 and 0.9.

    Attributes:
      image: name of the image.
      cells: number of cells in the ground truth.
      base: scores of the base weights.
      tuned: scores of the tuned weights.
    """

    image: str
    cells: int
    base: tuple[float, ...]
    tuned: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The comparison of base and tuned weights.

    Attributes:
      is_better: whether the tuned weights are better on the held-out fields. With three
        fields or more, the mean gain must be positive and its interval must not reach
        below 0; with fewer, every field must gain.
      text: the same in words, with the numbers.
      gain: mean over the held-out fields of tuned minus base score, at IoU 0.5.
      interval: 95 % interval of the gain by Student's t over the fields; None for fewer
        than three. It says how much the choice of these fields matters, not what to
        expect on other dishes.
      fields: scores of the fields.
    """

    is_better: bool
    text: str
    gain: float
    interval: tuple[float, float] | None
    fields: tuple[FieldScore, ...]


def judge(fields: Sequence[FieldScore]) -> Verdict:
    """Compares base and tuned weights on held-out fields.

    The units are fields, since cells of one field are not independent. A bootstrap of so
    few fields would give intervals that are too narrow.

    Args:
      fields: scores of one or more fields.
    """
    base, tuned = (
        np.array([getattr(field, name)[0] for field in fields])
        for name in ("base", "tuned")
    )
    gains = tuned - base
    gain, interval = float(gains.mean()), None
    is_better = bool((gains > 0).all())
    if len(fields) >= _FEWEST_FIELDS:
        reach = stats.t.ppf(0.975, len(gains) - 1) * stats.sem(gains)
        interval = (gain - float(reach), gain + float(reach))
        is_better = gain > 0 and interval[0] >= 0
    numbers = (
        f"AP at IoU 0.5 on {len(fields)} held-out field{'s' * (len(fields) > 1)}: base "
        f"{base.mean():.3f}, tuned {tuned.mean():.3f}"
    )
    if interval:
        numbers += f"; gain {gain:+.3f}, 95 % interval {interval[0]:+.3f} to "
        numbers += f"{interval[1]:+.3f}"
    head = f"better by {gain:.3f}" if is_better else "not better: keep the base"
    return Verdict(is_better, f"{head} ({numbers})", gain, interval, tuple(fields))


def score_field(
    true: Cells, base: np.ndarray, tuned: np.ndarray, name: str
) -> FieldScore:
    """Scores the labels that base and tuned weights found in one field.

    In a field without cells the score is 1 if none was found, and 0 otherwise.

    Args:
      true: the ground truth.
      base: (H, W) int32 labels of the base weights.
      tuned: (H, W) int32 labels of the tuned weights.
      name: name of the image.
    """

    def scores(labels: np.ndarray) -> tuple[float, ...]:
        if not len(true):
            return (float(not labels.any()),) * len(IOUS)
        return tuple(matching.threat_score(true.labels, labels, iou) for iou in IOUS)

    return FieldScore(name, len(true), scores(base), scores(tuned))


def score_part(
    annotator: Annotator,
    study: Study,
    rows: Sequence[ImageRow],
    diameters: dict[str, float],
    *,
    right_part: bool,
) -> float:
    """Scores weights for the choice of a round.

    The score is TP / (TP + FP + FN) over all fields together, since parts of fields hold
    few cells; the mean over IoU 0.5 and 0.75.

    Args:
      annotator: annotator with these weights.
      study: the study.
      rows: rows of the fields.
      diameters: diameters of cells in pixels, by cell type.
      right_part: whether to score only the part of each field that is kept out of
        training.
    """
    matched, cells = np.zeros(2), 0
    for row in rows:
        image, true = study.read_image(row), study.read_cells(row).labels
        found = annotator.annotate(image, diameters[row.cell_type]).labels
        if right_part:
            edge = material.first_kept_out(image.shape[1])
            true, found = (
                Cells.from_labels(part[:, edge:], ("cell",)).labels
                for part in (true, found)
            )
        for index, iou in enumerate((0.5, 0.75)):
            matches = matching.match_cells(true, found, iou)
            matched[index] += len(matches.pairs)
        cells += matches.cells_true + matches.cells_predicted
    return float((matched / np.maximum(cells - matched, 1)).mean())


def draw(
    image: np.ndarray,
    true: np.ndarray,
    found: dict[str, np.ndarray],
    name: str,
) -> np.ndarray:
    """Draws corrected, base and tuned outlines of a field side by side.

    Args:
      image: (H, W, 3) uint8 merged image.
      true: (H, W) labels of the ground truth.
      found: (H, W) labels of base and tuned weights, by title.
      name: name of the field.

    Returns:
      (H', W', 3) uint8.
    """
    panels, colours = [], (_REFERENCE, *COLOURS)
    for (title, labels), colour in zip(
        {"corrected by hand": true, **found}.items(), colours, strict=True
    ):
        canvas, scale = picture.canvas_of(image)
        cells = Cells.from_labels(labels, ("cell",))
        width = picture.outline_width((canvas.shape[0], canvas.shape[1]))
        pen = picture.Pen(colour, width)
        for index in range(len(cells)):
            picture.outline_cell(canvas, cells, index, scale, pen)
        text = f"{name}: {len(cells)} cells"
        if labels is not true:
            score = matching.threat_score(true, cells.labels, 0.5)
            text += f", AP {score:.3f} at IoU 0.5"
        entry = caption.LegendEntry(title, colour)
        strip = caption.draw(canvas, text, [entry])
        panels.append(np.concatenate([canvas, strip]))
    return picture.side_by_side(panels)


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Returns the verdict as JSON-like values."""
    return dataclasses.asdict(verdict) | {"ious": list(IOUS)}
