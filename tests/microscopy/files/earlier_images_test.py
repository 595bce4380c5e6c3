"""Tests of cellclass_tf.microscopy.files.earlier_images."""

import dataclasses

import pytest

from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.microscopy.files import earlier_images, raw_files


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def study_of(folder, *raw_files, verdict=""):
    study = Study.create(folder / "study")
    for number, raw_file in enumerate(raw_files):
        name = f"HEK/{number}.png"
        study.update([ImageRow(name, "HEK", raw_file=raw_file, verdict=verdict)])
    return study


def test_a_file_that_was_deleted_or_moved_is_reported(tmp_path, raw):
    (raw / "there.tif").touch()
    study = study_of(tmp_path, str(raw / "there.tif"), str(raw / "gone.tif"))
    (told,) = earlier_images.notes_of_vanished(study, raw, {})
    assert "1 images stay" in told
    assert "HEK/1.png" in told


def test_where_the_corrected_cells_of_a_moved_file_belong_is_told(tmp_path, raw):
    (raw / "b.tif").touch()
    study = study_of(tmp_path, str(raw / "a.tif"), str(raw / "b.tif"))
    old, new = (dataclasses.replace(row, raw_sha256="1" * 64) for row in study.rows())
    study.update([old, new])
    assert len(earlier_images.notes_of_vanished(study, raw, {})) == 1
    study.update([dataclasses.replace(old, corrected=True)])
    _, told = earlier_images.notes_of_vanished(study, raw, {})
    assert f"copy {study.cells_path(old)} to {study.cells_path(new)}" in told
    study.update([dataclasses.replace(new, corrected=True)])
    assert len(earlier_images.notes_of_vanished(study, raw, {})) == 1


def test_a_set_of_files_is_incomplete_without_one_of_them(tmp_path, raw):
    (raw / "a_w1.tif").touch()
    study = study_of(tmp_path, f"{raw}/a_w1.tif|{raw}/a_w2.tif")
    assert earlier_images.notes_of_vanished(study, raw, {})
    (raw / "a_w2.tif").touch()
    assert not earlier_images.notes_of_vanished(study, raw, {})


def test_a_bar_in_a_name_separates_no_files(tmp_path, raw):
    (raw / "a|b.tif").touch()
    assert not earlier_images.notes_of_vanished(
        study_of(tmp_path, f"{raw}/a|b.tif"), raw, {}
    )


def test_scenes_that_a_file_lost_are_reported(tmp_path, raw):
    path = raw / "a.czi"
    path.touch()
    study = study_of(tmp_path, str(path), str(path))

    def notes(*images):
        return earlier_images.notes_of_vanished(study, raw, {str(path): images})

    assert not notes("HEK/0.png", "HEK/1.png")
    assert "HEK/1.png" in notes("HEK/0.png")[0]


@pytest.mark.parametrize("raw_file", ["", "/elsewhere/x.tif", "relative/x.tif"])
def test_images_of_other_inputs_are_not_reported(tmp_path, raw, raw_file):
    assert not earlier_images.notes_of_vanished(study_of(tmp_path, raw_file), raw, {})


def test_rejected_images_are_not_reported(tmp_path, raw):
    study = study_of(tmp_path, str(raw / "gone.tif"), verdict="rejected")
    assert not earlier_images.notes_of_vanished(study, raw, {})


def test_dishes_of_the_same_name_in_two_inputs_are_reported(tmp_path, raw):
    study = Study.create(tmp_path / "study")
    other = "/elsewhere/raw/HEK/dish1/a.tif"
    study.update([ImageRow("HEK/a.png", "HEK", group="HEK/dish1", raw_file=other)])
    for name in ("dish1/b.tif", "dish2/c.tif", "d.tif"):
        path = raw / "HEK" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = raw_files.find(raw, None, None).files
    (told,) = earlier_images.notes_of_shared_dishes(study, raw, found)
    assert "1 dishes" in told
    assert "HEK/dish1" in told
    (row,) = study.rows()
    study.update([dataclasses.replace(row, raw_file=str(raw / "HEK/dish1/a.tif"))])
    assert not earlier_images.notes_of_shared_dishes(study, raw, found)
