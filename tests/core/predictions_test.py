"""Tests of predictions."""

import numpy as np
import pytest

from cellclass_tf.core import predictions
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.run_record import PredictedImage, RunRecord
from cellclass_tf.errors import InputError
from cellclass_tf.storage import digests
from tests.predictions import write_predictions

TYPES = ("HEK", "N2a")


def _cells(count, seed=0):
    """Returns `count` cells of one pixel, with random types, scores and probabilities."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((6, 8), np.int32)
    labels.ravel()[:count] = np.arange(1, count + 1)
    probabilities = rng.dirichlet((1, 1), count).astype(np.float32).reshape(-1, 2)
    ids = probabilities.argmax(axis=1).astype(np.int32) + 1
    ids[:1], probabilities[:1] = 0, 0
    return Cells(labels, TYPES, ids, rng.random(count, np.float32), probabilities)


def test_predicted_cells_survive_a_round_trip(tmp_path):
    fields = {"mixed/b": _cells(5), "HEK/a": _cells(40, 1), "c.d": _cells(0)}
    write_predictions(tmp_path, fields)
    found = predictions.Predictions(tmp_path)
    assert found.type_names == TYPES
    assert found.stems == ("HEK/a", "c.d", "mixed/b")
    for stem, cells in fields.items():
        again = found.read(stem)
        np.testing.assert_array_equal(again.labels, cells.labels)
        np.testing.assert_array_equal(again.type_ids, cells.type_ids)
        np.testing.assert_allclose(again.scores, cells.scores, rtol=1e-5)
        np.testing.assert_allclose(again.probabilities, cells.probabilities, rtol=1e-5)


def test_rows_of_one_image_need_not_be_adjacent(tmp_path):
    write_predictions(tmp_path, {"a": _cells(3), "b": _cells(2)})
    lines = (tmp_path / "cells.csv").read_text().splitlines()
    shuffled = [lines[i] for i in (0, 3, 4, 2, 5, 1)]
    (tmp_path / "cells.csv").write_text("\n".join(shuffled))
    again = predictions.Predictions(tmp_path).read("a")
    np.testing.assert_array_equal(again.type_ids, _cells(3).type_ids)


def test_cells_that_count_in_another_field_have_no_say_in_probabilities(tmp_path):
    write_predictions(tmp_path, {"a": _cells(4), "b": _cells(2)})
    assert predictions.Predictions(tmp_path).repeated_cells == {}
    for name, marks in (
        ("cells.csv", ["repeated", "False", "True", "False", "True", *["False"] * 2]),
        ("counts.csv", ["repeated", "2", "0"]),
    ):
        lines = (tmp_path / name).read_text().splitlines()
        # counts.csv has the column already.
        lines = [line.replace("repeated", "before") for line in lines]
        lines = [f"{line},{mark}" for line, mark in zip(lines, marks, strict=True)]
        (tmp_path / name).write_text("\n".join(lines))
    found = predictions.Predictions(tmp_path)
    assert found.repeated_cells == {"a": {2, 4}}
    # The first cell has no type.
    expected = _cells(4).probabilities[[2]]
    np.testing.assert_allclose(found.probabilities("a"), expected, rtol=1e-5)
    assert len(found.read("a")) == 4


def test_label_images_of_other_runs_are_ignored(tmp_path):
    write_predictions(tmp_path, {"a": _cells(3)})
    _cells(5).write(tmp_path / "labels" / "earlier.tif")
    found = predictions.Predictions.open(tmp_path)
    assert found.stems == ("a",)
    assert predictions.Predictions.open(found) is found


def test_a_table_that_does_not_match_the_label_image_is_rejected(tmp_path):
    write_predictions(tmp_path, {"a": _cells(3)})
    _cells(4).write(tmp_path / "labels" / "a.tif")
    with pytest.raises(InputError, match=r"a.tif: .*got 4 cells .* 3 rows for 'a'"):
        predictions.Predictions(tmp_path).read("a")


def test_a_label_image_that_was_changed_since_is_rejected(tmp_path):
    write_predictions(tmp_path, {"a": _cells(3), "b": _cells(3)})
    path = tmp_path / "labels" / "a.tif"
    entry = PredictedImage("a", "HEK/a.png", labels_sha256=digests.sha256_of_file(path))
    # An earlier version recorded no hash of b.
    images = (entry, PredictedImage("b", "HEK/b.png"))
    RunRecord(images=images).write(tmp_path / "run.json")
    found = predictions.Predictions(tmp_path)
    assert len(found.read("a")) == 3
    # The same three cells, but the last one is larger.
    labels = _cells(3).labels.copy()
    labels[2, 2:4] = 3
    for name in "ab":
        Cells.from_labels(labels, TYPES).write(tmp_path / "labels" / f"{name}.tif")
    with pytest.raises(InputError, match=r"a.tif was changed since `predict` wrote it"):
        found.read("a")
    assert len(found.read("b")) == 3


def test_an_image_that_was_not_predicted_is_an_error(tmp_path):
    write_predictions(tmp_path, {"a": _cells(3)})
    with pytest.raises(InputError, match="'b' was not predicted"):
        predictions.Predictions(tmp_path).read("b")


def test_a_folder_without_predictions_is_rejected(tmp_path):
    with pytest.raises(
        InputError, match=r"cells.csv does not exist.*cellclass predict"
    ):
        predictions.Predictions(tmp_path)


def test_a_table_with_other_columns_is_rejected(tmp_path):
    (tmp_path / "cells.csv").write_text("image,cell\n")
    with pytest.raises(InputError, match="p_TYPE for each type; got image, cell"):
        predictions.Predictions(tmp_path)


def test_the_error_for_an_invalid_row_names_its_line(tmp_path):
    write_predictions(tmp_path, {"a": _cells(3)})
    with open(tmp_path / "cells.csv", "a") as file:
        file.write("b,one,HEK\n")
    with pytest.raises(InputError, match=r"cells.csv, line 5: .*'one'"):
        predictions.Predictions(tmp_path).read("a")


@pytest.mark.parametrize(
    ("table", "line"),
    [
        # The second row is the first one in the order of images.
        ("image,cells,n_HEK,n_N2a,unknown,uncertain\nb,1,1,0,0,0\na,1,x,0,0,0\n", 3),
        ("name,cells,n_HEK,n_N2a,unknown,uncertain\nb,1,1,0,0,0\n", 2),
    ],
)
def test_the_error_for_an_invalid_count_names_its_line_in_the_file(
    tmp_path, table, line
):
    write_predictions(tmp_path, {"a": _cells(3)})
    (tmp_path / "counts.csv").write_text(table)
    with pytest.raises(InputError, match=rf"counts.csv, line {line}: expected a name"):
        _ = predictions.Predictions(tmp_path).count_rows
