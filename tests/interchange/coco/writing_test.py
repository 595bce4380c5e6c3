"""Tests of the export of COCO files, with pycocotools as reader."""

import collections
import contextlib
import dataclasses
import io
import json
import tracemalloc

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cellclass_tf.errors import InputError
from cellclass_tf.interchange.coco import drafts
from cellclass_tf.interchange.coco.writing import export_coco
from cellclass_tf.storage import png


def _contents(output):
    paths = sorted((output / "annotations").iterdir())
    return {path.stem: json.loads(path.read_text()) for path in paths}


def _coco(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


@pytest.mark.parametrize("segmentation", ["rle", "polygons"])
def test_pycocotools_reads_the_cells_of_the_study(make_study, tmp_path, segmentation):
    study, output = make_study(), tmp_path / "coco"
    outcome = export_coco(study, output, segmentation=segmentation)
    assert not outcome.failures
    rows = {row.image: row for row in study.rows()}
    seen = []
    for path in sorted((output / "annotations").iterdir()):
        coco = _coco(path)
        for image in coco.imgs.values():
            row = rows[image["file_name"]]
            cells = study.read_cells(row)
            assert path.stem == f"cells_{row.split}"
            copy = output / path.stem / image["file_name"]
            assert copy.read_bytes() == study.image_path(row).read_bytes()
            annotations = coco.imgToAnns[image["id"]]
            assert len(annotations) == len(cells)
            for annotation in annotations:
                index = annotation["cell"] - 1
                mask = coco.annToMask(annotation) > 0
                np.testing.assert_array_equal(mask, cells.labels == index + 1)
                top, left, bottom, right = cells.boxes_yxyx[index]
                assert annotation["bbox"] == [left, top, right - left, bottom - top]
                assert annotation["area"] == cells.areas_px[index]
                category = coco.cats[annotation["category_id"]]["name"]
                assert category == cells.cell_types[index]
            seen.append(row.image)
    assert sorted(seen) == sorted(rows)


def test_file_is_complete(make_study, tmp_path):
    export_coco(make_study(fields=3), tmp_path / "coco")
    contents = _contents(tmp_path / "coco")
    mixed = contents["cells_mixed"]
    assert set(mixed) == {"info", "licenses", "categories", "images", "annotations"}
    assert mixed["images"] == [
        {
            "id": 1,
            "file_name": "mixed/field_3.png",
            "height": 40,
            "width": 48,
            "license": 1,
            "culture": "mixed",
            "group": "dish 3",
            "split": "mixed",
            "pixel_size_um": 0.5,
        }
    ]
    assert mixed["categories"] == [
        {"id": 1, "name": "HEK", "supercategory": "cell"},
        {"id": 2, "name": "N2a", "supercategory": "cell"},
        {"id": 3, "name": "unknown", "supercategory": "cell"},
    ]
    assert len(contents["cells_train"]["categories"]) == 2
    for content in contents.values():
        for section in ("images", "annotations"):
            ids = [record["id"] for record in content[section]]
            assert ids == list(range(1, len(ids) + 1))
        kinds = collections.Counter(type(a["area"]) for a in content["annotations"])
        assert set(kinds) == {int}


def test_splits_are_recorded_and_kept(make_study, tmp_path):
    study = make_study(fields=6)
    export_coco(study, tmp_path / "one")
    splits = {row.image: row.split for row in study.rows()}
    assert set(splits.values()) >= {"train", "validation", "mixed"}
    export_coco(study.root, tmp_path / "two")
    assert _contents(tmp_path / "one") == _contents(tmp_path / "two")
    assert {row.image: row.split for row in study.rows()} == splits


def test_only_accepted_fields_with_cells_are_written(make_study, tmp_path):
    study = make_study(fields=4)
    first, second, *_ = study.rows()
    study.update([dataclasses.replace(first, verdict="rejected")])
    study.cells_path(second).unlink()
    outcome = export_coco(study, tmp_path / "coco")
    names = {row.image for row in study.rows()} - {first.image, second.image}
    assert set(outcome.done) == names


def test_broken_field_is_left_out_alone(make_study, tmp_path):
    study = make_study(fields=6)
    broken, other, cut, *_ = study.rows()
    study.cells_path(broken).write_bytes(b"II*\0 no tiff")
    png.write_png(study.image_path(other), np.zeros((40, 40, 3), np.uint8))
    study.image_path(cut).write_bytes(study.image_path(cut).read_bytes()[:300])
    outcome = export_coco(study, tmp_path / "coco")
    assert set(outcome.failures) == {broken.image, other.image, cut.image}
    assert (
        "expected the image's size (40, 40), got (40, 48)"
        in (outcome.failures[other.image])
    )
    contents = _contents(tmp_path / "coco").values()
    names = [image["file_name"] for c in contents for image in c["images"]]
    assert sorted(names) == sorted(outcome.done)
    for content in contents:
        ids = {image["id"] for image in content["images"]}
        assert {a["image_id"] for a in content["annotations"]} == ids


def test_a_file_of_an_empty_split_is_removed(make_study, tmp_path):
    study, output = make_study(), tmp_path / "coco"
    export_coco(study, output)
    assert "cells_mixed" in _contents(output)
    mixed = next(row for row in study.rows() if row.cell_type == "mixed")
    study.update([dataclasses.replace(mixed, verdict="rejected")])
    export_coco(study, output)
    assert "cells_mixed" not in _contents(output)


def test_a_killed_export_keeps_the_old_file(make_study, tmp_path, monkeypatch):
    study, output = make_study(), tmp_path / "coco"
    export_coco(study, output)
    before = _contents(output)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(drafts, "_write_list", stop)
    with pytest.raises(KeyboardInterrupt):
        export_coco(study, output)
    assert _contents(output) == before


def test_a_study_that_cannot_be_exported_is_an_error(make_study, tmp_path):
    study = make_study(fields=2)
    with pytest.raises(InputError, match="known are rle, polygons"):
        export_coco(study, tmp_path / "coco", segmentation="masks")
    one, two, _ = study.rows()
    study.update(
        dataclasses.replace(row, group="dish", split=split)
        for row, split in ((one, "train"), (two, "test"))
    )
    with pytest.raises(InputError, match=r"images\.csv: Group 'dish'.*leak"):
        export_coco(study, tmp_path / "coco")
    for row in study.rows():
        study.cells_path(row).unlink()
    with pytest.raises(InputError, match="3 accepted images, none with cells"):
        export_coco(study, tmp_path / "coco")
    assert not (tmp_path / "coco").exists()


def test_cells_as_results_of_themselves_score_1(make_study, tmp_path):
    export_coco(make_study(), tmp_path / "coco", segmentation="polygons")
    path = tmp_path / "coco" / "annotations" / "cells_mixed.json"
    truth = _coco(path)
    results = [
        {k: a[k] for k in ("image_id", "category_id", "segmentation")} | {"score": 1}
        for a in json.loads(path.read_text())["annotations"]
    ]
    for result in results:
        result["segmentation"] = truth.annToRLE(result)
    with contextlib.redirect_stdout(io.StringIO()):
        scores = COCOeval(truth, truth.loadRes(results), "segm")
        scores.params.maxDets = [1, 10, 1000]
        scores.evaluate()
        scores.accumulate()
    # AP for cells of all sizes, and up to 1,000 detections.
    precision = scores.eval["precision"][:, :, :, 0, -1]
    assert (precision > -1).any()
    assert precision[precision > -1].min() == pytest.approx(1)


def test_memory_does_not_grow_with_the_number_of_fields(make_study, tmp_path):
    def peak(fields):
        study = make_study(f"study{fields}", fields=fields, shape=(160, 160))
        tracemalloc.start()
        export_coco(study, tmp_path / f"coco{fields}")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)
    few, many = peak(10), peak(40)
    # A field's arrays and annotations have some 500 kB, 30 fields more would have 30
    # times that; rows of the manifest grow by a few kB each.
    assert many < few + 300_000
