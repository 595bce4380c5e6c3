"""Tests of COCO results, with pycocotools as reader."""

import contextlib
import dataclasses
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import cellclass_tf as cc
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.run_record import PredictedImage, RunRecord
from cellclass_tf.interchange.coco import results
from tests.predictions import write_predictions


def write(folder, fields, type_names):
    """Writes the results of {name: cells}."""
    of = [results.ResultField(name, cells) for name, cells in fields.items()]
    results.write_results(folder, iter(of), list(fields), type_names)


def test_pycocotools_reads_the_same_masks(tmp_path, cells, odd_cells):
    fields = {"mixed/a": cells, "mixed/b": odd_cells}
    write(tmp_path, fields, cells.type_names)
    truth = COCO(str(tmp_path / results.IMAGES_FILE))
    found = truth.loadRes(str(tmp_path / results.RESULTS_FILE))
    assert [image["file_name"] for image in truth.dataset["images"]] == [
        "mixed/a.png",
        "mixed/b.png",
    ]
    for image_id, field in zip(sorted(truth.imgs), fields.values(), strict=True):
        records = found.loadAnns(found.getAnnIds([image_id]))
        assert len(records) == len(field)
        for number, record in enumerate(records, start=1):
            np.testing.assert_array_equal(
                found.annToMask(record), field.labels == number
            )
            wanted = field.cell_types[number - 1]
            assert truth.loadCats([record["category_id"]])[0]["name"] == wanted
    assert not (tmp_path / results.TRUTH_FILE).exists()


def predicted(true, rng):
    """Returns cells of which some differ from the true ones, or have another type."""
    labels = true.labels.copy()
    labels[labels == 1] = 0
    labels[:10] = np.roll(labels[:10], 1, axis=1)
    found = Cells.from_labels(labels, ("N2a", "neuron", "HEK"))
    own = np.array([0, 3, 1])[true.type_ids[:1]]
    ids = np.where(rng.random(len(found)) < 0.7, own, rng.integers(0, 4, len(found)))
    chances = rng.dirichlet(np.ones(3), len(found)).astype(np.float32)
    chances[ids == 0] = 0
    return dataclasses.replace(
        found,
        type_ids=ids.astype(np.int32),
        scores=rng.uniform(0.5, 1, len(found)).astype(np.float32),
        probabilities=chances,
    )


@pytest.fixture
def exported(make_study, tmp_path):
    """Exports a study of four fields, and predictions of three of them with other types."""
    study, rng = make_study(fields=4), np.random.default_rng(0)
    rows = [
        row for row in study.rows() if row.name in ("field_0", "field_1", "field_3")
    ]
    fields = {row.stem: predicted(study.read_cells(row), rng) for row in rows}
    run = write_predictions(tmp_path / "run", fields)
    images = tuple(PredictedImage(row.stem, row.image) for row in rows)
    RunRecord(study=str(study.root), images=images).write(run / "run.json")
    assert not cc.export_coco(study, tmp_path / "study_coco").failures
    assert not cc.export_cells(run, tmp_path / "coco", format="coco").failures
    return study, run, tmp_path


def test_pycocotools_gives_the_ap_of_evaluate(exported):
    study, run, folder = exported
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "coco/truth.json"))
        found = truth.loadRes(str(folder / "coco/results.json"))
        scorer = COCOeval(truth, found, "segm")
        scorer.params.maxDets = [1, 10, 10_000]
        scorer.evaluate()
        scorer.accumulate()
    precision = scorer.eval["precision"][..., 0, -1]
    wanted = cc.evaluate(run, study)
    assert 0 < wanted["AP"] < 1
    assert precision[precision > -1].mean() == pytest.approx(wanted["AP"], abs=1e-6)
    at_50 = precision[0][precision[0] > -1].mean()
    assert at_50 == pytest.approx(wanted["AP50"], abs=1e-6)


def test_results_do_not_fit_the_files_of_a_study_or_of_other_runs(exported, cells):
    _, _, folder = exported
    write(folder / "other", {"mixed/field_3": cells}, cells.type_names)
    others = [*(folder / "study_coco/annotations").iterdir()]
    assert others
    for path in [*others, folder / "other" / results.IMAGES_FILE]:
        with pytest.raises(AssertionError, match="do not correspond"):
            COCO(str(path)).loadRes(str(folder / "coco/results.json"))


def test_truth_that_cannot_be_compared_is_left_out(exported, caplog):
    study, run, folder = exported
    rows = {row.name: row for row in study.rows()}
    small, untyped = rows["field_0"], rows["field_1"]
    for row, shape, kind in ((small, (5, 5), "HEK"), (untyped, (40, 48), "unknown")):
        cells = Cells.from_labels(np.ones(shape, np.int32), study.cell_types, kind)
        cells.write(study.cells_path(row), types_csv=True)
    cc.export_cells(run, folder / "coco", format="coco")
    images, truth = (
        json.loads((folder / "coco" / name).read_text())["images"]
        for name in (results.IMAGES_FILE, results.TRUTH_FILE)
    )
    assert len(images) == 3
    left = {image["file_name"] for image in truth}
    assert left == {i["file_name"] for i in images} - {small.image, untyped.image}
    assert "truth.json has 1 of the 3 images" in caplog.text
    for row in study.rows():
        study.cells_path(row).unlink()
    cc.export_cells(run, folder / "coco", format="coco")
    assert not (folder / "coco" / results.TRUTH_FILE).exists()
