"""Tests of cellclass_tf.analysis.metrics."""

import dataclasses

import numpy as np
import pytest

import cellclass_tf as cc
from cellclass_tf.analysis import metrics
from cellclass_tf.core.cells import Cells
from cellclass_tf.labels import matching

TYPES = ("HEK", "N2a")


def cells_of(boxes, types=None):
    """Returns rectangles [top, left, bottom, right) in a field of 60 x 100 px."""
    labels = np.zeros((60, 100), np.int32)
    for number, (top, left, bottom, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = number
    return Cells.from_labels(labels, TYPES, types or ["HEK"] * len(boxes))


def random_pair(seed):
    """Returns true blobs, and the same ones moved, cut, joined or left out, with other types."""
    rng = np.random.default_rng(seed)
    true, predicted = [], []
    for top in range(0, 50, 12):
        for left in range(0, 90, 12):
            if rng.random() < 0.85:
                true.append((top, left, top + 10, left + 10))
            if rng.random() < 0.85:
                move = rng.integers(0, 5, 4)
                box = np.array([top, left, top + 7, left + 7]) + move
                predicted.append(tuple(box.tolist()))
    names = [rng.choice(TYPES, len(side)).tolist() for side in (true, predicted)]
    return cells_of(true, names[0]), cells_of(predicted, names[1])


def test_every_error_has_its_kind():
    true = cells_of(
        [
            (0, 0, 10, 10),  # found
            (0, 20, 10, 30),  # joined with the next
            (0, 31, 10, 40),
            (20, 0, 30, 20),  # cut into two
            (20, 40, 30, 50),  # not found
            (40, 0, 50, 10),  # found, of another type
        ]
    )
    predicted = cells_of(
        [
            (0, 0, 10, 10),
            (0, 20, 10, 40),
            (20, 0, 30, 9),
            (20, 9, 30, 18),
            (40, 0, 50, 10),
            (40, 60, 50, 70),  # nothing there
        ],
        ["HEK", "HEK", "HEK", "HEK", "N2a", "HEK"],
    )
    matches = matching.match_cells(true.labels, predicted.labels, 0.6)
    found = metrics.errors_of(true, predicted, matches)
    assert found == metrics.CellErrors(
        merged=2, split=1, missed=1, invented=1, wrong_type=1
    )
    assert cc.compare_cells(true, true)["errors"] == dataclasses.asdict(
        metrics.CellErrors()
    )


def test_a_small_prediction_inside_a_matched_cell_is_invented():
    true = cells_of([(0, 0, 20, 20)])
    predicted = cells_of([(0, 0, 20, 16), (0, 17, 20, 20)])
    assert cc.compare_cells(true, predicted)["errors"]["split"] == 0
    assert cc.compare_cells(true, predicted)["errors"]["invented"] == 1


@pytest.mark.parametrize("seed", range(6))
def test_scores_agree_with_cellpose_and_with_their_definitions(seed):
    from cellpose import metrics

    true, predicted = random_pair(seed)
    found = cc.compare_cells(true, predicted)
    theirs, *_ = metrics.average_precision(
        true.labels, predicted.labels, threshold=[0.5, 0.75, 0.9]
    )
    ours = [found[f"average_precision_{iou}"] for iou in (50, 75, 90)]
    # Where two cells meet one at just 0.5, they may pair others.
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert found["PQ"] == pytest.approx(found["SQ"] * found["RQ"])
    p, r = found["precision"], found["recall"]
    assert found["F1"] == pytest.approx(2 * p * r / (p + r))
    rates = found["confusion_rates"]
    assert found["balanced_accuracy"] == pytest.approx(
        np.mean([rates[name][name] for name in TYPES])
    )


@pytest.mark.parametrize("seed", range(4))
def test_scores_agree_with_stardist(seed):
    theirs = pytest.importorskip("stardist.matching")
    true, predicted = random_pair(seed)
    found = cc.compare_cells(true, predicted)
    for iou in (0.5, 0.75, 0.9):
        told = theirs.matching(true.labels, predicted.labels, thresh=iou)
        key = f"average_precision_{round(100 * iou)}"
        assert found[key] == pytest.approx(told.accuracy)
        if iou == 0.5:
            assert found["precision"] == pytest.approx(told.precision)
            assert found["recall"] == pytest.approx(told.recall)
            assert found["F1"] == pytest.approx(told.f1)


def test_intervals_contain_the_score_and_narrow_with_more_fields():
    widths = []
    for fields in (6, 24):
        summed = metrics.Metrics(TYPES)
        for seed in range(fields):
            summed.add(*random_pair(seed), name=f"{seed}")
        found = summed.result()
        for key in ("AP", "AP50_cells", "type_accuracy", "PQ", "recall", "F1"):
            low, high = found["intervals"][key]
            assert low <= found[key] <= high
        widths.append(np.ptp(found["intervals"]["recall"]))
    assert widths[1] < 0.8 * widths[0]
    assert len(summed.fields) == 24
    assert summed.fields[3]["image"] == "3"
    assert summed.fields[3]["missed"] + summed.fields[3]["merged"] <= 40


def test_too_few_units_have_no_interval_and_give_the_reason():
    summed = metrics.Metrics(TYPES)
    for seed in range(8):
        summed.add(*random_pair(seed))
    found = summed.result("dish", list("aabbccdd"))
    assert found["intervals"] is None
    assert found["interval_units"] == 4
    assert found["intervals_reason"].startswith("4 statistical units")
    found = summed.result("dish", list("aabbccde"))
    assert found["interval_unit"] == "dish"
    assert not found["intervals_reason"]
    low, high = found["intervals"]["F1"]
    assert low < found["F1"] < high


def test_perfect_scores_still_have_an_interval():
    true, _ = random_pair(0)
    summed = metrics.Metrics(TYPES)
    for _ in range(6):
        summed.add(true, true)
    low, high = summed.result()["intervals"]["F1"]
    assert high == 1
    assert low == pytest.approx(0.025 ** (1 / (6 * len(true))))


def test_one_field_has_no_interval_and_other_types_are_refused():
    true, predicted = random_pair(0)
    assert cc.compare_cells(true, predicted)["intervals"] is None
    with pytest.raises(ValueError, match="expected the types"):
        cc.compare_cells(true, dataclasses.replace(predicted, type_names=("a", "b")))
