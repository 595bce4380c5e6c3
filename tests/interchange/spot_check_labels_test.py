"""Tests of cellclass_tf.interchange.spot_check_labels."""

import dataclasses

import numpy as np
import pytest

import cellclass_tf as cc
from cellclass_tf.analysis.spot_check import labels
from cellclass_tf.analysis.spot_check.sample import Sample
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.model_metadata import short_sha256
from cellclass_tf.core.predictions import Predictions
from cellclass_tf.core.run_record import RunRecord
from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage import digests
from tests.spot_check import TYPES, checked_predictions, rows_of, write_table


@pytest.fixture
def labelled(tmp_path):
    """Makes predictions of six fields, of which Ana labels some 40 cells as HEK."""
    folder = checked_predictions(tmp_path, fields=6)
    cc.spotcheck(folder, cells=40)
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    rows = rows_of(drawn, label=lambda call: "HEK")
    cc.import_spotcheck(folder, write_table(tmp_path / "a.csv", rows))
    return folder


def trained_with(folder, stems):
    """Records that the model was trained on the labels of some fields."""
    record = RunRecord.read(folder / "run.json")
    root = folder.parent / "study" / "images"
    images = tuple(
        dataclasses.replace(image, sha256=digests.sha256_of_file(root / image.image))
        for image in record.images
    )
    seen = tuple(short_sha256(i.sha256) for i in images if i.stem in stems)
    model = dataclasses.replace(record.model_metadata, labelled_images=seen)
    dataclasses.replace(record, images=images, model_metadata=model).write(
        folder / "run.json"
    )


def types_in(study):
    found = {row.stem: study.read_cells(row) for row in study.rows() if row.cells}
    return {stem: list(cells.cell_types) for stem, cells in found.items()}


def test_labels_become_types_of_the_predicted_cells_of_whole_fields(labelled):
    study = Study.open(labelled.parent / "study")
    drawn = Sample.read(labelled / "spotcheck" / "sample.json")
    outcome = cc.import_spotcheck_types(study, labelled, share=0.5)
    assert not outcome.failures
    assert 2 <= len(outcome.done) <= 4
    found = types_in(study)
    assert found.keys() == {name.removesuffix(".png") for name in outcome.done}
    for stem, types in found.items():
        named = {cell for w in drawn.windows if w.image == stem for cell in w.cells}
        assert types == ["HEK" if n in named else "unknown" for n in range(1, 21)]
    rows = [row for row in study.rows() if row.cells]
    sha256 = digests.sha256_of_file(labelled / "spotcheck" / labels.LABELS_FILE)
    assert all(row.corrected and row.annotator_sha256 == sha256 for row in rows)
    # The same fields each time.
    assert not cc.import_spotcheck_types(study, labelled, share=0.5).done
    assert len(cc.import_spotcheck_types(study, labelled).done) == 6 - len(found)


def test_outlines_and_types_of_the_study_are_kept(labelled):
    study = Study.open(labelled.parent / "study")
    own = np.zeros((100, 120), np.int32)
    # Cells 1 to 3 of the prediction, of which the first is a little smaller, and no other.
    own[4:16, 5:16], own[4:16, 26:38], own[4:16, 48:60] = 1, 2, 3
    for row in study.rows():
        names = ["unknown", "N2a", "unknown"]
        cells = Cells.from_labels(own, TYPES, names)
        cells.write(study.cells_path(row))
        text = "cell,cell_type\n1,unknown\n2,N2a\n3,unknown\n"
        study.cells_path(row).with_suffix(".csv").write_text(text)
    outcome = cc.import_spotcheck_types(study, labelled)
    drawn = Sample.read(labelled / "spotcheck" / "sample.json")
    assert len(outcome.done) == 6
    for stem, types in types_in(study).items():
        named = {cell for w in drawn.windows if w.image == stem for cell in w.cells}
        assert types == [
            "HEK" if 1 in named else "unknown",
            "N2a",
            "HEK" if 3 in named else "unknown",
        ]


def label_again(folder, label, **options):
    """Imports a corrected table of Ana, and its types into the study; returns the outcome."""
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    table = write_table(folder.parent / "a.csv", rows_of(drawn, label=label))
    cc.import_spotcheck(folder, table, overwrite=True)
    return cc.import_spotcheck_types(folder.parent / "study", folder, **options)


def test_types_follow_labels_that_were_corrected(labelled):
    study = Study.open(labelled.parent / "study")
    cc.import_spotcheck_types(study, labelled, share=0.5)
    first = types_in(study)
    outcome = label_again(labelled, lambda call: "N2a", share=0.5)
    assert not outcome.failures
    assert types_in(study) == {
        stem: ["N2a" if name == "HEK" else name for name in types]
        for stem, types in first.items()
    }
    # Labels that were withdrawn.
    label_again(labelled, lambda call: labels.CANNOT_TELL, share=0.5)
    found = types_in(study)
    assert found.keys() == first.keys()
    assert {name for types in found.values() for name in types} == {"unknown"}


