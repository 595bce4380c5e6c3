"""Tests of reading and checking COCO files."""

import json

import numpy as np
import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.interchange.coco import reading
from cellclass_tf.interchange.coco.reading import drawn_cells_of, read_coco
from cellclass_tf.storage import csv_json


def test_file_is_read_image_by_image(write_coco):
    coco = read_coco(write_coco())
    assert [image.file_name for image in coco.images] == ["image1.png", "image2.png"]
    assert [image.shape_yx for image in coco.images] == [(20, 30)] * 2
    assert [[a["id"] for a in image.annotations] for image in coco.images] == [
        [10],
        [20],
    ]
    drawn, names, notes = drawn_cells_of(coco, coco.images[1])
    assert [cell.corner_yx for cell in drawn] == [(4, 4)]
    assert drawn[0].mask.tolist() == [[True] * 5] * 5
    assert (names, notes) == (["HEK"], [])


def test_category_without_annotations_is_not_used(write_coco, change):
    path = write_coco()
    assert read_coco(path).categories == {0: "cells of Roboflow", 5: "HEK"}
    assert read_coco(path).used_categories == ("HEK",)
    for index in (0, 1):
        change(path, "annotations", index, category_id=0, iscrowd=index)
    assert read_coco(path).used_categories == ("cells of Roboflow",)


def test_used_categories_are_in_the_order_of_their_ids(write_coco, change):
    names = [{"id": n, "name": f"type {n}"} for n in (10, 9, 2)]
    path = write_coco(categories=names)
    change(path, "annotations", 0, category_id=10)
    change(path, "annotations", 1, category_id=2)
    assert read_coco(path).used_categories == ("type 2", "type 10")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a COCO file in JSON"),
        ('{"images": [{"id": 1', "or is truncated"),
        ("\xff", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ('[{"image_id": 42}]', "a list of 1 entries, probably detection results"),
        ("7", "expected a JSON object, got 7"),
        ('{"images": [], "info": {}}', "annotations, categories is missing"),
        ('{"images": {}, "annotations": [], "categories": []}', "expected a list of"),
        ('{"images": [3], "annotations": [], "categories": []}', "with an id each"),
        (
            '{"images": [{"id": 1}, {"id": 1}], "annotations": [], "categories": []}',
            "two images have the id 1",
        ),
        (
            '{"images": [], "annotations": [{"id": 4}, {"id": 4}], "categories": []}',
            "two annotations have the id 4",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 4}]}',
            "categories with a name each",
        ),
    ],
)
def test_a_file_that_is_not_coco_is_rejected_with_the_reason(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=message) as caught:
        read_coco(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"gone\.json: cannot be read"):
        read_coco(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("images", {"height": None}, "expected height and width, got \\(None, 30\\)"),
        ("images", {"width": -3}, "expected height and width, got \\(20, -3\\)"),
        (
            "images",
            {"height": 10**6, "width": 10**6},
            "more than the limit of 200,000,000 px",
        ),
        ("images", {"file_name": 3}, "image 1 has no file_name"),
        ("annotations", {"category_id": 6}, "annotation 10: unknown category 6"),
        ("annotations", {"category_id": [5]}, "unknown category \\[5\\]"),
        ("annotations", {"segmentation": [[1, 1, 4, 4]]}, "annotation 10: .*2 points"),
    ],
)
def test_an_invalid_entry_only_affects_its_image(
    write_coco, change, section, values, message
):
    coco = read_coco(change(write_coco(), section, 0, **values))
    with pytest.raises(InputError, match=message):
        drawn_cells_of(coco, coco.images[0])
    assert len(drawn_cells_of(coco, coco.images[1])[0]) == 1


@pytest.mark.parametrize("image_id", [99, 1.5, "x", None, True, [1]])
def test_annotations_of_an_unlisted_image_are_rejected(write_coco, change, image_id):
    # Otherwise the image that was meant would count as one without cells.
    path = change(write_coco(), "annotations", 1, image_id=image_id)
    with pytest.raises(
        InputError, match=r"annotation 20 refers to image .*not among the 2"
    ):
        read_coco(path)


@pytest.mark.parametrize("written", [float, str])
def test_ids_are_the_same_however_they_are_written(write_coco, written):
    path = write_coco()
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["image_id"] = written(annotation["image_id"])
    for category in content["categories"]:
        category["id"] = written(category["id"])
    plain = read_coco(path)
    path.write_text(json.dumps(content))
    coco = read_coco(path)
    assert coco.categories == plain.categories
    counts = [len(image.annotations) for image in coco.images]
    assert counts == [len(image.annotations) for image in plain.images]
    assert all(counts)
    content["images"].append(content["images"][0] | {"id": written(1)})
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="two images have the id 1"):
        read_coco(path)


