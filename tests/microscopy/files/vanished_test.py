"""Tests of cellclass_tf.microscopy.files.vanished."""

import pytest

from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.microscopy.files import vanished


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
    (told,) = vanished.notes(study, raw, {})
    assert "1 images stay" in told
    assert "HEK/1.png" in told


def test_a_set_of_files_is_incomplete_without_one_of_them(tmp_path, raw):
    (raw / "a_w1.tif").touch()
    study = study_of(tmp_path, f"{raw}/a_w1.tif|{raw}/a_w2.tif")
    assert vanished.notes(study, raw, {})
    (raw / "a_w2.tif").touch()
    assert not vanished.notes(study, raw, {})


def test_a_bar_in_a_name_separates_no_files(tmp_path, raw):
    (raw / "a|b.tif").touch()
    assert not vanished.notes(study_of(tmp_path, f"{raw}/a|b.tif"), raw, {})


def test_scenes_that_a_file_lost_are_reported(tmp_path, raw):
    path = raw / "a.czi"
    path.touch()
    study = study_of(tmp_path, str(path), str(path))
    assert not vanished.notes(study, raw, {str(path): ["HEK/0.png", "HEK/1.png"]})
    assert "HEK/1.png" in vanished.notes(study, raw, {str(path): ["HEK/0.png"]})[0]


@pytest.mark.parametrize("raw_file", ["", "/elsewhere/x.tif", "relative/x.tif"])
def test_images_of_other_inputs_are_not_reported(tmp_path, raw, raw_file):
    assert not vanished.notes(study_of(tmp_path, raw_file), raw, {})


def test_rejected_images_are_not_reported(tmp_path, raw):
    study = study_of(tmp_path, str(raw / "gone.tif"), verdict="rejected")
    assert not vanished.notes(study, raw, {})
