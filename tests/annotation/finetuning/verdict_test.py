"""Tests of the verdict on tuned weights."""

import numpy as np
import pytest

from cellclass_tf.annotation.finetuning import verdict
from cellclass_tf.annotation.finetuning.verdict import FieldScore, judge
from cellclass_tf.core.cells import Cells


def _field(base, tuned):
    return FieldScore("a", 10, (base, 0.5, 0.1), (tuned, 0.6, 0.2))


def test_clear_gain_is_reported_as_better():
    found = judge([_field(0.7, 0.8), _field(0.6, 0.72), _field(0.8, 0.88)])
    assert found.is_better
    assert found.gain == pytest.approx(0.1)
    # Student's t of 0.08, 0.1 and 0.12.
    reach = 4.3027 * 0.02 / np.sqrt(3)
    assert found.interval == pytest.approx((0.1 - reach, 0.1 + reach), abs=1e-4)
    assert found.text.startswith("better by 0.100 (AP at IoU 0.5 on 3 held-out fields")
    assert "base 0.700, tuned 0.800" in found.text


@pytest.mark.parametrize(
    "fields",
    [
        [_field(0.7, 0.7)] * 3,
        [_field(0.8, 0.7)] * 4,
        # Three fields are too few to predict the next one.
        [_field(0.7, 0.7), _field(0.6, 0.7), _field(0.8, 0.9)],
        # The mean gain depends on one field.
        [_field(0.5, 0.9), _field(0.7, 0.65), _field(0.7, 0.66), _field(0.7, 0.67)],
        [_field(0.7, 0.9), _field(0.7, 0.69)],
    ],
)
def test_no_gain_or_an_uncertain_one_keeps_the_base(fields):
    found = judge(fields)
    assert not found.is_better
    assert found.text.startswith("not better: keep the base (")


def test_one_field_without_gain_does_not_change_the_verdict():
    gains = [_field(0.6, 0.7), _field(0.8, 0.9), _field(0.5, 0.59), _field(0.5, 0.62)]
    found = judge([_field(0.7, 0.7), *gains])
    assert found.interval[0] > 0
    assert found.is_better


def test_one_field_has_no_interval():
    found = judge([_field(0.7, 0.8)])
    assert found.is_better
    assert found.interval is None
    assert "1 held-out field:" in found.text


def test_field_is_scored_at_three_overlaps():
    true = np.zeros((10, 20), np.int32)
    true[:, :10], true[:, 10:] = 1, 2
    # Cell 1 exact; of cell 2 eight columns of ten are found: IoU 0.8.
    base = true.copy()
    base[:, 18:] = 0
    cells = Cells.from_labels(true, ("HEK",))
    score = verdict.score_field(cells, base, true, "a")
    assert score.base == (1.0, 1.0, pytest.approx(1 / 3))
    assert score.tuned == (1.0, 1.0, 1.0)
    assert (score.image, score.cells) == ("a", 2)


def test_field_without_cells_is_scored_by_false_positives():
    empty = np.zeros((4, 4), np.int32)
    cells = Cells.from_labels(empty, ("HEK",))
    score = verdict.score_field(cells, empty, np.eye(4, dtype=np.int32), "a")
    assert score.base == (1.0, 1.0, 1.0)
    assert score.tuned == (0.0, 0.0, 0.0)


def test_picture_has_three_panels_with_their_colours():
    true = np.zeros((300, 900), np.int32)
    true[50:150, 50:150] = 1
    other = np.roll(true, 300, axis=1)
    image = np.zeros((300, 900, 3), np.uint8)
    picture = verdict.draw(image, true, {"base": other, "tuned": true}, "HEK/a.png")
    assert picture.shape[1] > 3 * 900
    panels = picture[:, :900], picture[:, 912:1812], picture[:, 1824:]
    for panel, colour in zip(panels, ((255, 255, 255), *verdict.COLOURS), strict=True):
        assert (panel[:300] == colour).all(axis=-1).any()