def test_fields_that_have_no_label_any_more_lose_these_types(labelled):
    study = Study.open(labelled.parent / "study")
    cc.import_spotcheck_types(study, labelled)
    drawn = Sample.read(labelled / "spotcheck" / "sample.json")
    table = write_table(labelled.parent / "a.csv", rows_of(drawn, windows=2))
    cc.import_spotcheck(labelled, table, overwrite=True)
    cc.import_spotcheck_types(study, labelled)
    named = {
        (stem, number): name
        for stem, types in types_in(study).items()
        for number, name in enumerate(types, start=1)
        if name != "unknown"
    }
    assert named == {
        (window.image, cell): call
        for window in drawn.windows[:2]
        for cell, call in window.cells.items()
    }


def test_types_of_people_are_kept_and_contradicting_labels_are_counted(labelled):
    study = Study.open(labelled.parent / "study")
    cc.import_spotcheck_types(study, labelled)
    drawn = Sample.read(labelled / "spotcheck" / "sample.json")
    window = next(window for window in drawn.windows if window.cells)
    cell = min(window.cells)
    row = next(row for row in study.rows() if row.stem == window.image)
    # A person opens the table of types, and changes the type of one labelled cell.
    table = study.cells_path(row).with_suffix(".csv")
    lines = table.read_text().splitlines()
    lines[cell] = f"{cell},N2a"
    table.write_text("\n".join(lines) + "\n")
    before = list(study.read_cells(row).cell_types)
    outcome = label_again(labelled, lambda call: labels.CANNOT_TELL)
    assert types_in(study)[row.stem] == before
    outcome = label_again(labelled, lambda call: call)
    assert types_in(study)[row.stem] == before
    said = [of for w in drawn.windows if w.image == row.stem for of in w.cells.items()]
    other = sum(before[number - 1] != call for number, call in said)
    notes = outcome.done[row.image]["notes"]
    assert f"{other} labels contradict types of the study, which were kept" in notes
    # The outline of a cell stays, too.
    outcome = label_again(labelled, lambda call: labels.NOT_A_CELL)
    notes = outcome.done[row.image]["notes"]
    assert f"{len(said)} cells labelled 'not a cell' stay in the study" in notes


def test_false_positives_are_removed_and_disagreements_are_unknown(tmp_path):
    folder = checked_predictions(tmp_path, fields=1)
    cc.spotcheck(folder, cells=12)
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    first, second, third = sorted(c for w in drawn.windows for c in w.cells)[:3]
    said = {
        "Ana": {first: labels.NOT_A_CELL, second: "HEK", third: labels.CANNOT_TELL},
        "Ben": {first: labels.NOT_A_CELL, second: "N2a", third: labels.CANNOT_TELL},
    }
    (tmp_path / "tables").mkdir()
    for name, of in said.items():
        rows = rows_of(drawn, name, label=lambda call: "N2a")
        for row in rows:
            row["label"] = of.get(row.get("cell"), row.get("label", ""))
        write_table(tmp_path / "tables" / f"{name}.csv", rows)
    cc.import_spotcheck(folder, tmp_path / "tables")
    study = Study.open(tmp_path / "study")
    cc.import_spotcheck_types(study, folder)
    (types,) = types_in(study).values()
    assert len(types) == 19
    # The first is gone.
    assert types[second - 2] == types[third - 2] == "unknown"
    assert types.count("N2a") == drawn.labelled_cells - 3


def test_other_images_types_and_shares_are_rejected(labelled):
    study = Study.open(labelled.parent / "study")
    with pytest.raises(InputError, match="Expected a share"):
        cc.import_spotcheck_types(study, labelled, share=0)
    trained_with(labelled, ())
    row = study.rows()[0]
    study.image_path(row).write_bytes(study.image_path(study.rows()[1]).read_bytes())
    failed = cc.import_spotcheck_types(study, labelled).failures
    assert "the image has changed since it was predicted" in failed[row.image]
    (labelled / "spotcheck" / labels.LABELS_FILE).unlink()
    with pytest.raises(InputError, match="no labels"):
        cc.import_spotcheck_types(study, labelled)


def test_fields_with_training_labels_are_not_sampled(tmp_path):
    folder = checked_predictions(tmp_path, fields=6)
    trained_with(folder, {"mixed/0", "mixed/1"})
    told = str(cc.spotcheck(folder, cells=40))
    assert "labels of 2 of 6 fields" in told
    drawn = Sample.read(folder / "spotcheck" / "sample.json")
    assert {w.image for w in drawn.windows} == {f"mixed/{n}" for n in range(2, 6)}
    assert sum(drawn.called.values()) == 80
    rows = rows_of(drawn, label=lambda call: "HEK")
    cc.import_spotcheck(folder, write_table(tmp_path / "a.csv", rows))
    found = cc.mixture(folder)["spot_check"]
    assert found["types"]["HEK"]["share"] > 0.95
    assert any("only for the other fields" in line for line in found["warnings"])
    trained_with(folder, set(Predictions(folder).stems))
    with pytest.raises(InputError, match="labels of 6 of 6 fields"):
        cc.spotcheck(folder, cells=40)


def test_training_labels_are_not_used_for_an_estimate(labelled):
    assert not cc.mixture(labelled)["spot_check"]["reason"]
    trained_with(labelled, {"mixed/3"})
    reason = cc.mixture(labelled)["spot_check"]["reason"]
    assert "labels of 1 of 6 fields" in reason
    assert "both to train a model and" in reason
    page = cc.report(labelled).read_text(encoding="utf-8")
    assert "No estimate from the spot check" in page
    assert "both to train a model and" in page
