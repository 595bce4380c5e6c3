"""Tests of cellclass_tf.cli.calls."""

import json
import sys
import types

import numpy as np
import pytest

import cellclass_tf
from cellclass_tf import batch
from cellclass_tf.analysis import metrics, units
from cellclass_tf.analysis.spot_check.sample import Sample
from cellclass_tf.cli import calls
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json, png
from tests.predictions import write_predictions
from tests.spot_check import checked_predictions, rows_of, write_table

TYPES = ("HEK", "N2a")


def cells_of(count):
    """Returns `count` cells of 3 x 3 pixels, whose types alternate."""
    labels = np.zeros((20, 24), np.int32)
    for i in range(count):
        labels[4:7, 2 + 5 * i : 5 + 5 * i] = i + 1
    return Cells.from_labels(labels, TYPES, [TYPES[i % 2] for i in range(count)])


@pytest.fixture
def study(tmp_path):
    """Makes the fields mixed/a and mixed/b with one and two cells."""
    study = Study.create(tmp_path / "study", TYPES)
    for count, name in enumerate("ab", start=1):
        row = ImageRow(f"mixed/{name}.png", "mixed", annotator="watershed")
        study.update([row])
        png.write_png(study.image_path(row), np.full((20, 24, 3), 40, np.uint8))
        cells_of(count).write(study.cells_path(row), types_csv=True)
    return study


@pytest.fixture
def run(tmp_path):
    """Makes predictions of mixed/a and mixed/b."""
    fields = {"mixed/a": cells_of(1), "mixed/b": cells_of(2)}
    return write_predictions(tmp_path / "run", fields)


def export(output, **given):
    return calls.export(output, **given)


def test_spot_check_labels_need_predictions_and_other_formats_a_study(study):
    for format, path, share, words in (
        ("spotcheck", None, None, "needs --predictions"),
        ("spotcheck", "p", None, "--study and --training_share together"),
        ("cellpose", "p", None, "needs --study, and no --predictions"),
        ("cellpose", None, 0.5, "and no --predictions or --training_share"),
    ):
        with pytest.raises(InputError, match=words):
            calls.import_(
                "x",
                study=study.root,
                format=format,
                predictions=path,
                training_share=share,
            )
    with pytest.raises(InputError, match="--allow_gaps is for"):
        calls.import_("x", format="spotcheck", predictions="p", allow_gaps=True)
    with pytest.raises(InputError, match="--overwrite is for --format=spotcheck"):
        calls.import_("x", study=study.root, format="masks", overwrite=True)


def test_labels_of_a_spot_check_go_into_a_study_if_a_share_is_given(tmp_path, capsys):
    folder = checked_predictions(tmp_path, fields=1)
    cellclass_tf.spotcheck(folder, cells=15)
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    source = write_table(tmp_path / "a.csv", rows_of(drawn))
    outcome = calls.import_(
        source,
        study=tmp_path / "study",
        format="spotcheck",
        predictions=folder,
        training_share=1.0,
    )
    assert list(outcome.done) == ["mixed/0.png"]
    write_table(source, rows_of(drawn, label=lambda call: "HEK"))
    with pytest.raises(InputError, match="--overwrite"):
        calls.import_(source, format="spotcheck", predictions=folder)
    calls.import_(source, format="spotcheck", predictions=folder, overwrite=True)
    told = capsys.readouterr().out
    assert "Ana: " in told
    assert f"{drawn.labelled_cells} of 20 cells have a type" in told


def test_import_prints_what_changed_in_each_field(study, tmp_path, capsys):
    source = tmp_path / "masks"
    cells_of(3).write(source / "mixed" / "a.tif")
    for number, rows in ((0, slice(0, 9)), (2, slice(8, 12))):
        mask = np.zeros((20, 24), np.uint8)
        mask[rows] = 255
        png.write_png(source / "mixed" / f"b_mask_out_{number}.png", mask)
    outcome = calls.import_(source, study=study.root, allow_gaps=True)
    assert sorted(outcome.done) == ["mixed/a.png", "mixed/b.png"]
    assert capsys.readouterr().out.splitlines() == [
        "  mixed/a.png: 2 added, 1 kept",
        "  mixed/b.png: 2 added, 2 removed",
        "    24 px of several masks were given to the smaller cell",
    ]
    # Without --allow_gaps a missing number is an error.
    png.write_png(source / "mixed" / "b_mask_out_5.png", mask)
    outcome = calls.import_(source, study=study.root, allow_gaps=False)
    assert "number 1 is missing" in str(outcome.failures)


def test_flags_of_another_format_are_refused(study, run):
    for format, options, reason in (
        ("coco", {"allow_gaps": True}, "--allow_gaps is for --format=masks"),
        ("masks", {"group": "d"}, "--group is for --format=coco"),
        ("cellpose", {"crowds": "cells"}, "--crowds is for --format=coco"),
    ):
        with pytest.raises(InputError, match=reason):
            calls.import_("x", study=study.root, format=format, **options)
    with pytest.raises(InputError, match="--first is for --format=cellpose"):
        export("out", format="coco", study=study.root, first=3)
    with pytest.raises(InputError, match="--cellpose_version is for --format=cellpose"):
        export("out", format="coco", study=study.root, cellpose_version=4)
    with pytest.raises(InputError, match="--segmentation is for --format=coco"):
        export("out", format="coco", predictions=run, segmentation="polygons")


@pytest.mark.parametrize("format", ["imagej", "coco", "cellpose"])
def test_export_takes_a_study_or_predictions_and_not_both(study, run, format):
    for given in ({}, {"study": study.root, "predictions": run}):
        with pytest.raises(InputError, match="either --study or --predictions"):
            export("out", format=format, **given)


