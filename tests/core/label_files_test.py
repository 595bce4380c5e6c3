"""Tests of cellclass_tf.core.label_files; cells_test reads label images with their types."""

import numpy as np
import pytest
import tifffile

from cellclass_tf import errors
from cellclass_tf.core import label_files


@pytest.mark.parametrize(
    "pixels", [np.full((4, 4), 0.5, np.float32), np.zeros((4, 4, 3), np.uint8)]
)
def test_a_file_that_is_not_a_label_image_is_rejected(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with pytest.raises(errors.InputError, match="expected a label image"):
        label_files.read_labels(tmp_path / "a.tif")


def test_a_damaged_label_image_is_rejected_by_name(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0 and no more")
    with pytest.raises(errors.InputError, match=r"a\.tif"):
        label_files.read_labels(tmp_path / "a.tif")


def test_whole_numbers_in_floats_are_read_as_integers(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 2.0]], np.float32))
    labels = label_files.read_labels(tmp_path / "a.tif")
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [[0, 2]])


def test_the_size_is_read_from_the_header(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30), np.uint16))
    assert label_files.label_image_size(tmp_path / "a.tif") == (20, 30)


def test_a_table_of_types_survives_a_round_trip(tmp_path):
    label_files.write_types(tmp_path / "a.csv", ("HEK", "unknown"))
    assert (tmp_path / "a.csv").read_text() == label_files.types_text(
        ("HEK", "unknown")
    )
    found = label_files.read_types(tmp_path / "a.csv", [1, 2])
    assert found == {1: "HEK", 2: "unknown"}


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("1,HEK\n", "cell 2 of the label image has no line"),
        ("1,HEK\n2,HEK\n3,HEK\n", "names cell 3, which is not there"),
        ("1,HEK\n1,N2a\n2,HEK\n", "line 3: cell 1 already has a line"),
        ("1.5,HEK\n2,HEK\n", "line 2: '1.5' is not a cell number"),
    ],
)
def test_a_table_of_other_cells_is_rejected(tmp_path, lines, reason):
    (tmp_path / "a.csv").write_text(f"cell,cell_type\n{lines}")
    with pytest.raises(ValueError, match=reason):
        label_files.read_types(tmp_path / "a.csv", [1, 2])
