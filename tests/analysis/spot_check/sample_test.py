"""Tests of cellclass_tf.analysis.spot_check.sample."""

import numpy as np
import pytest

from cellclass_tf.analysis.spot_check import sample
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json
from tests.spot_check import SIZE, checked_predictions, mark_repeated


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    return Predictions(checked_predictions(tmp_path_factory.mktemp("run")))


def test_every_cell_is_in_one_window_and_windows_cover_the_field(predictions):
    every = sample.draw(predictions, 60, 0)
    # Asked for all cells, the sample is the population.
    assert len([w for w in every.windows if not w.is_empty]) == every.occupied
    cells = [(w.image, cell) for w in every.windows for cell in w.cells]
    assert sorted(cells) == sorted(
        (f"mixed/{i}", c + 1) for i in range(3) for c in range(20)
    )
    assert every.labelled_cells == 60 == sum(every.called.values())
    for window in every.windows:
        top, left, bottom, right = window.box_yxyx
        assert 0 <= top < bottom <= SIZE[0]
        assert 0 <= left < right <= SIZE[1]
        for cell in window.cells:
            # Cells lie on a grid; see checked_predictions.
            y, x = 10 + 20 * ((cell - 1) // 5), 10 + 22 * ((cell - 1) % 5)
            assert top <= y < bottom
            assert left <= x < right


def test_every_window_has_the_same_probability(predictions):
    count, times = {}, 400
    for seed in range(times):
        drawn = sample.draw(predictions, 20, seed)
        for window in drawn.windows:
            if not window.is_empty:
                key = (window.image, window.box_yxyx)
                count[key] = count.get(key, 0) + 1
    share = sum(not w.is_empty for w in drawn.windows) / drawn.occupied
    assert len(count) == drawn.occupied
    spread = np.sqrt(times * share * (1 - share))
    assert np.abs(np.array([*count.values()]) - times * share).max() < 4.5 * spread


def test_fields_are_drawn_evenly_and_in_random_order(predictions):
    drawn = sample.draw(predictions, 30, 1)
    images = [w.image for w in drawn.windows if not w.is_empty]
    counts = np.unique(images, return_counts=True)[1]
    assert len(counts) == 3
    assert np.ptp(counts) <= 1
    assert images != sorted(images)


def test_a_sample_has_a_key_and_can_be_read_back(predictions, tmp_path):
    drawn = sample.draw(predictions, 30, 1)
    drawn.write(tmp_path / "sample.json")
    again = sample.Sample.read(tmp_path / "sample.json")
    assert again.key == drawn.key == sample.draw(predictions, 30, 1).key
    assert again.windows[0].cells.keys() == drawn.windows[0].cells.keys()
    assert sample.draw(predictions, 30, 2).key != drawn.key


@pytest.mark.parametrize("cells", [0, -1, 61])
def test_more_cells_than_exist_are_refused(predictions, cells):
    with pytest.raises(InputError, match="from 1 to 60"):
        sample.draw(predictions, cells, 0)


def test_a_field_without_cells_is_cut_into_empty_windows(tmp_path):
    folder = checked_predictions(tmp_path, fields=2)
    rows = csv_json.read_csv(folder / "cells.csv")
    kept = [row for row in rows if row["image"] == "mixed/0"]
    csv_json.write_csv(folder / "cells.csv", rows[0], kept)
    drawn = sample.draw(Predictions(folder), 10, 0)
    empty = [w for w in drawn.windows if w.is_empty]
    assert drawn.empty == drawn.occupied == 4
    assert {w.image for w in empty} == {"mixed/1"}


def test_an_invalid_table_is_reported_with_its_line(tmp_path):
    folder = checked_predictions(tmp_path, fields=1)
    path = folder / "cells.csv"
    text = path.read_text()
    path.write_text(text.replace("mixed/0,7,", "mixed/0,seven,"))
    with pytest.raises(InputError, match=r"cells.csv, line 8: expected whole.*seven"):
        sample.draw(Predictions(folder), 5, 0)


def test_cells_that_count_in_another_field_are_not_drawn(tmp_path):
    folder = checked_predictions(tmp_path, fields=2)
    # Of five cells in a row, the last two of the first field are the first two of the second.
    repeated = {
        "mixed/0": {n for n in range(1, 21) if n % 5 in (4, 0)},
        "mixed/1": {1, 6},
    }
    before = sample.draw(Predictions(folder), 40, 0)
    mark_repeated(folder, repeated)
    predictions = Predictions(folder)
    drawn = sample.draw(predictions, 30, 0)
    cells = [(w.image, cell) for w in drawn.windows for cell in w.cells]
    assert sorted(cells) == sorted(
        (image, n)
        for image in predictions.stems
        for n in range(1, 21)
        if n not in repeated[image]
    )
    assert drawn.occupied == len([w for w in drawn.windows if w.cells])
    assert sum(drawn.called.values()) == 30
    assert drawn.called == {
        name: sum(int(row[f"n_{name}"]) for row in predictions.count_rows)
        for name in drawn.types
    }
    # Windows are as large as before; those with such cells alone are not drawn as empty.
    boxes = {(w.image, w.box_yxyx) for w in drawn.windows}
    assert boxes < {(w.image, w.box_yxyx) for w in before.windows}
    assert drawn.empty == before.empty
    with pytest.raises(InputError, match="from 1 to 30"):
        sample.draw(predictions, 31, 0)


def test_a_window_without_cells_counts_where_the_cells_beside_it_count(tmp_path):
    folder = checked_predictions(tmp_path, fields=2)
    rows = csv_json.read_csv(folder / "cells.csv")
    # In the first field only the first and the last cell of the first row are found.
    kept = [
        row for row in rows if row["image"] == "mixed/1" or row["cell"] in ("1", "5")
    ]
    csv_json.write_csv(folder / "cells.csv", rows[0], kept)
    mark_repeated(folder, {})
    corners = sample.draw(Predictions(folder), 22, 0)
    boxes = [w.box_yxyx for w in corners.windows if w.is_empty]
    assert sorted(boxes) == [(50, 0, 100, 60), (50, 60, 100, 120)]
    mark_repeated(folder, {"mixed/0": {5}})
    drawn = sample.draw(Predictions(folder), 21, 0)
    assert drawn.empty == 1
    assert [w.box_yxyx for w in drawn.windows if w.is_empty] == [(50, 0, 100, 60)]
    # All cells of a field may count in another one.
    mark_repeated(folder, {"mixed/0": {1, 5}})
    drawn = sample.draw(Predictions(folder), 20, 0)
    assert {w.image for w in drawn.windows} == {"mixed/1"}
