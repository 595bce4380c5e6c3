"""Tests of coco_scores."""

import numpy as np
import pytest

from cellclass_tf.analysis import coco_scores
from cellclass_tf.cells import Cells

TYPES = ("HEK", "N2a")


def _grid(rows, columns, step=6, size=4):
    labels = np.zeros((rows * step, columns * step), np.int32)
    for i in range(rows * columns):
        top, left = step * (i // columns), step * (i % columns)
        labels[top : top + size, left : left + size] = i + 1
    types = [TYPES[i % 2] for i in range(rows * columns)]
    return Cells.from_labels(labels, TYPES, types)


def _scores(true, predicted, use_types=True):
    annotations = coco_scores.Annotations(len(TYPES) if use_types else 1)
    annotations.add(true, predicted, use_types=use_types)
    return annotations.scores()


def test_four_hundred_cells_against_themselves_are_perfect():
    cells = _grid(20, 20)
    assert _scores(cells, cells).mean() == {"AP": 1, "AP50": 1, "AP75": 1}


def test_nothing_is_printed(capsys):
    cells = _grid(2, 2)
    _scores(cells, cells)
    assert capsys.readouterr().out == ""


def test_average_precision_counts_the_thresholds_that_an_overlap_passes():
    true = _grid(1, 1, step=10, size=10)
    labels = true.labels.copy()
    labels[8:] = 0
    predicted = Cells.from_labels(labels, TYPES, "HEK")
    # IoU 0.8 passes 0.50, 0.55 … 0.80: 7 of 10 thresholds.
    scores = _scores(true, predicted)
    assert scores.mean() == {"AP": pytest.approx(0.7), "AP50": 1, "AP75": 1}


def test_type_without_true_cells_has_no_score():
    true = Cells.from_labels(np.ones((4, 4), int), TYPES, "HEK")
    scores = _scores(true, true)
    assert scores.of_type(1)["AP"] == 1
    assert scores.of_type(2) == {"AP": None, "AP50": None, "AP75": None}


def test_wrong_type_counts_only_where_types_do():
    true = Cells.from_labels(np.ones((4, 4), int), TYPES, "HEK")
    predicted = Cells.from_labels(np.ones((4, 4), int), TYPES, "N2a")
    assert _scores(true, predicted).mean()["AP"] == 0
    assert _scores(true, predicted, use_types=False).mean()["AP"] == 1


def test_detections_rank_by_score_times_probability():
    # Two fields of one HEK cell each; the second has it right, the first beside it.
    labels = np.zeros((4, 8), np.int32)
    labels[:, :4] = 1
    true = Cells.from_labels(labels, TYPES, "HEK")
    wrong = Cells.from_labels(labels[:, ::-1], TYPES, "HEK")
    annotations = coco_scores.Annotations(2)
    one, half = np.ones(1, np.float32), np.array([[0.5, 0.5]], np.float32)
    annotations.add(
        true,
        Cells(wrong.labels, TYPES, wrong.type_ids, one, half),
        use_types=True,
    )
    annotations.add(
        true,
        Cells(labels, TYPES, true.type_ids, 0.9 * one, true.probabilities),
        use_types=True,
    )
    # 0.9 x 1 ranks above 1 x 0.5, so precision is 1 up to half of the recall: 51 of 101
    # recall levels.
    assert annotations.scores().mean()["AP"] == pytest.approx(51 / 101)


def test_without_fields_there_are_no_scores():
    assert coco_scores.Annotations(2).scores().mean()["AP"] is None


def test_field_without_predictions_scores_zero():
    none = Cells.from_labels(np.zeros((12, 12), int), TYPES)
    assert _scores(_grid(2, 2), none).mean()["AP"] == 0
    assert _scores(none, none).mean()["AP"] is None
