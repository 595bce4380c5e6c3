"""Tests of cellclass_tf.analysis.sources."""

import dataclasses
import pathlib

import numpy as np
import pytest

from cellclass_tf.analysis import sources
from cellclass_tf.core.cells import Cells
from cellclass_tf.core.run_record import PredictedImage, RunRecord
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import InputError
from cellclass_tf.storage import digests, png
from tests.predictions import write_predictions

TYPES = ("HEK", "N2a")


def cells_of(count):
    """Returns the given number of cells of one pixel each."""
    labels = np.zeros((4, 5), np.int32)
    labels[0, :count] = np.arange(1, count + 1)
    return Cells.from_labels(labels, TYPES, "N2a")


@pytest.fixture
def study(tmp_path):
    """Makes fields HEK/0 to HEK/2 with 0 to 2 cells, and HEK/3, which is not annotated."""
    study = Study.create(tmp_path / "study", TYPES, pixel_size_um=0.5)
    rows = [ImageRow(f"HEK/{i}.png", "HEK") for i in range(4)]
    rows[1] = dataclasses.replace(rows[1], pixel_size_um=0.25)
    study.update(rows)
    for i, row in enumerate(rows):
        png.write_png(study.image_path(row), np.full((4, 5, 3), i, np.uint8))
        if i < 3:
            cells_of(i).write(study.cells_path(row), types_csv=True)
    return study


def test_fields_of_a_study_are_those_that_are_accepted_and_annotated(study):
    row = study.rows()[0]
    study.update([dataclasses.replace(row, verdict="rejected", reason="blurred")])
    fields = sources.fields_of(study.root)
    assert [field.stem for field in fields] == ["HEK/1", "HEK/2"]
    assert [field.pixel_size_um for field in fields] == [0.25, 0.5]
    assert {field.type_names for field in fields} == {TYPES}


def test_the_image_of_cells_must_be_there_and_have_their_size(study):
    _, field, other = sources.fields_of(study.root)
    assert field.pixels_of(field.read()).max() == 1
    png.write_png(field.image, np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(InputError, match=r"1.png: expected the size .*4 x 5 px; got 5"):
        field.pixels_of(field.read())
    other.image.unlink()
    with pytest.raises(InputError, match="HEK/2: its merged image is missing"):
        other.pixels_of(other.read())
    nowhere = dataclasses.replace(other, image=None)
    with pytest.raises(InputError, match="none is recorded"):
        nowhere.pixels_of(other.read())


def test_each_field_reads_its_own_cells_when_it_is_asked(study, tmp_path):
    of_study = sources.fields_of(study.root)
    run = write_predictions(tmp_path / "run", {"HEK/a": cells_of(1), "b": cells_of(2)})
    of_run = sources.fields_of(run)
    assert [field.stem for field in of_run] == ["HEK/a", "b"]
    assert {field.type_names for field in of_run} == {TYPES}
    assert [len(field.read()) for field in of_study] == [0, 1, 2]
    assert [len(field.read()) for field in of_run] == [1, 2]
    assert of_run[1].read().cell_types == ("N2a", "N2a")
    # Files are read only now, and a broken file does not affect others.
    study.cells_path(study.rows()[1]).write_bytes(b"broken")
    assert len(of_study[2].read()) == 2
    with pytest.raises(InputError, match=r"1.tif"):
        of_study[1].read()


def test_a_field_without_image_file_has_no_pixels(study):
    field = sources.fields_of(study.root)[2]
    assert field.pixels().shape == (4, 5, 3)
    assert (field.pixels() == 2).all()
    field.image.unlink()
    assert field.pixels() is None


def test_a_run_finds_its_images_by_its_record(study, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(
        sources.logger, "warning", lambda text, *args: warnings.append(text % args)
    )
    fields = {"HEK/1": cells_of(1), "HEK/2": cells_of(2)}
    run = write_predictions(tmp_path / "run", fields)
    images = (
        PredictedImage("HEK/1", "HEK/1.png", pixel_size_um=0.3),
        PredictedImage("HEK/2", "HEK/2.png"),
    )
    record = RunRecord(folder=str(run), study=str(study.root), images=images)
    record.write(run / "run.json")
    one, two = sources.fields_of(run)
    assert (one.pixels() == 1).all()
    assert (two.pixels() == 2).all()
    assert (one.pixel_size_um, two.pixel_size_um) == (0.3, None)
    assert not warnings
    one.image.unlink()
    assert len(sources.fields_of(run)) == 2
    (warning,) = warnings
    assert warning.startswith("1 of 2 images are no longer where they were")


def test_an_image_that_changed_since_it_was_predicted_is_refused(study, tmp_path):
    fields = {"HEK/1": cells_of(1), "HEK/2": cells_of(2)}
    run = write_predictions(tmp_path / "run", fields)
    images = tuple(
        PredictedImage(
            row.stem, row.image, digests.sha256_of_file(study.image_path(row))
        )
        for row in study.rows()[1:3]
    )
    RunRecord(study=str(study.root), images=images).write(run / "run.json")
    one, two = sources.fields_of(run)
    png.write_png(one.image, np.full((4, 5, 3), 9, np.uint8))
    with pytest.raises(InputError, match=r"1.png is not the image in which the cells"):
        one.pixels_of(one.read())
    assert (two.pixels() == 2).all()
    # The cells of a study belong to the image that is there.
    assert (sources.fields_of(study.root)[1].pixels() == 9).all()


def test_a_run_without_record_has_cells_and_no_images(tmp_path):
    run = write_predictions(tmp_path / "run", {"HEK/1": cells_of(1)})
    (field,) = sources.fields_of(run)
    assert (field.image, field.pixel_size_um, field.pixels()) == (None, None, None)
    assert len(field.read()) == 1


def test_either_predictions_or_a_study_is_taken():
    assert sources.source_of("run", None) == pathlib.Path("run")
    assert sources.source_of(None, "study") == pathlib.Path("study")
    for given in ((None, None), ("run", "study")):
        with pytest.raises(InputError, match="either --study or --predictions"):
            sources.source_of(*given)


def test_types_must_have_the_same_names_on_both_sides(monkeypatch):
    warnings = []
    monkeypatch.setattr(
        sources.logger, "warning", lambda text, *args: warnings.append(text % args)
    )
    sources.check_types(("HEK", "N2a"), ("N2a", "HEK"), ("run", "study"))
    assert not warnings
    sources.check_types(("HEK", "N2a"), ("HEK", "CHO", "3T3"), ("run", "study"))
    assert [w.split(":")[0] for w in warnings] == [
        "Only run has the types N2a",
        "Only study has the types CHO, 3T3",
    ]
    with pytest.raises(InputError, match="run has the type 'n2a', and study has 'N2a'"):
        sources.check_types(("HEK", "n2a"), TYPES, ("run", "study"))


def test_a_folder_that_is_neither_study_nor_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no predictions"):
        sources.fields_of(tmp_path)
