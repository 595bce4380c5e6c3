"""Tests of cellclass_tf.interchange.row_finder."""

import pathlib

import pytest

from cellclass_tf.core.study import ImageRow
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.row_finder import RowFinder

IMAGES = ("HEK/a.png", "HEK/same.png", "N2a/same.png", "mixed/m.png")


def rows_of(**raw_files):
    """Returns rows of HEK by image name, with their raw files."""
    return [
        ImageRow(f"HEK/{name}.png", "HEK", raw_file=f"/data/raw/{raw_file}")
        for name, raw_file in raw_files.items()
    ]


# Two dishes with files of the same name; `convert` names the images like this.
DISHES = rows_of(
    f1="HEK/dish1/f1.ome.tif",
    dish_2_f1="HEK/dish 2/f1.ome.tif",
    f2="HEK/dish1/f2.tif",
    dish1_f3_s1="HEK/dish1/f3.tif",
)


def find(rows, path, *names, **chosen):
    path = pathlib.Path(path)
    finder, folders = RowFinder(rows), path.parent.parts
    # The source is a folder above the first folder of the path.
    path = pathlib.Path("/masks") / path
    found = finder.find(path, names or [path.stem], folders, "Call it y.", **chosen)
    return found.image


def test_a_file_is_matched_by_its_names_and_the_folder_of_its_type():
    rows = [ImageRow(image, image.split("/")[0]) for image in IMAGES]
    assert find(rows, "x.tif", "m", "a") == "mixed/m.png"
    assert find(rows, "x.tif", "nobody", "a") == "HEK/a.png"
    assert find(rows, "HEK/results/N2a/2024/same.tif") == "N2a/same.png"
    with pytest.raises(
        InputError, match=r"same.tif: matches HEK/same.png, N2a/same.png"
    ):
        find(rows, "results/same.tif")
    assert find(rows, "results/same.tif", chosen=rows[1:2]) == "HEK/same.png"
    with pytest.raises(InputError, match=r"no image of type N2a in .* Call it y."):
        find(rows, "N2a/a.tif")


def test_an_image_keeps_its_folder_if_its_type_is_changed():
    rows = [ImageRow(image, "N2a") for image in ("HEK/a.png", "N2a/same.png")]
    assert find(rows, "HEK/a.tif") == find(rows, "N2a/a.tif") == "HEK/a.png"
    rows += [ImageRow("HEK/same.png", "N2a")]
    assert find(rows, "N2a/same.tif") == "N2a/same.png"
    assert find(rows, "HEK/same.tif") == "HEK/same.png"


@pytest.mark.parametrize(
    ("path", "image"),
    [
        ("HEK/dish1/f1.tif", "HEK/f1.png"),
        ("HEK/dish 2/f1.tif", "HEK/dish_2_f1.png"),
        ("DISH 2/f1.tif", "HEK/dish_2_f1.png"),
        ("HEK/dish 2/corrected/f1.tif", "HEK/dish_2_f1.png"),
        ("HEK/dish 2/dish_2_f1.tif", "HEK/dish_2_f1.png"),
        # Names of images, as in images/ of the study.
        ("HEK/f1.tif", "HEK/f1.png"),
        ("raw/HEK/f1.tif", "HEK/f1.png"),
        ("corrected/dish_2_f1.tif", "HEK/dish_2_f1.png"),
        ("dish1/f3_s1.tif", "HEK/dish1_f3_s1.png"),
    ],
)
def test_the_folder_of_a_dish_selects_its_image(path, image):
    assert find(DISHES, path) == image


def test_the_source_may_be_the_folder_of_a_dish():
    finder, path = RowFinder(DISHES), pathlib.Path("/own/dish 2/f1.tif")
    assert finder.find(path, ["f1"], (), "").image == "HEK/dish_2_f1.png"


@pytest.mark.parametrize("path", ["HEK/dish 2/f2.tif", "dish1/dish_2_f1.tif"])
def test_a_file_in_the_folder_of_another_dish_is_refused(path):
    with pytest.raises(InputError, match="this file is in the folder of another dish"):
        find(DISHES, path)


def test_a_name_of_two_files_of_one_dish_is_refused():
    rows = rows_of(
        f1="HEK/dish1/f1.tif", dish1_f1="HEK/dish1/f1.nd2", f2="HEK/dish2/f2.tif"
    )
    with pytest.raises(InputError, match=r"matches HEK/f1.png, HEK/dish1_f1.png"):
        find(rows, "HEK/dish1/f1.tif")


def test_dishes_of_equal_names_are_told_apart_by_the_folders_above():
    rows = rows_of(
        f1="HEK/mo/d1/f1.tif",
        d1_f1="HEK/tu/d1/f1.tif",
        f1_tif="HEK/we/d1/f1.tif",
        d1_f1_tif="HEK/th/d1/f1.tif",
    )
    for day, image in (("mo", "f1"), ("tu", "d1_f1"), ("th", "d1_f1_tif")):
        assert find(rows, f"HEK/{day}/d1/f1.tif") == f"HEK/{image}.png"
    assert find(rows, "HEK/we/d1/f1.tif") == "HEK/f1_tif.png"
    other = rows_of(g="HEK/mo/d2/g.tif")
    with pytest.raises(InputError, match=r"matches HEK/f1.png, HEK/d1_f1.png"):
        find(rows + other, "HEK/d1/f1.tif")
