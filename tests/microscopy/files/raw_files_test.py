"""Tests of cellclass_tf.microscopy.files.raw_files."""

import pytest

from cellclass_tf import errors
from cellclass_tf.microscopy.files import raw_files


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_name_the_types_and_the_pattern_the_groups(tmp_path):
    # The folder above the source would match too, but is not searched.
    source = tmp_path / "dish9" / "raw"
    touch(source / "HEK" / "dish1_a.tif", source / "N2a" / "dish1_a.ome.tif")
    found, failures, _ = raw_files.find(source, None, r"[^/]+/dish\d+")
    assert not failures
    assert [(f.cell_type, f.group, f.stem) for f in found] == [
        ("HEK", "HEK/dish1", "dish1_a"),
        ("N2a", "N2a/dish1", "dish1_a"),
    ]


def test_a_folder_below_the_type_names_the_dish(tmp_path):
    source = tmp_path / "raw"
    touch(source / "HEK" / "day 1" / "a.tif", source / "HEK" / "day 1" / "x" / "b.tif")
    touch(source / "HEK" / "day 2" / "a.tif", source / "HEK" / "c.tif")
    touch(source / "HEK" / "TimePoint_1" / "d.tif")
    found, _, _ = raw_files.find(source, None, None)
    assert [(f.path.name, f.group, f.grouped) for f in found] == [
        ("d.tif", "HEK/d", False),
        ("c.tif", "HEK/c", False),
        ("a.tif", "HEK/day 1", True),
        ("b.tif", "HEK/day 1", True),
        ("a.tif", "HEK/day 2", True),
    ]
    # A folder of one type.
    found, _, _ = raw_files.find(source / "HEK", "HEK", None)
    assert [f.group for f in found].count("HEK/day 1") == 2
    # A pattern decides.
    found, _, _ = raw_files.find(source, None, r"[^/]+$")
    assert {f.group for f in found} == {"a.tif", "b.tif", "c.tif", "d.tif"}


def groups_and_notes(source):
    found, _, notes = raw_files.find(source, None, None)
    told = [note for note in notes if note.startswith("dishes: ")]
    return sorted({(file.group, file.grouped) for file in found}), told


def test_folders_t1_and_t2_are_dishes_unless_they_hold_files_of_the_same_names(
    tmp_path,
):
    treatments = tmp_path / "treatments"
    touch(*(treatments / "HEK" / f"T{1 + n // 2}" / f"f{n}.tif" for n in range(4)))
    expected = [("HEK/T1", True), ("HEK/T2", True)]
    assert groups_and_notes(treatments) == (expected, [])
    # One folder beside them is called otherwise.
    mixed = tmp_path / "mixed"
    touch(*(mixed / "HEK" / name / "f.tif" for name in ("Z1", "Z2", "control")))
    groups, notes = groups_and_notes(mixed)
    assert groups == [("HEK/Z1", True), ("HEK/Z2", True), ("HEK/control", True)]
    assert not notes
    times = tmp_path / "times"
    touch(
        *(times / "N2a" / f"t{n}" / name for n in (1, 2) for name in ("a.tif", "b.tif"))
    )
    groups, (note,) = groups_and_notes(times)
    assert groups == [("N2a/a", False), ("N2a/b", False)]
    assert "2 folders (t1, t2) seem to be time points or focal planes" in note
    assert not [n for n in raw_files.find(times, None, "t.").notes if "dishes" in n]


def test_focal_planes_in_folders_are_no_fields(tmp_path):
    plate = tmp_path / "mixed" / "plate1" / "TimePoint_1"
    planes = [f"ZStep_{number}" for number in (1, 2, 3)]
    wells = ("P_B02_s1", "P_B03_s1")
    touch(*(plate / z / f"{w}_w{c}.tif" for z in planes for w in wells for c in (1, 2)))
    with pytest.raises(errors.InputError, match=r"3 folders .*hold focal planes"):
        raw_files.find(tmp_path, None, None)
    other = tmp_path / "HEK" / "plate2"
    touch(*(other / "ZStep_1" / f"P_B02_s1_w{c}.tif" for c in (1, 2)))
    touch(*(other / "ZStep_2" / f"P_B03_s1_w{c}.tif" for c in (1, 2)))
    found, failures, _ = raw_files.find(tmp_path, None, None)
    assert [file.group for file in found] == ["HEK/plate2", "HEK/plate2"]
    ((place, reason),) = failures.items()
    assert place == str(plate)
    assert "3 folders (ZStep_1, ZStep_2, ZStep_3) hold focal planes" in reason
    # One plane may be converted.
    assert len(raw_files.find(plate / "ZStep_2", "mixed", None).files) == 2


def test_wells_are_groups_unless_a_pattern_or_folder_names_the_group(tmp_path):
    for place in ("HEK/plate.tif", "N2a/d1/plate.tif"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text("1")
    plate, in_folder = raw_files.find(tmp_path, None, None).files
    assert plate.group_of("B03") == "HEK/plate_B03"
    assert plate.group_of("") == "HEK/plate"
    assert in_folder.group_of("B03") == "N2a/d1"


def test_the_first_group_of_a_pattern_names_the_group(tmp_path):
    touch(tmp_path / "a_well-B7_f1.tif")
    (found,), _, _ = raw_files.find(tmp_path, "HEK", r"well-(\w\d)")
    assert found.group == "B7"
    assert found.grouped


def test_hidden_files_and_other_endings_are_not_raw_files(tmp_path):
    touch(tmp_path / ".hidden.tif", tmp_path / "notes.txt", tmp_path / "a.TIF")
    found, _, _ = raw_files.find(tmp_path, "HEK", None)
    assert [f.path.name for f in found] == ["a.TIF"]


def test_odd_characters_are_replaced_in_image_names(tmp_path):
    touch(tmp_path / "day 1 (HEK).ome.tiff")
    (found,), _, _ = raw_files.find(tmp_path, "HEK", None)
    assert found.stem == "day_1_HEK_"


def test_a_broken_pattern_is_refused(tmp_path):
    touch(tmp_path / "a.tif")
    with pytest.raises(errors.InputError, match="not a valid regular expression"):
        raw_files.find(tmp_path, "HEK", "dish(")
