"""Tests of images that COCO files add to a study."""

import numpy as np
import pytest
from PIL import Image

from cellclass_tf.core.study import ImageRow, Study, read_merged
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.coco.entries import entries_of
from cellclass_tf.interchange.coco.new_images import Adding, types_of_new_study
from cellclass_tf.interchange.coco.reading import read_coco
from cellclass_tf.splits import groups, near_duplicates
from cellclass_tf.storage import digests, png


@pytest.fixture
def study(tmp_path):
    return Study.create(tmp_path / "study", ("HEK", "N2a"))


def _entries(path):
    return entries_of([read_coco(path)], path.parent)[0]


def _add(study, path, pattern=None):
    adding = Adding(study, path.parent, pattern)
    return [ImageRow(**adding(entry)) for entry in _entries(path)]


def test_a_row_records_the_origin_of_its_image(study, write_coco):
    path = write_coco(images=1)
    (row,) = _add(study, path)
    assert (row.image, row.cell_type) == ("HEK/image1.png", "HEK")
    assert (row.group, row.raw_file) == ("image1.png", "image1.png")
    assert row.raw_sha256 == digests.sha256_of_file(path.parent / "image1.png")
    assert row.image_sha256 == digests.sha256_of_file(study.image_path(row))
    assert (row.channels_by, row.pixel_size_um, row.split) == ("coco", None, "")
    assert (read_merged(study.image_path(row)) == (0, 100, 0)).all()


def test_row_holds_the_hash_of_its_scene(study, write_coco, draw_scene):
    path = write_coco(images=1)
    png.write_png(path.parent / "image1.png", draw_scene(0)[:20, :30])
    assert _add(study, path)[0].scene_hash == ""
    content = path.read_text().replace('"height": 20', '"height": 64')
    path.write_text(content.replace('"width": 30', '"width": 64'))
    png.write_png(path.parent / "image1.png", draw_scene(0))
    (row,) = _add(study, path)
    assert row.scene_hash == near_duplicates.scene_hash(draw_scene(0)) != ""


def test_the_pixels_of_an_image_of_the_study_are_refused(study, write_coco):
    study.update(_add(study, write_coco(images=1)))
    other = write_coco(folder="other")
    # The same pixels, but other bytes.
    Image.open(other.parent / "image1.png").save(
        other.parent / "image2.png", dpi=(9, 9)
    )
    adding = Adding(study, other.parent, None)
    with pytest.raises(InputError, match=r"its pixels are those of HEK/image1.png"):
        adding(_entries(other)[1])
    assert not (study.root / "images" / "HEK" / "image2.png").exists()


def test_metadata_of_an_image_are_kept(study, write_coco, change):
    said = {"group": "dish 4", "pixel_size_um": 0.5, "split": "test"}
    path = change(write_coco(images=1), "images", 0, **said)
    (row,) = _add(study, path)
    assert (row.group, row.pixel_size_um, row.split) == ("dish 4", 0.5, "test")


def test_an_existing_group_keeps_its_split(study, write_coco, change):
    study.update([ImageRow("HEK/old.png", "HEK", group="dish 4", split="train")])
    said = {"group": "dish 4", "split": "test"}
    (row,) = _add(study, change(write_coco(images=1), "images", 0, **said))
    assert row.split == ""


@pytest.mark.parametrize(
    "said",
    [
        {"group": 3, "pixel_size_um": -1, "split": "x"},
        {"pixel_size_um": True},
        # The size of a print at 300 dots per inch.
        {"pixel_size_um": 84.7},
    ],
)
def test_invalid_metadata_are_ignored(study, write_coco, change, said):
    (row,) = _add(study, change(write_coco(images=1), "images", 0, **said))
    assert (row.group, row.pixel_size_um, row.split) == ("image1.png", None, "")


def test_group_is_what_the_pattern_matches(study, write_coco):
    path = write_coco()
    assert [r.group for r in _add(study, path, groups.pattern_of(r"e(\d)"))] == [
        "1",
        "2",
    ]
    adding = Adding(study, path.parent, groups.pattern_of("dish"))
    with pytest.raises(InputError, match="--group=dish does not match"):
        adding(_entries(path)[0])


def test_image_without_or_of_several_types_is_mixed(study, write_coco, change):
    path = write_coco(categories=[{"id": 5, "name": "HEK"}, {"id": 6, "name": "N2a"}])
    change(path, "annotations", 1, image_id=1, category_id=6)
    images = [row.image for row in _add(study, path)]
    assert images == ["mixed/image1.png", "mixed/image2.png"]


def test_second_file_of_a_name_fails(study, write_coco, change):
    path = change(write_coco(), "images", 1, file_name="deep/image1.png")
    png.write_png(path.parent / "deep/image1.png", np.zeros((20, 30), np.uint8))
    first, second = _entries(path)
    adding = Adding(study, path.parent, None)
    adding(first)
    with pytest.raises(
        InputError, match=r"would become HEK/image1.png, which exists already"
    ):
        adding(second)


def test_image_with_a_bad_outline_is_not_added(study, write_coco, change):
    path = change(write_coco(images=1), "annotations", 0, segmentation=[[1, 1, 2, 2]])
    with pytest.raises(InputError, match="2 points"):
        _add(study, path)
    assert not (study.root / "images").exists()


def test_types_are_the_used_categories(write_coco, change):
    path = change(write_coco(), "categories", 1, name="correct stage")
    assert types_of_new_study([read_coco(path)]) == ["correct stage"]
    change(path, "categories", 1, name="unknown")
    assert types_of_new_study([read_coco(path)]) == ["cells of Roboflow"]


def test_categories_that_would_be_the_same_type_are_rejected(write_coco, change):
    names = [{"id": 5, "name": "a:b"}, {"id": 6, "name": "a|b"}]
    path = change(write_coco(categories=names), "annotations", 0, category_id=6)
    with pytest.raises(InputError, match=r"'a:b', 'a.b' would both be the type a-b"):
        types_of_new_study([read_coco(path)])
    path = write_coco(categories=[], annotations=[])
    with pytest.raises(InputError, match="expected categories"):
        types_of_new_study([read_coco(path)])
