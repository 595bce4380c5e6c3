"""Tests of cellclass_tf.microscopy.dishes."""

import dataclasses
import unicodedata

import numpy as np
import pytest
import tifffile

from cellclass_tf.core.study import Study
from cellclass_tf.microscopy import dishes
from cellclass_tf.microscopy.conversion import convert
from cellclass_tf.microscopy.files import raw_files


def write_raw(path, seed=0):
    pixels = np.random.default_rng(seed).integers(100, 1000, (2, 32, 40), np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(path, pixels, ome=True, metadata=metadata)


def move(path, folder):
    folder.mkdir(parents=True, exist_ok=True)
    path.rename(folder / path.name)


def notes_of(outcome):
    return [note for note in outcome.notes if note.startswith("dishes: ")]


def groups_of(study):
    return {r.image: (r.group, r.contrast_group) for r in Study.open(study).rows()}


@pytest.fixture
def hek(tmp_path):
    """The folder of a type with four files, of which no folder names the dish."""
    folder = tmp_path / "raw" / "HEK"
    for number in range(4):
        write_raw(folder / f"f{number}.ome.tif", number)
    return folder


def test_files_that_are_moved_into_dishes_belong_to_them(tmp_path, hek):
    (note,) = notes_of(convert(tmp_path / "raw", tmp_path / "s"))
    assert "each of 4 files counts as a dish of its own" in note
    for number in range(4):
        move(hek / f"f{number}.ome.tif", hek / f"dish{number // 2}")
    assert not notes_of(convert(tmp_path / "raw", tmp_path / "s"))
    assert groups_of(tmp_path / "s") == {
        f"HEK/f{n}.png": (f"HEK/dish{n // 2}",) * 2 for n in range(4)
    }
    # One was sorted wrongly, and a folder gets another name.
    move(hek / "dish0" / "f1.ome.tif", hek / "dish1")
    (hek / "dish1").rename(hek / "day2_dish1")
    assert not notes_of(convert(tmp_path / "raw", tmp_path / "s"))
    expected = ["HEK/dish0", *["HEK/day2_dish1"] * 3]
    assert [group for group, _ in groups_of(tmp_path / "s").values()] == expected


def test_a_kept_dish_that_is_not_the_folder_is_reported(tmp_path, hek):
    for number in range(4):
        move(hek / f"f{number}.ome.tif", hek / f"dish{number // 2}")
    convert(hek / "dish0", tmp_path / "s", cell_type="HEK")
    lone, kept = notes_of(convert(tmp_path / "raw", tmp_path / "s"))
    assert "each of 2 files counts as a dish of its own" in lone
    assert "2 images keep the dish of an earlier conversion" in kept
    assert f"({hek / 'dish0' / 'f0.ome.tif'}: HEK/f0, and not HEK/dish0)" in kept
    found = groups_of(tmp_path / "s")
    assert [group for group, _ in found.values()] == [
        *("HEK/f0", "HEK/f1", "HEK/dish1", "HEK/dish1")
    ]
    # As the note says.
    manifest = tmp_path / "s" / "images.csv"
    text = manifest.read_text()
    for number in range(2):
        text = text.replace(f",HEK/f{number},", ",,")
    manifest.write_text(text)
    assert not notes_of(convert(tmp_path / "raw", tmp_path / "s"))
    assert groups_of(tmp_path / "s")["HEK/f0.png"] == ("HEK/dish0", "HEK/dish0")


def test_a_dish_that_a_person_wrote_is_kept_wherever_the_file_lies(tmp_path, hek):
    convert(tmp_path / "raw", tmp_path / "s")
    manifest = tmp_path / "s" / "images.csv"
    text = manifest.read_text()
    for number in range(4):
        text = text.replace(f",HEK/f{number},", ",mine,")
    manifest.write_text(text)
    assert not notes_of(convert(tmp_path / "raw", tmp_path / "s"))
    move(hek / "f0.ome.tif", hek / "dish1")
    assert not notes_of(convert(tmp_path / "raw", tmp_path / "s"))
    assert set(groups_of(tmp_path / "s").values()) == {("mine", "mine")}


def test_older_dishes_are_kept_if_the_whole_input_is_moved(tmp_path, hek, monkeypatch):
    for number in range(4):
        move(hek / f"f{number}.ome.tif", hek / f"dish{number // 2}")
    # An earlier version did not use the folder.
    with monkeypatch.context() as patch:
        patch.setattr(raw_files, "_dish_folder", lambda *a, **k: "")
        convert(tmp_path / "raw", tmp_path / "s")
    before = [group for group, _ in groups_of(tmp_path / "s").values()]
    (tmp_path / "disk").mkdir()
    (tmp_path / "raw").rename(tmp_path / "disk" / "raw")
    convert(tmp_path / "disk" / "raw", tmp_path / "s")
    assert [group for group, _ in groups_of(tmp_path / "s").values()] == before


def test_files_of_earlier_versions_with_relative_paths_keep_their_dish(tmp_path, hek):
    convert(tmp_path / "raw", tmp_path / "s")
    study = Study.open(tmp_path / "s")
    (raw, *_), _, _ = raw_files.find(tmp_path / "raw", None, None)
    row = study.rows()[0]
    for name, same in (
        (row.raw_file, True),
        ("raw/HEK/f0.ome.tif", True),
        (str(tmp_path / "old" / "HEK" / "f0.ome.tif"), True),
        ("HEK/dish1/f0.ome.tif", False),
        ("f0.ome.tif", False),
        (str(hek / "dish1" / "f0.ome.tif"), False),
    ):
        text = study.manifest_path.read_text()
        study.manifest_path.write_text(text.replace(row.raw_file, name))
        (changed, *_) = study.rows()
        assert changed.raw_file == name
        lies = dishes._lies_where_it_lay(changed, raw, tmp_path / "raw")
        assert lies is same, name
        study.manifest_path.write_text(text)


def test_folders_whose_names_look_the_same_are_one_dish(tmp_path):
    composed, decomposed = (unicodedata.normalize(f, "Schäle") for f in ("NFC", "NFD"))
    raw = tmp_path / "raw" / "HEK"
    write_raw(raw / decomposed / "a.ome.tif", 0)
    convert(tmp_path / "raw", tmp_path / "s")
    # An earlier version recorded the name as it is on the disk.
    study = Study.open(tmp_path / "s")
    names = {"group": f"HEK/{decomposed}", "contrast_group": f"HEK/{decomposed}"}
    before = study.rows()[0]
    study.update([dataclasses.replace(before, **names)])
    assert study.rows()[0].group != before.group
    write_raw(raw / composed / "b.ome.tif", 1)
    assert not notes_of(convert(tmp_path / "raw", tmp_path / "s"))
    rows = study.rows()
    assert {(r.group, r.contrast_group) for r in rows} == {(f"HEK/{composed}",) * 2}
    assert len({row.nuclei_limits for row in rows}) == 1
    assert rows[0].image_sha256 == before.image_sha256


def test_a_file_that_is_a_dish_of_its_own_has_the_group_of_its_image(tmp_path):
    name = unicodedata.normalize("NFD", "Schäle")
    for number in range(2):
        write_raw(tmp_path / "raw" / "HEK" / f"{name}{number}.ome.tif", number)
    for _ in range(2):
        (note,) = notes_of(convert(tmp_path / "raw", tmp_path / "s"))
        assert "each of 2 files" in note
        rows = Study.open(tmp_path / "s").rows()
        assert [row.group for row in rows] == [row.stem for row in rows]
