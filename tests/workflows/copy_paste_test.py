"""Tests of cellclass_tf.workflows.copy_paste."""

import io

import numpy as np
import pytest
from PIL import Image

from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.storage import png
from cellclass_tf.workflows import copy_paste


def disc(shape, row, column, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


@pytest.fixture
def study(tmp_path):
    return Study.create(tmp_path)


def add(study, name, cell_type, discs, *, shape=(60, 80), pixel_size_um=None):
    """Adds a field with round cells of (row, column, radius) and brightness 200."""
    labels = np.zeros(shape, np.int32)
    for number, (row, column, radius) in enumerate(discs, start=1):
        labels[disc(shape, row, column, radius)] = number
    row = ImageRow(
        f"{cell_type}/{name}.png",
        cell_type,
        group=name,
        pixel_size_um=pixel_size_um,
    )
    image = np.where(labels > 0, 200, 10)[..., None].repeat(3, -1).astype(np.uint8)
    png.write_png(study.image_path(row), image)
    Cells.from_labels(labels, study.cell_types, cell_type).write(study.cells_path(row))
    study.update([row])
    return row


def arrays(example):
    opened = (
        Image.open(io.BytesIO(example[k].getvalue())) for k in ("image", "labels")
    )
    return tuple(np.asarray(picture) for picture in opened)


def test_each_pure_field_is_paired_with_one_of_the_next_type():
    rows = [
        ImageRow(f"{t}/{n}.png", t)
        for t, n in [("N2a", 1), ("HEK", 1), ("HEK", 2), ("U2OS", 1), ("mixed", 1)]
    ]
    names = [(a.stem, b.stem) for a, b in copy_paste.pairs(rows)]
    assert names == [
        ("HEK/1", "N2a/1"),
        ("HEK/2", "N2a/1"),
        ("N2a/1", "U2OS/1"),
        ("U2OS/1", "HEK/1"),
    ]
    assert copy_paste.pairs(rows[1:3]) == []


def test_moved_cells_keep_their_pixels_their_type_and_their_source(study):
    one = add(study, "a", "HEK", [(20, 20, 8)])
    other = add(study, "b", "N2a", [(40, 60, 6), (20, 22, 8)])
    example = copy_paste.composed_example(study, one, other)
    image, labels = arrays(example)
    moved = disc((60, 80), 40, 60, 6)
    # The second cell would have covered an existing cell.
    assert [cell["type"] for cell in example["cells"]] == ["HEK", "N2a"]
    np.testing.assert_array_equal(labels == 2, moved)
    np.testing.assert_array_equal(labels == 1, disc((60, 80), 20, 20, 8))
    assert (image[moved] == 200).all()
    assert example["sources"] == ["HEK/a.png", "N2a/b.png"]
    assert (example["culture"], example["group"]) == ("mixed", "")
    assert example["image_name"] == "composed/HEK-a+N2a-b.png"


def test_scales_are_matched_where_both_are_known(study):
    one = add(study, "a", "HEK", [(20, 20, 8)], pixel_size_um=0.5)
    other = add(study, "b", "N2a", [(30, 60, 5)], pixel_size_um=1.0)
    example = copy_paste.composed_example(study, one, other)
    areas = [cell["area_px"] for cell in example["cells"]]
    # The doubled field is cropped to its middle 60 x 80 px: the cell is at row 30,
    # column 80, and cut in half.
    assert areas[1] == pytest.approx(np.pi * 10**2 / 2, rel=0.15)
    assert copy_paste.composed_example(study, other, one)["pixel_size_um"] == 1.0


def test_fields_of_other_sizes_are_centred(study):
    one = add(study, "a", "HEK", [(20, 20, 8)])
    other = add(study, "b", "N2a", [(20, 60, 6)], shape=(40, 100))
    example = copy_paste.composed_example(study, one, other)
    _, labels = arrays(example)
    # Ten rows are padded above, ten columns are cut off on the left.
    assert labels.shape == (60, 80)
    np.testing.assert_array_equal(labels == 1, disc((60, 80), 20, 20, 8) & (labels < 2))
    top, left, _, _ = example["cells"][-1]["box"]
    assert (top * 60, left * 80) == pytest.approx((24, 44))


def test_a_cell_of_which_the_frame_leaves_a_sliver_is_no_longer_counted(study):
    one = add(study, "a", "HEK", [(20, 20, 8)])
    # The frame begins at column 10 and ends at column 90.
    cells = [(20, 2, 9), (20, 60, 6), (40, 86, 9)]
    other = add(study, "b", "N2a", cells, shape=(60, 100))
    example = copy_paste.composed_example(study, one, other)
    assert [cell["type"] for cell in example["cells"]] == ["HEK", "N2a", "N2a"]
    _, labels = arrays(example)
    assert not labels[:, 0].any()


def test_a_covered_cell_is_no_longer_counted(study):
    one = add(study, "a", "HEK", [(30, 40, 4), (10, 10, 5)])
    other = add(study, "b", "N2a", [(30, 40, 12)])
    example = copy_paste.composed_example(study, one, other)
    assert [cell["type"] for cell in example["cells"]] == ["HEK", "N2a"]
    _, labels = arrays(example)
    assert labels.max() == 2
    assert labels[30, 40] == 2
    assert labels[10, 10] == 1


def test_a_field_without_cells_is_not_composed(study):
    one, empty = add(study, "a", "HEK", [(20, 20, 8)]), add(study, "b", "N2a", [])
    found = copy_paste.composed_examples(study, [(one, empty), (empty, one)])
    assert list(found) == []
