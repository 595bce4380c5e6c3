"""Tests of cellclass_tf.workflows.predict."""

import csv
import dataclasses
import json
import shutil

import jsonschema
import numpy as np
import pytest

import cellclass_tf as cc
from cellclass_tf.analysis import report
from cellclass_tf.core.model_metadata import METADATA_FILE
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.study import ImageRow
from cellclass_tf.storage import digests, ledger, png
from tests.fake_model import save_model
from tests.metadata import model_metadata

PAGE = "report.html"
RESULTS = {"cells.csv", "cells.parquet", "counts.csv", "run.json", PAGE}


@pytest.fixture(scope="module", autouse=True)
def short_report():
    """Replaces the report, whose charts take seconds, by a list of the files."""

    def write(out):
        (out / PAGE).write_text(" ".join(path.name for path in out.iterdir()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "report", write)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Makes a model that finds one N2a cell of 24 px in every tile of 64 px."""
    return save_model(tmp_path_factory.mktemp("model"), score=0.9)


def image(seed):
    """Returns a (64, 64, 3) uint8 merged image: a cell with a nucleus, and noise."""
    pixels = np.random.default_rng(seed).integers(0, 9, (64, 64, 3), np.uint8)
    pixels[..., 0] = 0
    pixels[20:44, 20:44, 1] += 100
    pixels[26:38, 26:38, 2] += 200
    return pixels


def make_study(root):
    study = cc.Study.create(root, pixel_size_um=0.5)
    rows = [
        ImageRow("HEK/a.png", "HEK", group="dish1", raw_file="a.czi", raw_sha256="5a"),
        ImageRow("N2a/b.png", "N2a", group="dish1"),
    ]
    for seed, row in enumerate(rows):
        png.write_png(study.image_path(row), image(seed))
    study.update(rows)
    return study


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study")


@pytest.fixture(scope="module")
def predicted(model, tmp_path_factory):
    """Makes a study and predictions whose cells are all uncertain (probability 0.75)."""
    folder = tmp_path_factory.mktemp("predicted")
    study = make_study(folder / "study")
    outcome = cc.predict(model, study.root, folder / "out", min_probability=0.8)
    assert list(outcome.done) == ["HEK/a", "N2a/b"]
    assert not outcome.failures
    return study, folder / "out"


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_predict_writes_labels_and_overlays_per_field_and_common_tables(predicted):
    _, out = predicted
    shown = {path.name for path in out.iterdir()}
    assert shown >= RESULTS | {"labels", "overlays"}
    # The report is written last, from the other files.
    assert set((out / PAGE).read_text().split()) >= RESULTS - {PAGE}
    predictions = Predictions(out)
    assert predictions.stems == ("HEK/a", "N2a/b")
    cells = read_csv(out / "cells.csv")
    for stem, row in zip(predictions.stems, cells, strict=True):
        found = predictions.read(stem)
        (middle,) = np.unique(found.labels[24:40, 24:40])
        assert middle == 1
        assert found.cell_types == ("N2a",)
        assert png.read_png(out / "overlays" / f"{stem}.png").ndim == 3
        assert (row["image"], row["cell_type"], row["call"]) == (
            *(stem, "N2a"),
            "uncertain",
        )
        # A pixel has 0.25 µm².
        assert float(row["area_um2"]) == (found.labels > 0).sum() / 4
    assert [
        (row["image"], row["group"], row["n_N2a"], row["uncertain"])
        for row in read_csv(out / "counts.csv")
    ] == [("HEK/a", "dish1", "1", "1"), ("N2a/b", "dish1", "1", "1")]


def test_run_json_records_images_model_and_settings(predicted, model):
    study, out = predicted
    content = json.loads((out / "run.json").read_text(encoding="utf-8"))
    jsonschema.validate(content, cc.json_schema("run.json"))
    record = Predictions(out).record
    found, second = record.images
    assert (found.stem, found.image) == ("HEK/a", "HEK/a.png")
    assert (second.stem, second.image) == ("N2a/b", "N2a/b.png")
    assert found.sha256 == digests.sha256_of_file(study.root / "images/HEK/a.png")
    assert found.labels_sha256 == digests.sha256_of_file(out / "labels/HEK/a.tif")
    assert (found.raw_file, found.raw_sha256) == ("a.czi", "5a")
    assert found.pixel_size_um == 0.5
    assert record.settings["min_probability"] == 0.8
    assert record.settings["score_threshold"] == model_metadata().score_threshold
    assert (record.folder, record.study) == (str(out), str(study.root))
    assert record.model == str(model)
    assert not record.rejected
    assert record.model_sha256 == digests.sha256_of_tree(model)
    assert record.model_metadata == model_metadata()


def test_a_second_call_repeats_only_what_has_changed(model, study, tmp_path):
    out = tmp_path / "out"
    cc.predict(model, study.root, out)
    before = read_csv(out / "cells.csv")
    brighter = image(1)
    brighter[..., 1] += 50
    png.write_png(study.root / "images" / "N2a" / "b.png", brighter)
    outcome = cc.predict(model, study.root, out)
    assert (list(outcome.skipped), list(outcome.done)) == (["HEK/a"], ["N2a/b"])
    after = read_csv(out / "cells.csv")
    assert after[0] == before[0]
    rise = [float(rows[1]["mean_cytoplasm_grey"]) for rows in (before, after)]
    assert rise[1] - rise[0] == pytest.approx(50, abs=0.01)
    assert not cc.predict(model, study.root, out).done
    assert read_csv(out / "cells.csv") == after
    # Another threshold changes calls and overlays; another model changes everything.
    assert len(cc.predict(model, study.root, out, min_probability=0.8).done) == 2
    other = shutil.copytree(model, tmp_path / "other")
    model_metadata(train_steps=9).write(other / METADATA_FILE)
    assert len(cc.predict(other, study.root, out, min_probability=0.8).done) == 2


def test_cells_have_the_condition_of_their_dish_and_raw_counts(model, study, tmp_path):
    rows = [
        dataclasses.replace(
            row, contrast="group", nuclei_limits="100-2650", cytoplasm_limits="0-510"
        )
        for row in study.rows()
    ]
    study.update(rows)
    out = tmp_path / "out"
    cc.predict(model, study.root, out)
    before = read_csv(out / "cells.csv")
    assert {row["condition"] for row in before} == {""}
    # 100 of 255 grey levels that are two counts each, above the background's 4.
    assert float(before[0]["mean_cytoplasm_counts"]) == pytest.approx(200, abs=4)
    (study.root / "conditions.csv").write_text("group,condition\ndish1,drug\n")
    again = cc.predict(model, study.root, out)
    assert len(again.skipped) == 2
    after = read_csv(out / "cells.csv")
    assert after == [row | {"condition": "drug"} for row in before]
    # If the table cannot be read, only the column stays empty.
    (study.root / "conditions.csv").write_text("dish,drug\n1,2\n")
    assert cc.predict(model, study.root, out).failures == {}
    assert read_csv(out / "cells.csv") == before


def test_scores_of_other_cells_are_removed(model, study, tmp_path):
    out = tmp_path / "out"
    cc.predict(model, study.root, out)
    files = [out / "evaluation.json", out / "evaluation_fields.csv"]
    for path in files:
        ledger.write_text(out, path, "scores")
    # The cells are still the same, even if the conditions of their dishes are new.
    (study.root / "conditions.csv").write_text("group,condition\ndish1,drug\n")
    cc.predict(model, study.root, out)
    assert all(path.exists() for path in files)
    cc.predict(model, study.root, out, min_probability=0.8)
    assert not any(path.exists() for path in files)


def test_rejected_images_are_recorded_but_not_predicted(model, study, tmp_path):
    first, second = study.rows()
    study.update([dataclasses.replace(first, verdict="rejected", reason="blurred")])
    outcome = cc.predict(model, study.root, tmp_path / "out")
    assert list(outcome.done) == ["N2a/b"]
    record = Predictions(tmp_path / "out").record
    assert [(r.image, r.reason) for r in record.rejected] == [("HEK/a.png", "blurred")]
    assert [i.stem for i in record.images] == ["N2a/b"]
    assert not (tmp_path / "out" / "labels" / "HEK").exists()
    study.update([dataclasses.replace(second, verdict="rejected")])
    with pytest.raises(cc.InputError, match="all of them are rejected"):
        cc.predict(model, study.root, tmp_path / "out")


def test_a_broken_image_fails_alone_and_old_tables_are_removed_if_all_fail(
    model, study, tmp_path
):
    out = tmp_path / "out"
    cc.predict(model, study.root, out)
    first, second = (study.image_path(row) for row in study.rows())
    first.write_bytes(first.read_bytes()[:500])
    outcome = cc.predict(model, study.root, out)
    assert list(outcome.failures) == ["HEK/a"]
    assert list(outcome.skipped) == ["N2a/b"]
    assert "a.png: the PNG cannot be decoded" in outcome.failures["HEK/a"]
    assert Predictions(out).stems == ("N2a/b",)
    assert [image.stem for image in Predictions(out).record.images] == ["N2a/b"]
    assert {path.name for path in out.iterdir()} >= RESULTS
    second.write_text("no picture")
    assert len(cc.predict(model, study.root, out).failures) == 2
    assert not RESULTS & {path.name for path in out.iterdir()}


def test_images_outside_a_study_are_converted_first_and_have_no_type(model, tmp_path):
    for seed in range(2):
        png.write_png(tmp_path / "in" / f"{seed}.png", image(seed))
    (tmp_path / "in" / "broken.png").write_text("no picture")
    outcome = cc.predict(model, tmp_path / "in", tmp_path / "out", pixel_size_um=0.25)
    assert list(outcome.done) == ["0", "1"]
    assert [path.rpartition("/")[2] for path in outcome.failures] == ["broken.png"]
    record = Predictions(tmp_path / "out").record
    assert record.study == str(tmp_path / "out" / "converted")
    assert [(i.stem, i.image, i.pixel_size_um) for i in record.images] == [
        ("0", "mixed/0.png", 0.25),
        ("1", "mixed/1.png", 0.25),
    ]
    assert (tmp_path / "out" / "labels" / "0.tif").exists()
    with pytest.raises(cc.InputError, match="--cell_type=HEK chooses images of a st"):
        cc.predict(model, tmp_path / "in", tmp_path / "out", cell_type="HEK")


def test_images_in_memory_return_cells_and_write_nothing(model, tmp_path):
    one = cc.predict(model, image(0))
    assert isinstance(one, cc.Cells)
    assert set(one.cell_types) == {"N2a"}
    two = cc.predict(model, [image(0), image(1)])
    assert [type(cells) for cells in two] == [cc.Cells] * 2
    assert np.array_equal(two[0].labels, one.labels)
    assert cc.predict(model, []) == []
    # A micrograph is merged first, and knows its pixel size.
    raw = image(0).transpose(2, 0, 1)[[2, 1]].astype(np.uint16)
    micrograph = cc.Micrograph(raw, ("DAPI", "GFP"), pixel_size_um=0.5)
    merged = cc.merge_channels(micrograph)
    expected = cc.predict(model, merged, pixel_size_um=0.5)
    found = cc.predict(model, micrograph)
    assert np.array_equal(found.labels, expected.labels)
    for options in ({"output": tmp_path}, {"outlines": "watershed"}):
        with pytest.raises(cc.InputError, match="For images in memory"):
            cc.predict(model, image(0), **options)
    with pytest.raises(cc.InputError, match="Expected `output`"):
        cc.predict(model, tmp_path)
    with pytest.raises(cc.InputError, match="uint8"):
        cc.predict(model, image(0).astype(float))


def test_an_assumed_pixel_size_is_noted(model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    model = tmp_path / "model"
    model_metadata(pixel_size_um=0.325).write(model / METADATA_FILE)
    png.write_png(tmp_path / "in" / "a.png", image(0))
    outcome = cc.predict(model, tmp_path / "in", tmp_path / "out")
    (note,) = [note for note in outcome.notes if "pixel size" in note]
    assert "1 of 1 fields is not known" in note
    assert "0.325 µm, was assumed" in note
    outcome = cc.predict(model, tmp_path / "in", tmp_path / "out", pixel_size_um=0.3)
    assert not any("pixel size" in note for note in outcome.notes)


def test_pixel_sizes_that_the_model_cannot_use_are_noted(model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    model_metadata(pixel_size_um=None).write(tmp_path / "model" / METADATA_FILE)
    png.write_png(tmp_path / "in" / "a.png", image(0))
    given = tmp_path / "model", tmp_path / "in", tmp_path / "out"
    assert not any("pixel size" in note for note in cc.predict(*given).notes)
    notes = cc.predict(*given, pixel_size_um=0.3).notes
    assert "1 of 1 fields is not used" in " ".join(notes)
