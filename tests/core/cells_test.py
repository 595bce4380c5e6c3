"""Tests of cellclass_tf.core.cells."""

import numpy as np
import pytest
import tifffile

from cellclass_tf import errors
from cellclass_tf.core.cells import Cells

TYPES = ("HEK", "N2a")
# Cell 1 is the 7s: rows 0-1, columns 0-1 without a corner; cell 2 is the 9s.
LABELS = np.array([[7, 7, 0, 9], [7, 0, 0, 9], [0, 0, 0, 9]], np.uint16)


def test_labels_are_made_contiguous_and_keep_their_order():
    found = Cells.from_labels(LABELS, TYPES, ["N2a", "HEK"])
    np.testing.assert_array_equal(
        found.labels, [[1, 1, 0, 2], [1, 0, 0, 2], [0, 0, 0, 2]]
    )
    assert found.cell_types == ("N2a", "HEK")
    np.testing.assert_array_equal(found.probabilities, [[0, 1], [1, 0]])


def test_boxes_areas_and_masks_match_the_label_image():
    found = Cells.from_labels(LABELS, TYPES, "HEK")
    np.testing.assert_array_equal(found.boxes_yxyx, [[0, 0, 2, 2], [0, 3, 3, 4]])
    np.testing.assert_array_equal(found.areas_px, [3, 3])
    np.testing.assert_array_equal(found.mask(0), [[True, True], [True, False]])


def test_a_cell_may_fill_the_whole_image():
    found = Cells.from_labels(np.ones((2, 2), np.int64), TYPES)
    assert len(found) == 1
    assert found.cell_types == ("unknown",)
    assert not found.probabilities.any()


def test_an_image_may_have_no_cells():
    found = Cells.from_labels(np.zeros((2, 3), np.int32), TYPES)
    assert len(found) == 0
    assert found.boxes_yxyx.shape == (0, 4)


def test_the_error_for_an_unknown_type_lists_the_known_types():
    with pytest.raises(ValueError, match="'CHO'; the study has HEK, N2a"):
        Cells.from_labels(LABELS, TYPES, "CHO")


def test_cells_and_types_survive_a_round_trip(tmp_path):
    before = Cells.from_labels(LABELS, TYPES, ["N2a", "HEK"])
    before.write(tmp_path / "a.tif", types_csv=True)
    after = Cells.read(tmp_path / "a.tif", TYPES)
    np.testing.assert_array_equal(before.labels, after.labels)
    assert before.cell_types == after.cell_types


def test_cells_know_their_numbers_in_the_file_that_was_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", LABELS)
    read = Cells.read(tmp_path / "a.tif", TYPES, "HEK")
    assert read.numbers.tolist() == [7, 9]
    assert read.with_types(("N2a", "HEK")).numbers.tolist() == [7, 9]
    # Cells that are numbered anew, or that no file holds, count from 1 on.
    assert read.kept(np.array([False, True])).numbers.tolist() == [1]
    assert Cells.from_labels(LABELS, TYPES).numbers.tolist() == [1, 2]


def test_more_cells_than_16_bits_can_number_survive_a_round_trip(tmp_path):
    labels = np.arange(1, 70_001, dtype=np.int32).reshape(700, 100)
    Cells.from_labels(labels, TYPES, "HEK").write(tmp_path / "a.tif")
    after = Cells.read(tmp_path / "a.tif", TYPES, "HEK")
    assert len(after) == 70_000
    np.testing.assert_array_equal(after.labels, labels)


def test_a_table_must_list_every_cell_and_may_have_unknown_types(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", LABELS)
    (tmp_path / "a.csv").write_text("cell,cell_type\n9,HEK\n")
    with pytest.raises(
        errors.InputError, match=r"a\.csv: cell 7 of the label image has"
    ):
        Cells.read(tmp_path / "a.tif", TYPES)
    (tmp_path / "a.csv").write_text("cell,cell_type\n9,HEK\n7,unknown\n")
    assert Cells.read(tmp_path / "a.tif", TYPES).cell_types == ("unknown", "HEK")


def test_a_table_without_the_expected_columns_is_rejected_by_name(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", LABELS)
    (tmp_path / "a.csv").write_text("number,kind\n9,HEK\n")
    with pytest.raises(errors.InputError, match=r"a\.csv: expected the columns"):
        Cells.read(tmp_path / "a.tif", TYPES)


@pytest.mark.parametrize(
    "table", ["cell_type,cell\nHEK,1\nHEK\n", "cell,cell_type\n1,HEK\n2\n"]
)
def test_a_truncated_table_of_types_is_rejected_by_name(tmp_path, table):
    cells = Cells.from_labels(np.array([[1, 2]]), ("HEK",), "HEK")
    cells.write(tmp_path / "a.tif")
    (tmp_path / "a.csv").write_text(table)
    with pytest.raises(errors.InputError, match=r"a\.csv"):
        Cells.read(tmp_path / "a.tif", ("HEK",))
