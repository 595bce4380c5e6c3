"""Tests of cellclass_tf.interchange.outline_files."""

import numpy as np
import pytest
import tifffile

from cellclass_tf.core.study import ImageRow
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.outline_files import OutlineFiles
from cellclass_tf.storage import digests, png

ROWS = [
    ImageRow("HEK/a.png", "HEK"),
    ImageRow("N2a/a.png", "N2a"),
    ImageRow("mixed/b.png", "mixed"),
]


def labels(*numbers):
    drawn = np.zeros((30, 40), np.uint16)
    for place, number in enumerate(numbers):
        drawn[5:15, 2 + 10 * place : 10 + 10 * place] = number
    return drawn


@pytest.fixture
def folder(tmp_path):
    for name, drawn in {
        "HEK/a_cp_masks.png": labels(1, 2),
        "N2a/a_masks.png": labels(7),
        "other.png": labels(1),
    }.items():
        png.write_png(tmp_path / name, drawn)
    tifffile.imwrite(tmp_path / "b.tif", labels(9, 4, 70))
    return tmp_path


def test_labels_are_matched_by_name_and_type(folder):
    files = OutlineFiles(folder, ROWS)
    found = [files.read(row) for row in ROWS]
    assert [set(np.unique(f.labels)) - {0} for f in found] == [{1, 2}, {7}, {4, 9, 70}]
    assert found[0].path == str(folder / "HEK/a_cp_masks.png")
    assert found[2].sha256 == digests.sha256_of_file(folder / "b.tif")
    assert "label images without an image: 1, such as other.png" in files.notes


def test_fields_without_labels_or_with_two_files_are_errors(folder):
    strange = ImageRow("mixed/c.png", "mixed")
    files = OutlineFiles(folder, [*ROWS, strange])
    for ask in (files.version, files.read):
        with pytest.raises(InputError, match=r"expected a label image of mixed/c.png"):
            ask(strange)
    png.write_png(folder / "b_masks.png", labels(1))
    tifffile.imwrite(folder / "b_masks.tif", labels(1))
    with pytest.raises(InputError, match="two label files match it"):
        OutlineFiles(folder, ROWS).read(ROWS[2])


def test_a_name_of_two_images_means_the_chosen_one(tmp_path):
    both = [ImageRow("HEK/b.png", "HEK"), ImageRow("mixed/b.png", "mixed")]
    png.write_png(tmp_path / "b.png", labels(1, 2))
    files = OutlineFiles(tmp_path, both, chosen=both[1:])
    assert files.read(both[1]).labels.max() == 2
    assert len(files.notes) == 1
    # Without a choice the name is ambiguous; in the folder of a type it is that type's.
    with pytest.raises(InputError, match=r"expected a label image of mixed/b.png"):
        OutlineFiles(tmp_path, both, chosen=both).read(both[1])
    (tmp_path / "HEK").mkdir()
    (tmp_path / "b.png").rename(tmp_path / "HEK" / "b.png")
    with pytest.raises(InputError, match=r"expected a label image of mixed/b.png"):
        OutlineFiles(tmp_path, both, chosen=both[1:]).read(both[1])


def test_labels_of_another_dish_are_not_used(tmp_path):
    rows = [
        ImageRow("HEK/f1.png", "HEK", raw_file="/raw/HEK/dish1/f1.tif"),
        ImageRow("HEK/dish2_f1.png", "HEK", raw_file="/raw/HEK/dish2/f1.tif"),
    ]
    png.write_png(tmp_path / "HEK" / "dish2" / "f1_masks.png", labels(1, 2))
    files = OutlineFiles(tmp_path, rows, chosen=rows)
    assert files.read(rows[1]).labels.max() == 2
    with pytest.raises(InputError, match=r"expected a label image of HEK/f1.png"):
        files.read(rows[0])


def test_changed_labels_have_another_version(folder):
    before = OutlineFiles(folder, ROWS).version(ROWS[0])
    assert OutlineFiles(folder, ROWS).version(ROWS[0]) == before
    png.write_png(folder / "HEK/a_cp_masks.png", labels(1, 2, 3))
    assert OutlineFiles(folder, ROWS).version(ROWS[0]) != before


def test_cells_in_pieces_and_binary_masks_need_label_components(folder):
    pieces = labels(1, 1, 2)
    png.write_png(folder / "N2a/a_masks.png", pieces)
    with pytest.raises(InputError, match="--label_components"):
        OutlineFiles(folder, ROWS).read(ROWS[1])
    apart = OutlineFiles(folder, ROWS, label_components=True).read(ROWS[1])
    assert apart.labels.max() == 3
    assert apart.notes == ("2 numbers became 3 cells",)


def test_a_folder_without_labels_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected label images"):
        OutlineFiles(tmp_path, ROWS)
    with pytest.raises(InputError, match="expected a folder"):
        OutlineFiles(tmp_path / "none", ROWS)
