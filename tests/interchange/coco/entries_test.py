"""Tests of matching images of COCO files with a study."""

import shutil

import numpy as np
import pytest
from PIL import Image

from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.coco import entries
from cellclass_tf.interchange.coco.reading import read_coco
from cellclass_tf.storage import digests, png


@pytest.fixture
def study(tmp_path):
    study = Study.create(tmp_path / "study", ("HEK", "N2a"))
    names = ("HEK/a.png", "HEK/same.png", "N2a/same.png", "mixed/the_b.png")
    study.update(ImageRow(name, name.split("/")[0]) for name in names)
    return study


def _entries(*paths, root):
    return entries.entries_of([read_coco(path) for path in paths], root)


@pytest.mark.parametrize(
    ("file_name", "image"),
    [
        ("a.png", "HEK/a.png"),
        ("a.jpg", "HEK/a.png"),
        ("deep/a.tif", "HEK/a.png"),
        ("HEK/a.png", "HEK/a.png"),
        ("N2a/same.png", "N2a/same.png"),
        ("N2a/dish1/same.png", "N2a/same.png"),
        ("images/3f2a9c1b-a.png", "HEK/a.png"),
        # The name that `convert` gives.
        ("the b.png", "mixed/the_b.png"),
        ("c.png", None),
    ],
)
def test_an_image_of_the_study_is_matched(study, write_coco, change, file_name, image):
    path = change(write_coco(images=1), "images", 0, file_name=file_name)
    found, failures = _entries(path, root=path.parent)
    rows, strangers, unclear = entries.match(study, found)
    assert not failures
    assert not unclear
    assert [row.image for row in rows.values()] == ([image] if image else [])
    assert len(strangers) == (not image)


@pytest.fixture
def copy_of_roboflow(study, write_coco, change, draw_scene, tmp_path):
    """Writes a JPEG that claims to be a copy of HEK/a.png, and returns the entries."""
    scene = draw_scene(0, 64)
    png.write_png(study.root / "images" / "HEK" / "a.png", scene)

    def write(make=lambda image: image):
        name = "a_png.rf.fd60a26391e260.jpg"
        record = {"file_name": name, "height": 64, "width": 64}
        path = change(
            write_coco(images=1), "images", 0, **record, extra={"name": "a.png"}
        )
        if make is not None:
            copy = np.ascontiguousarray(make(scene))
            Image.fromarray(copy).save(path.parent / name, quality=80)
        return _entries(path, root=path.parent)[0]

    return write


@pytest.mark.parametrize(
    "make",
    [lambda image: image, lambda image: np.minimum(image * 1.4, 255).astype("u1")],
)
def test_the_name_before_roboflow_changed_it_is_matched(study, copy_of_roboflow, make):
    rows, strangers, _ = entries.match(study, copy_of_roboflow(make))
    assert [row.image for row in rows.values()] == ["HEK/a.png"]
    assert not strangers


@pytest.mark.parametrize(
    "make",
    [
        lambda image: image[:, ::-1],
        lambda image: np.rot90(image),
        lambda image: np.roll(image, 16, axis=0),
        lambda image: np.zeros_like(image),
    ],
)
def test_an_augmented_copy_is_not_matched_with_its_image(study, copy_of_roboflow, make):
    rows, strangers, failures = entries.match(study, copy_of_roboflow(make))
    assert not rows
    assert not strangers
    (problem,) = failures.values()
    assert "does not show what HEK/a.png of the study shows" in problem


def test_a_copy_that_cannot_be_compared_is_rejected(study, copy_of_roboflow):
    rows, strangers, failures = entries.match(study, copy_of_roboflow(None))
    assert not rows
    assert not strangers
    (problem,) = failures.values()
    assert "it is a copy of HEK/a.png, but it cannot be compared" in problem


def test_another_image_of_the_same_name_is_rejected(
    study, write_coco, change, draw_scene
):
    # Only the name counted, although the image was in the folder of the file.
    record = {"file_name": "a.png", "height": 64, "width": 64}
    path = change(write_coco(images=1), "images", 0, **record)
    png.write_png(study.root / "images" / "HEK" / "a.png", draw_scene(0, 64))
    png.write_png(path.parent / "a.png", draw_scene(1, 64))
    _, _, failures = entries.match(study, _entries(path, root=path.parent)[0])
    (problem,) = failures.values()
    assert "does not show what HEK/a.png of the study shows" in problem


def _match_one(study, path):
    """Returns the image that the only entry matches, or its failure."""
    rows, strangers, unclear = entries.match(study, _entries(path, root=path.parent)[0])
    assert len(rows) + len(strangers) + len(unclear) == 1
    return next((row.image for row in rows.values()), None) or unclear.get("same.png")