def test_each_format_of_a_study_is_written_with_its_own_flags(study, tmp_path):
    for segmentation, kind in (("polygons", list), ("rle", dict)):
        out = tmp_path / segmentation
        export(out, study=study.root, format="coco", segmentation=segmentation)
        (file,) = (out / "annotations").iterdir()
        told = json.loads(file.read_text(encoding="utf-8"))
        assert isinstance(told["annotations"][0]["segmentation"], kind)
    queue = [{"image": "mixed/b.png"}, {"image": "mixed/a.png"}]
    csv_json.write_csv(study.review_queue_path, ("image",), queue)
    export(tmp_path / "window", study=study.root, format="cellpose", first=1)
    (file,) = (tmp_path / "window").rglob("*_seg.npy")
    assert file.name == "b_seg.npy"
    export(tmp_path / "rois", study=study.root, format="imagej")
    assert len(list((tmp_path / "rois").rglob("*.zip"))) == 2


def test_predictions_are_not_exported_for_correction(run, tmp_path):
    assert export(tmp_path / "coco", predictions=run, format="coco").done
    assert (tmp_path / "coco" / "results.json").exists()
    with pytest.raises(InputError, match="cellpose is for correcting a study"):
        export(tmp_path / "window", predictions=run, format="cellpose")


def test_check_opens_the_dataset_that_is_named_or_else_the_newest(monkeypatch):
    # The real ones load TensorFlow.
    builders = types.SimpleNamespace(newest_dataset=lambda *names: ("newest", *names))
    monkeypatch.setitem(sys.modules, "tfds_builders", builders)
    passed = {"1.0.0": True, ("newest", "study", "bucket"): False}

    def check_dataset(folder):
        return calls._Summary(f"checked {folder}", passed[folder])

    monkeypatch.setattr(cellclass_tf, "check_dataset", check_dataset)
    assert str(calls.check(None, "1.0.0", "bucket")) == "checked 1.0.0"
    newest = ("newest", "study", "bucket")
    found = calls.check("study", None, "bucket")
    assert (str(found), found.passed) == (f"checked {newest}", False)
    # Only a dataset without leaks is trained on.
    passed[newest] = True
    assert str(calls.check("study", None, "bucket")).splitlines() == [
        f"checked {newest}",
        "Next: cellclass train --study=study --output=training",
    ]
    for given in ((None, None), ("study", "1.0.0")):
        with pytest.raises(InputError, match="either --study or --dataset"):
            calls.check(*given, None)


def test_dataset_prints_its_contents_and_returns_the_outcome(monkeypatch, capsys):
    class Prepared:
        outcome = batch.Outcome(failures={"HEK/a.png": "broken"})

        def __str__(self):
            return "cell_types/study: new"

    def dataset(study, *, data_dir):
        assert (study, data_dir) == ("study", "bucket")
        return Prepared()

    monkeypatch.setattr(cellclass_tf, "dataset", dataset, raising=False)
    assert calls.dataset("study", data_dir="bucket") is Prepared.outcome
    assert capsys.readouterr().out == "cell_types/study: new\n"


def test_evaluation_prints_every_score_with_its_interval(study, run, monkeypatch):
    with monkeypatch.context() as patch:
        for module in (metrics, units):
            patch.setattr(module, "LEAST_FOR_SCORES", 2)
        lines = str(calls.evaluate(str(run), str(study.root))).splitlines()
    shown = {line.split()[0]: line.split()[1:] for line in lines}
    # Three of three cells.
    assert shown["F1"] == ["1.000", "(0.292", "to", "1.000)"]
    assert shown["type_accuracy"][0] == "1.000"
    assert lines[-3].startswith("2 fields, 3 true cells; errors: 0 ")
    assert lines[-2] == f"All scores: {run}/evaluation.json"
    assert lines[-1].startswith(f"Next: cellclass report --predictions={run}, ")
    # With too few fields there are no intervals, and undefined scores are not printed.
    told = str(calls.evaluate(str(run), str(study.root)))
    assert "No intervals: 2 statistical units" in told
    (run / "counts.csv").write_text(
        "".join((run / "counts.csv").read_text().splitlines(keepends=True)[:2])
    )
    lines = str(calls.evaluate(str(run), str(study.root))).splitlines()
    shown = {line.split()[0]: line.split()[1:] for line in lines}
    assert shown["F1"] == ["1.000"]


def test_a_training_and_its_export_are_commands(monkeypatch, capsys):
    from cellclass_tf.cli import main
    from cellclass_tf.maskrcnn import export, runs, training

    called = []

    def note(*arguments, **options):
        called.append((*arguments, options))
        return arguments[-1]

    monkeypatch.setattr(training, "train", note)
    monkeypatch.setattr(export, "export", note)
    monkeypatch.setattr(runs, "experiment_of", lambda folder: f"that of {folder}")
    given = ["--study=s", "--output=t", "--minutes=3", "--nonamer"]
    assert main.run(["train", *given]) == 0
    experiment, folder, options = called.pop()
    assert (experiment, folder) == ("cellclass_maskrcnn_small", "t")
    assert options["study"] == "s"
    assert options["minutes"] == 3
    assert not options["namer"]
    assert "cellclass export-model --training=t" in capsys.readouterr().out
    given = ["--training=t,u", "--output=m", "--outlines=watershed", "--nocalibrate"]
    assert main.run(["export-model", *given]) == 0
    experiment, folders, output, options = called.pop()
    assert experiment.startswith("that of ")
    assert (folders, output) == (["t", "u"], "m")
    assert not options["calibrate"]
    assert [a.name for a in options["annotators"]] == ["watershed"]
    assert main.run(["export-model", "--output=m"]) == 2


def test_the_version_is_printed(capsys):
    from cellclass_tf.cli import main

    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"cellclass_tf {cellclass_tf.__version__}\n"
