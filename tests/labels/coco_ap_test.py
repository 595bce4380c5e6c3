"""Tests of average precision: derived by hand, and compared with pycocotools."""

import dataclasses

import numpy as np
import pytest
from pycocotools import coco, cocoeval

from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import rle
from cellclass_tf.labels.coco_ap import AveragePrecision

TYPES = ("HEK", "N2a")


def _grid(rows, columns, step=6, size=4):
    labels = np.zeros((rows * step, columns * step), np.int32)
    for i in range(rows * columns):
        top, left = step * (i // columns), step * (i % columns)
        labels[top : top + size, left : left + size] = i + 1
    types = [TYPES[i % 2] for i in range(rows * columns)]
    return Cells.from_labels(labels, TYPES, types)


def _scores(true, predicted, use_types=True):
    gathered = AveragePrecision(len(TYPES) if use_types else 1)
    gathered.add(true, predicted, use_types=use_types)
    return gathered.scores()


def test_four_hundred_cells_compared_with_themselves_score_1():
    cells = _grid(20, 20)
    assert _scores(cells, cells).mean() == {"AP": 1, "AP50": 1, "AP75": 1}


def test_scoring_prints_nothing(capsys):
    cells = _grid(2, 2)
    _scores(cells, cells)
    assert capsys.readouterr().out == ""


def test_average_precision_is_the_share_of_thresholds_that_an_overlap_reaches():
    true = _grid(1, 1, step=10, size=10)
    labels = true.labels.copy()
    labels[8:] = 0
    predicted = Cells.from_labels(labels, TYPES, "HEK")
    # IoU 0.8 passes 0.50, 0.55 … 0.80: 7 of 10 thresholds.
    scores = _scores(true, predicted)
    assert scores.mean() == {"AP": pytest.approx(0.7), "AP50": 1, "AP75": 1}


def test_a_type_without_true_cells_has_no_score():
    true = Cells.from_labels(np.ones((4, 4), int), TYPES, "HEK")
    scores = _scores(true, true)
    assert scores.of_type(1)["AP"] == 1
    assert scores.of_type(2) == {"AP": None, "AP50": None, "AP75": None}


def test_a_wrong_type_is_an_error_only_if_types_are_used():
    true = Cells.from_labels(np.ones((4, 4), int), TYPES, "HEK")
    predicted = Cells.from_labels(np.ones((4, 4), int), TYPES, "N2a")
    assert _scores(true, predicted).mean()["AP"] == 0
    assert _scores(true, predicted, use_types=False).mean()["AP"] == 1


def test_detections_are_ranked_by_score_times_probability():
    # Each field has one HEK cell; it is found in the second, and beside its place in the first.
    labels = np.zeros((4, 8), np.int32)
    labels[:, :4] = 1
    true = Cells.from_labels(labels, TYPES, "HEK")
    wrong = Cells.from_labels(labels[:, ::-1], TYPES, "HEK")
    gathered = AveragePrecision(2)
    one, half = np.ones(1, np.float32), np.array([[0.5, 0.5]], np.float32)
    gathered.add(
        true,
        Cells(wrong.labels, TYPES, wrong.type_ids, one, half),
        use_types=True,
    )
    gathered.add(
        true,
        Cells(labels, TYPES, true.type_ids, 0.9 * one, true.probabilities),
        use_types=True,
    )
    # 0.9 x 1 ranks above 1 x 0.5, so precision is 1 up to half of the recall: 51 of 101
    # recall levels.
    assert gathered.scores().mean()["AP"] == pytest.approx(51 / 101)


def test_without_fields_there_are_no_scores():
    assert AveragePrecision(2).scores().mean()["AP"] is None


def test_a_field_without_predictions_scores_zero():
    none = Cells.from_labels(np.zeros((12, 12), int), TYPES)
    assert _scores(_grid(2, 2), none).mean()["AP"] == 0
    assert _scores(none, none).mean()["AP"] is None


def _random_pair(rng, size=96, cells=14):
    """Returns overlapping rectangles, and the same moved, with some lost and some new."""
    true, predicted = np.zeros((2, size, size), np.int32)
    for i in range(1, cells + 1):
        top, left = rng.integers(0, size - 20, 2)
        height, width = rng.integers(8, 20, 2)
        true[top : top + height, left : left + width] = i
        if rng.random() < 0.85:
            top, left = np.clip(
                np.add((top, left), rng.integers(-3, 4, 2)), 0, size - 1
            )
            predicted[top : top + height, left : left + width] = i
    types = rng.choice([*TYPES, "unknown"], cells, p=[0.45, 0.45, 0.1])
    called = np.where(rng.random(cells) < 0.8, types, rng.choice(TYPES, cells))
    known = np.where(types == "unknown", "HEK", types)
    true = Cells.from_labels(true, TYPES, known[np.unique(true)[1:] - 1].tolist())
    numbers = np.unique(predicted)[1:] - 1
    predicted = Cells.from_labels(predicted, TYPES, called[numbers].tolist())
    # Few different values, so that scores tie.
    scores = rng.integers(1, 6, len(predicted)).astype(np.float32) / 5
    return true, dataclasses.replace(predicted, scores=scores)


def _pycocotools_scores(pairs, use_types):
    images, annotations, found = [], [], []
    for number, (true, predicted) in enumerate(pairs, start=1):
        shape = true.labels.shape
        images.append({"id": number, "height": shape[0], "width": shape[1]})
        for cells, target in ((true, annotations), (predicted, found)):
            for i in range(len(cells)):
                if use_types and not cells.type_ids[i]:
                    continue
                target.append(
                    {
                        "id": len(target) + 1,
                        "image_id": number,
                        "category_id": int(cells.type_ids[i]) if use_types else 1,
                        "segmentation": rle.encode_mask(
                            cells.mask(i), cells.boxes_yxyx[i][:2], shape
                        ),
                        "area": int(cells.areas_px[i]),
                        "iscrowd": 0,
                        "score": float(cells.scores[i]),
                    }
                )
    made = []
    for entries in (annotations, found):
        made.append(coco.COCO())
        made[-1].dataset = {
            "images": images,
            "annotations": entries,
            "categories": [{"id": i, "name": str(i)} for i in range(1, 3)],
        }
        made[-1].createIndex()
    evaluation = cocoeval.COCOeval(*made, "segm")
    evaluation.params.maxDets = [1000]
    evaluation.params.areaRng = [[0, 1e10]]
    evaluation.params.areaRngLbl = ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, 0]


@pytest.mark.parametrize("use_types", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_every_precision_equals_that_of_pycocotools(seed, use_types):
    rng = np.random.default_rng(seed)
    pairs = [_random_pair(rng) for _ in range(6)]
    gathered = AveragePrecision(2)
    for true, predicted in pairs:
        gathered.add(true, predicted, use_types=use_types)
    expected = _pycocotools_scores(pairs, use_types)
    assert 0.05 < expected[expected > -1].mean() < 0.95
    np.testing.assert_allclose(gathered.scores().precision, expected, atol=1e-12)