def test_a_name_of_several_images_needs_more_than_the_type_of_the_cells(
    study, write_coco, change, draw_scene
):
    record = {"file_name": "same.png", "height": 64, "width": 64}
    path = change(write_coco(images=1), "images", 0, **record)
    assert "matches HEK/same.png, N2a/same.png. Write" in _match_one(study, path)
    change(path, "images", 0, culture="HEK")
    assert _match_one(study, path) == "HEK/same.png"
    change(path, "images", 0, culture=None)
    # The cells are HEK, but the image beside the file is the other one.
    for seed, name in enumerate(("HEK/same.png", "N2a/same.png")):
        png.write_png(study.root / "images" / name, draw_scene(seed, 64))
    png.write_png(path.parent / "same.png", draw_scene(1, 64) // 2)
    assert _match_one(study, path) == "N2a/same.png"
    png.write_png(path.parent / "same.png", draw_scene(2, 64))
    assert "put the image beside the JSON file" in _match_one(study, path)


def test_a_file_name_with_the_folder_of_a_dish_is_that_of_its_image(
    study, write_coco, change
):
    raw_files = {"HEK/a.png": "HEK/dish1/a.tif", "HEK/dish2_a.png": "HEK/dish2/a.tif"}
    study.update(ImageRow(i, "HEK", raw_file=f"raw/{r}") for i, r in raw_files.items())
    path = change(write_coco(images=1), "images", 0, file_name="HEK/dish2/a.tif")
    assert _match_one(study, path) == "HEK/dish2_a.png"
    change(path, "images", 0, file_name="HEK/dish1/a.tif")
    assert _match_one(study, path) == "HEK/a.png"


def test_a_copy_of_an_image_is_matched_under_any_name(
    study, write_coco, change, draw_scene
):
    image = study.root / "images" / "HEK" / "a.png"
    png.write_png(image, draw_scene(0, 64))
    sha256 = digests.sha256_of_file(image)
    study.update([ImageRow("HEK/a.png", "HEK", image_sha256=sha256)])
    # Another image of the study has the name.
    record = {"file_name": "same.png", "height": 64, "width": 64}
    path = change(write_coco(images=1), "images", 0, **record)
    shutil.copy(image, path.parent / "same.png")
    assert _match_one(study, path) == "HEK/a.png"
    # A smaller file, as after a change by Label Studio, has other bytes.
    change(path, "images", 0, file_name="3f2a9c1b-a.png")
    png.write_png(path.parent / "3f2a9c1b-a.png", draw_scene(0, 64) // 2)
    assert _match_one(study, path) == "HEK/a.png"
    # An image of another experiment is not in the study.
    png.write_png(path.parent / "3f2a9c1b-a.png", draw_scene(1, 64))
    assert _match_one(study, path) is None


def test_a_second_entry_for_one_image_fails(study, write_coco, change):
    path = change(write_coco(images=2), "images", 0, file_name="a.png")
    change(path, "images", 1, file_name="a.jpg")
    found, _ = _entries(path, root=path.parent)
    rows, _, unclear = entries.match(study, found)
    assert list(rows) == ["a.png"]
    assert "it matches HEK/a.png, and so does" in unclear["a.jpg"]


def test_the_error_for_an_unknown_category_lists_the_types(study, write_coco, change):
    path = change(write_coco(), "categories", 1, name="CHO cells")
    found, _ = _entries(path, root=path.parent)
    _, _, unclear = entries.match(study, found)
    message = unclear["image1.png"]
    assert (
        "'CHO cells' is not a type of the study; it has HEK, N2a (and unknown)"
        in message
    )


def test_a_category_becomes_a_valid_type(study, write_coco, change, tmp_path):
    study = Study.create(tmp_path / "other", ("HEK-293",))
    path = change(write_coco(), "categories", 1, name="HEK 293")
    (one, _), _ = _entries(path, root=path.parent)
    assert one.types(study) == ["HEK-293"]
    assert one.culture(study) == "HEK-293"


@pytest.mark.parametrize(
    ("said", "culture"),
    [("mixed", "mixed"), ("N2a", "HEK"), ("HEK", "HEK"), (3, "HEK")],
)
def test_the_culture_in_the_file_counts_if_the_cells_allow_it(
    study, write_coco, change, said, culture
):
    path = change(write_coco(), "images", 0, culture=said)
    (one, _), _ = _entries(path, root=path.parent)
    assert one.culture(study) == culture


def test_names_include_file_and_id_if_needed(write_coco, change):
    first, second = write_coco(name="a.json"), write_coco(name="b.json")
    change(second, "images", 1, file_name="image1.png")
    found, failures = _entries(first, second, root=first.parent)
    assert [entry.name for entry in found] == [
        "a.json: image1.png",
        "a.json: image2.png",
        "b.json: image1.png",
        "b.json: image1.png (id 2)",
    ]
    assert not failures


@pytest.mark.parametrize("name", ["/etc/a.png", "../../a.png", "a\\b.png", 7])
def test_unsafe_name_is_the_failure_of_its_image(write_coco, change, name):
    path = change(write_coco(), "images", 0, file_name=name)
    found, failures = _entries(path, root=path.parent)
    assert [entry.name for entry in found] == ["image2.png"]
    assert len(failures) == 1


def test_version_changes_with_the_annotations_of_the_image_alone(write_coco, change):
    path = write_coco()
    before = [e.version for e in _entries(path, root=path.parent)[0]]
    change(path, "annotations", 1, area=3)
    after = [e.version for e in _entries(path, root=path.parent)[0]]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False]


def test_files_are_found_in_a_folder(write_coco, tmp_path):
    source = tmp_path / "source"
    for folder, name in (
        ("source", "b.json"),
        ("source", ".hidden.json"),
        ("source/annotations", "a.json"),
        ("source/train", "_annotations.coco.json"),
        ("source/train", "other.json"),
    ):
        write_coco(folder=folder, name=name)
    paths, root, _ = entries.json_files(source)
    assert [path.relative_to(root).as_posix() for path in paths] == [
        "annotations/a.json",
        "b.json",
        "train/_annotations.coco.json",
    ]
    assert entries.json_files(source / "b.json")[:2] == ([source / "b.json"], source)
    for nothing in (tmp_path / "nothing", source / "train" / "image1.png" / "x"):
        with pytest.raises(InputError, match="found none"):
            entries.json_files(nothing)


def test_an_invalid_file_fails_alone_unless_it_is_the_only_one(write_coco):
    good, bad = write_coco(), write_coco(name="bad.json")
    bad.write_text("[]")
    cocos, failures = entries.read_all([bad, good], good.parent)
    assert [coco.path for coco in cocos] == [good]
    assert list(failures) == ["bad.json"]
    with pytest.raises(InputError, match="detection results"):
        entries.read_all([bad], good.parent)