@pytest.mark.parametrize("empty", [[], [[]], None, {}, ""])
def test_boxes_without_outlines_are_rejected(write_coco, change, empty):
    coco = read_coco(change(write_coco(), "annotations", 0, segmentation=empty))
    message = "image1.png: boxes only: 1 of 1 annotations have no outline"
    with pytest.raises(InputError, match=message):
        drawn_cells_of(coco, coco.images[0])


def test_a_wrong_area_in_the_file_is_noted(write_coco, change):
    # A triangle of about half its box of 100 px.
    triangle = {"segmentation": [[0, 0, 10, 0, 0, 10]], "area": 100}
    coco = read_coco(change(write_coco(), "annotations", 0, **triangle))
    drawn, _, notes = drawn_cells_of(coco, coco.images[0])
    assert drawn[0].mask.sum() < 60
    assert notes == ["1 areas in the file are more than 10% off"]


def test_crowds_and_empty_cells_are_left_out_with_a_note(write_coco):
    crowd = {"iscrowd": 1, "segmentation": {"size": [20, 30], "counts": [600]}}
    nothing = {"segmentation": [[5, 5, 9, 5, 7, 5]]}
    square = {"segmentation": [[5, 5, 9, 5, 9, 9, 5, 9]], "area": True}
    annotations = [
        {"id": number, "image_id": 1, "category_id": 5} | part
        for number, part in enumerate((crowd, nothing, square))
    ]
    coco = read_coco(write_coco(annotations=annotations))
    drawn, names, notes = drawn_cells_of(coco, coco.images[0])
    assert (len(drawn), names) == (1, ["HEK"])
    assert notes == [
        "1 annotations of crowds (iscrowd) were left out",
        "1 annotations cover no pixel and were left out",
    ]


def test_masks_of_unlimited_size_are_rejected(write_coco, monkeypatch):
    monkeypatch.setattr(reading, "_MOST_BOX_PX", 40)
    coco = read_coco(write_coco())
    assert len(drawn_cells_of(coco, coco.images[0])[0]) == 1
    monkeypatch.setattr(reading, "_MOST_BOX_PX", 24)
    with pytest.raises(InputError, match="add up to more than 24 px"):
        drawn_cells_of(coco, coco.images[0])


def test_polygons_of_roboflow_are_read(assets):
    coco = read_coco(assets / "coco" / "embryos" / "_annotations.coco.json")
    assert coco.used_categories == ("correct stage", "incorrect stage")
    read = [drawn_cells_of(coco, image) for image in coco.images]
    assert sum(len(drawn) for drawn, _, _ in read) == 560
    # The file's areas are those of the boxes.
    assert all("areas in the file" in notes[0] for _, _, notes in read)
    areas = [np.count_nonzero(cell.mask) for drawn, _, _ in read for cell in drawn]
    said = [a["area"] for image in coco.images for a in image.annotations]
    assert np.median(np.divide(areas, said)) < 0.9


def test_boxes_of_roboflow_are_rejected_for_each_image(assets):
    folder = assets / "coco" / "rbc_wbc_boxes_only" / "test"
    coco = read_coco(folder / "_annotations.coco.json")
    for image in coco.images:
        count = len(image.annotations)
        with pytest.raises(InputError, match=f"boxes only: {count} of {count}"):
            drawn_cells_of(coco, image)


def test_coco_results_are_rejected_with_the_reason(assets):
    (path,) = sorted((assets / "coco" / "coco_results_rle").glob("*.json"))
    with pytest.raises(InputError, match="Expected the annotation file that belongs"):
        read_coco(path)


def test_ids_may_be_texts(write_coco, tmp_path):
    path = write_coco(images=1)
    content = json.loads(path.read_text())
    content["images"][0]["id"] = content["annotations"][0]["image_id"] = "a"
    csv_json.write_json(path, content)
    assert len(read_coco(path).images[0].annotations) == 1


@pytest.mark.parametrize(
    "said", [{"iscrowd": 1}, {"segmentation": [[1, 1, 1, 1, 1, 1]]}]
)
def test_an_image_whose_annotations_are_all_left_out_is_an_error(
    write_coco, change, said
):
    path = change(write_coco(), "annotations", 0, **said)
    coco = read_coco(path)
    with pytest.raises(InputError, match="of its 1 annotations none can be used"):
        drawn_cells_of(coco, coco.images[0])
