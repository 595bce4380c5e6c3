"""Tests of the import of COCO files."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.interchange.coco.importing import import_coco
from cellclass_tf.interchange.coco.writing import export_coco
from cellclass_tf.splits import assignment
from cellclass_tf.storage import csv_json, digests, png

SQUARE = [[4, 4, 9, 4, 9, 9, 4, 9]]


def _cells(study, image):
    return study.read_cells(next(row for row in study.rows() if row.image == image))


def _annotations(*parts):
    common = {"image_id": 1, "category_id": 5, "segmentation": SQUARE}
    return [{"id": n} | common | part for n, part in enumerate(parts)]


@pytest.fixture
def study(tmp_path):
    """Makes a study of the images that `write_coco` names."""
    study = Study.create(tmp_path / "study", ("HEK", "N2a"))
    rows = [ImageRow(f"HEK/image{n}.png", "HEK") for n in (1, 2, 3)]
    for row in rows:
        png.write_png(study.image_path(row), np.zeros((20, 30, 3), np.uint8))
    study.update(rows)
    return study


@pytest.mark.parametrize("segmentation", ["rle", "polygons"])
def test_export_and_import_are_inverse(make_study, tmp_path, segmentation):
    study = make_study(fields=6)
    export_coco(study, tmp_path / "one", segmentation=segmentation)
    outcome = import_coco(tmp_path / "new", tmp_path / "one")
    assert not outcome.failures
    new = Study.open(tmp_path / "new")
    assert new.cell_types == study.cell_types
    rows = {row.image: row for row in new.rows()}
    assert sorted(rows) == [row.image for row in study.rows()]
    for row in study.rows():
        again = rows[row.image]
        assert (again.group, again.split) == (row.group, row.split)
        assert again.pixel_size_um == 0.5
        np.testing.assert_array_equal(new.read_image(again), study.read_image(row))
        before, after = study.read_cells(row), new.read_cells(again)
        np.testing.assert_array_equal(after.labels, before.labels)
        assert after.cell_types == before.cell_types
    export_coco(new, tmp_path / "two", segmentation=segmentation)
    for path in sorted((tmp_path / "one" / "annotations").iterdir()):
        one = json.loads(path.read_text())
        two = json.loads((tmp_path / "two" / "annotations" / path.name).read_text())
        assert {**two, "info": one["info"]} == one


def test_export_of_a_study_changes_nothing_in_it(make_study, tmp_path):
    study = make_study()
    before = {row.image: study.read_cells(row) for row in study.rows()}
    export_coco(study, tmp_path / "coco", segmentation="polygons")
    outcome = import_coco(study, tmp_path / "coco")
    for image, cells in before.items():
        kept = {"added": 0, "redrawn": 0, "removed": 0, "kept": len(cells)}
        assert outcome.done[image]["changes"] == kept
        assert outcome.done[image]["notes"] == []
        assert _cells(study, image).cell_types == cells.cell_types
    assert set(import_coco(study, tmp_path / "coco").skipped) == set(before)


def test_cells_are_imported_into_images_of_the_study(study, write_coco):
    path = write_coco()
    outcome = import_coco(study.root, path)
    assert sorted(outcome.done) == ["HEK/image1.png", "HEK/image2.png"]
    expected = np.zeros((20, 30), int)
    expected[4:9, 4:9] = 1
    np.testing.assert_array_equal(_cells(study, "HEK/image1.png").labels, expected)
    rows = {row.image: row for row in study.rows()}
    row = rows["HEK/image1.png"]
    assert (row.annotator, row.corrected, row.cells) == ("import", True, 1)
    assert row.annotator_sha256 == digests.sha256_of_file(path)
    # The study's image is not replaced, and fields that the file does not list are not changed.
    assert not study.read_image(row).any()
    assert not study.cells_path(rows["HEK/image3.png"]).exists()


def test_image_that_the_study_lacks_is_added(study, write_coco):
    outcome = import_coco(study, write_coco(images=4))
    assert len(outcome.done) == 4
    assert len(study.rows()) == 4
    assert len(_cells(study, "HEK/image4.png")) == 1


def test_a_new_study_has_only_the_used_categories(tmp_path, write_coco):
    import_coco(tmp_path / "new", write_coco())
    assert Study.open(tmp_path / "new").cell_types == ("HEK",)


def test_smaller_cell_gets_the_pixel_and_it_is_noted(study, write_coco):
    small = {"segmentation": [[8, 8, 10, 8, 10, 10, 8, 10]]}
    nothing_left = {"segmentation": [[8, 8, 10, 8, 10, 10, 8, 10]], "area": 4}
    path = write_coco(annotations=_annotations({"area": 25}, small, nothing_left))
    outcome = import_coco(study, path)
    labels = _cells(study, "HEK/image1.png").labels
    # 25 px minus the one that both cover; of two equal cells the first one is kept.
    assert np.bincount(labels.ravel()).tolist() == [600 - 28, 24, 4]
    assert outcome.done["HEK/image1.png"]["notes"] == [
        "5 px of several cells were given to the smaller cell",
        "1 cells are covered by smaller ones and were left out",
    ]


def test_types_of_a_mixed_field_are_imported_per_cell(study, write_coco, tmp_path):
    row = dataclasses.replace(study.rows()[0], image="mixed/m.png", cell_type="mixed")
    png.write_png(study.image_path(row), np.zeros((20, 30, 3), np.uint8))
    study.update([row])
    path = write_coco(
        images=1,
        categories=[{"id": n, "name": t} for n, t in ((5, "unknown"), (6, "N2a"))],
        annotations=_annotations(
            {}, {"category_id": 6, "segmentation": [[20, 0, 25, 0, 25, 5, 20, 5]]}
        ),
    )
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "m.jpg"
    path.write_text(json.dumps(content))
    import_coco(study, path)
    assert _cells(study, "mixed/m.png").cell_types == ("unknown", "N2a")


def test_other_type_in_a_pure_culture_fails(study, write_coco, change):
    path = change(write_coco(), "images", 0, file_name="HEK/image1.png")
    change(path, "categories", 1, name="N2a")
    outcome = import_coco(study, path)
    message = "is a pure culture of HEK, but 1 of its 1 cells are N2a"
    assert message in outcome.failures["HEK/image1.png"]


def test_unknown_cell_in_a_pure_culture_stays_unknown(study, write_coco):
    names = [{"id": 5, "name": "HEK"}, {"id": 6, "name": "unknown"}]
    other = {"category_id": 6, "segmentation": [[20, 0, 25, 0, 25, 5, 20, 5]]}
    path = write_coco(categories=names, annotations=_annotations({}, other))
    import_coco(study, path)
    assert _cells(study, "HEK/image1.png").cell_types == ("HEK", "unknown")


def test_image_without_annotations_has_no_cells(study, write_coco):
    outcome = import_coco(study, write_coco(annotations=[]))
    assert outcome.done["HEK/image1.png"]["notes"] == ["there are no annotations"]
    assert len(_cells(study, "HEK/image1.png")) == 0


def test_an_unfinished_annotation_does_not_remove_cells(study, write_coco):
    import_coco(study, write_coco())
    outcome = import_coco(study, write_coco(annotations=[]))
    assert (
        "has 1 cells in the study, which are kept" in outcome.failures["HEK/image1.png"]
    )
    assert len(_cells(study, "HEK/image1.png")) == 1


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("images", {"height": 21}, "21 x 30"),
        ("images", {"file_name": "../image1.png"}, "expected a path below"),
        ("images", {"file_name": "/image1.png"}, "expected a path below"),
        ("annotations", {"segmentation": []}, "1 of 1 annotations have no outline"),
        ("annotations", {"segmentation": [[1, 1, 50, 1, 3, 3]]}, "out of the image"),
        ("annotations", {"segmentation": [[1, 1, 5, 5]]}, "2 points"),
        (
            "annotations",
            {"segmentation": [[1, 1, 5, float("nan"), 4, 4]]},
            "not finite",
        ),
        (
            "annotations",
            {"segmentation": {"size": [30, 20], "counts": [600]}},
            "run lengths of the size",
        ),
        ("annotations", {"category_id": 77}, "unknown category 77"),
    ],
)
def test_bad_image_fails_alone(
    study, tmp_path, write_coco, change, section, values, message, new
):
    path = change(write_coco(), section, 0, **values)
    outcome = import_coco(tmp_path / "new" if new else study, path)
    assert list(outcome.done) == ["HEK/image2.png"]
    (failure,) = outcome.failures.values()
    assert message in failure
    assert "\n" not in failure
    if section == "annotations":
        assert "image1.png" in failure
        assert "annotation" in failure


def test_missing_image_fails_alone(tmp_path, write_coco):
    path = write_coco()
    (path.parent / "image1.png").unlink()
    outcome = import_coco(tmp_path / "new", path)
    assert list(outcome.done) == ["HEK/image2.png"]
    assert "no such file" in outcome.failures["image1.png"]
    assert len(Study.open(tmp_path / "new").rows()) == 1


def test_no_study_is_made_without_a_valid_image(tmp_path, write_coco):
    annotations = _annotations({"segmentation": []})
    path = write_coco(images=1, annotations=annotations)
    outcome = import_coco(tmp_path / "new", path)
    assert "boxes only: 1 of 1" in outcome.failures["image1.png"]
    assert not (tmp_path / "new" / "study.yaml").exists()
    assert import_coco(tmp_path / "new", write_coco()).done


def test_broken_file_of_several_fails_alone(study, write_coco):
    path = write_coco()
    (path.parent / "cut.json").write_text(path.read_text()[:100])
    outcome = import_coco(study, path.parent)
    assert len(outcome.done) == 2
    assert "is truncated" in outcome.failures["cut.json"]
    with pytest.raises(InputError, match="is truncated"):
        import_coco(study, path.parent / "cut.json")


def test_several_files_that_name_one_image_fail_with_the_second(study, write_coco):
    write_coco(images=1, name="a.json")
    path = write_coco(images=2, name="b.json")
    outcome = import_coco(study, path.parent)
    assert sorted(outcome.done) == ["HEK/image1.png", "HEK/image2.png"]
    assert list(outcome.failures) == ["b.json: image1.png"]


def test_embryos_of_roboflow_become_a_study(assets, tmp_path):
    source = assets / "coco" / "embryos"
    content = json.loads((source / "_annotations.coco.json").read_text())
    # Two are enough: each has 2.7 million pixels.
    content["images"] = content["images"][:2]
    ids = [image["id"] for image in content["images"]]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    csv_json.write_json(tmp_path / "some" / "_annotations.coco.json", content)
    for image in content["images"]:
        shutil.copy(source / image["file_name"], tmp_path / "some")
    outcome = import_coco(tmp_path / "new", tmp_path / "some", group=r"^\dd\d+")
    assert not outcome.failures
    study = Study.open(tmp_path / "new")
    assert study.cell_types == ("correct stage", "incorrect stage")
    rows = study.rows()
    assert {row.group for row in rows} == {"5d34", "6d40"}
    cells = [study.read_cells(row) for row in rows]
    assert sum(map(len, cells)) == len(content["annotations"]) == 55
    assert all((c.type_ids > 0).all() for c in cells)
    image = study.read_image(rows[0])
    assert image[..., 1].any()
    assert not image[..., [0, 2]].any()


def test_boxes_of_roboflow_are_rejected(assets, tmp_path):
    outcome = import_coco(tmp_path / "new", assets / "coco" / "rbc_wbc_boxes_only")
    assert not outcome.done
    assert all("boxes only" in failure for failure in outcome.failures.values())


def test_masks_of_cvat_are_cells_on_request(write_coco, change, tmp_path):
    path = write_coco()
    for number in (0, 1):
        path = change(path, "annotations", number, iscrowd=1)
    failures = import_coco(tmp_path / "new", path).failures
    assert all("--crowds=cells" in reason for reason in failures.values())
    outcome = import_coco(tmp_path / "new", path, crowds="cells")
    assert len(outcome.done) == 2
    assert not outcome.failures
    study = Study.open(tmp_path / "new")
    assert [len(study.read_cells(row)) for row in study.rows()] == [1, 1]
    with pytest.raises(InputError, match="Unknown crowds 'all'"):
        import_coco(tmp_path / "new", path, crowds="all")


AUGMENTED = {
    "train": [("a", 0, lambda image: image), ("a", 0, lambda image: image[:, ::-1])],
    "valid": [("b", 1, lambda image: image)],
    "test": [("c", 2, lambda image: image), ("c", 2, np.rot90)],
}


def _write_roboflow(folder, draw_scene, content):
    """Writes folders as Roboflow does, with several copies of a photograph."""
    for split, copies in content.items():
        (folder / split).mkdir(parents=True)
        images = []
        for n, (name, seed, make) in enumerate(copies, start=1):
            file_name = f"{name}_png.rf.{n:08x}.png"
            image = np.ascontiguousarray(make(draw_scene(seed, 64)))
            png.write_png(folder / split / file_name, image)
            record = {"id": n, "file_name": file_name, "height": 64, "width": 64}
            images.append(record | {"extra": {"name": f"{name}.png"}})
        annotations = [
            {"id": n, "image_id": n, "category_id": 1, "segmentation": SQUARE}
            for n in range(1, len(images) + 1)
        ]
        csv_json.write_json(
            folder / split / "_annotations.coco.json",
            {
                "images": images,
                "annotations": annotations,
                "categories": [{"id": 1, "name": "HEK"}],
            },
        )


def test_copies_of_a_photograph_stay_together_in_the_folders_split(
    tmp_path, draw_scene
):
    _write_roboflow(tmp_path / "dataset", draw_scene, AUGMENTED)
    outcome = import_coco(tmp_path / "study", tmp_path / "dataset")
    assert not outcome.failures
    rows = Study.open(tmp_path / "study").rows()
    found = sorted((row.group, row.split) for row in rows)
    assert found == [
        ("a.png", "train"),
        ("a.png", "train"),
        ("b.png", "validation"),
        ("c.png", "test"),
        ("c.png", "test"),
    ]


def test_copies_of_a_photograph_in_two_folders_are_rejected(tmp_path, draw_scene):
    content = AUGMENTED | {"valid": [("a", 0, lambda image: image[::-1])]}
    _write_roboflow(tmp_path / "dataset", draw_scene, content)
    outcome = import_coco(tmp_path / "study", tmp_path / "dataset")
    (problem,) = outcome.failures.values()
    assert (
        "folder of the split validation, but other images of its group 'a.png' are in"
        in problem
    )
    rows = Study.open(tmp_path / "study").rows()
    assert {row.split for row in rows if row.group == "a.png"} == {"train"}
    assert len(rows) == 4


def test_copies_with_names_of_their_own_are_found_as_the_same_scene(
    tmp_path, draw_scene
):
    # Only the pixels show that they are copies of one photograph.
    content = {
        "train": [("a", 0, lambda image: image)],
        "valid": [("b", 0, lambda image: image[:, ::-1])],
    }
    _write_roboflow(tmp_path / "dataset", draw_scene, content)
    import_coco(tmp_path / "study", tmp_path / "dataset")
    with pytest.raises(
        InputError, match=r"mirrored or turned.*That would be a data leak"
    ):
        assignment.splits_of(Study.open(tmp_path / "study").rows(), None, "images.csv")


def test_every_file_is_accounted_for_and_linked_folders_are_read(tmp_path, draw_scene):
    _write_roboflow(tmp_path / "dataset", draw_scene, AUGMENTED)
    (tmp_path / "dataset" / "train").rename(tmp_path / "server")
    (tmp_path / "dataset" / "train").symlink_to(tmp_path / "server")
    png.write_png(tmp_path / "dataset" / "test" / "new.png", draw_scene(7, 64))
    (tmp_path / "dataset" / "test" / "other.json").write_text("{}")
    outcome = import_coco(tmp_path / "study", tmp_path / "dataset")
    assert len(Study.open(tmp_path / "study").rows()) == 5
    names = ", ".join(["_annotations.coco.json"] * 3)
    assert outcome.notes == (
        f"read: 3 COCO files ({names})",
        "left out: 1 JSON files in other folders (other.json)",
        "left out: 1 images that no COCO file names (new.png)",
    )
