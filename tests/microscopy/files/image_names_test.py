"""Tests of cellclass_tf.microscopy.files.image_names."""

import pathlib

from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.microscopy.files import image_names, raw_files
from cellclass_tf.microscopy.files.channel_files import FileSet


def raw(path):
    path = pathlib.Path(path)
    files = FileSet((path,), (), path.name)
    return raw_files.RawFile(files, "HEK", "group", False)


def test_different_files_get_different_names(tmp_path):
    names = image_names.Names(Study.create(tmp_path / "s"))
    paths = ("x/a.tif", "y/a.tif", "x/a.nd2", "y/a.nd2")
    assert [names.take(raw(path), [""]) for path in paths] == [
        "HEK/a",
        "HEK/y_a",
        "HEK/x_a",
        "HEK/a_nd2",
    ]


def test_a_name_must_be_free_for_every_field_of_a_file(tmp_path):
    names = image_names.Names(Study.create(tmp_path / "s"))
    assert names.take(raw("x/a_t1.tif"), [""]) == "HEK/a_t1"
    # The second time point would be a_t1.
    assert names.take(raw("x/a.tif"), ["", "_t1"]) == "HEK/x_a"


def test_a_row_keeps_its_name_and_no_other_file_gets_it(tmp_path):
    study = Study.create(tmp_path / "s")
    mine = tmp_path / "a.tif"
    mine.write_text("mine")
    study.update([ImageRow("HEK/a.png", "HEK", raw_file=str(mine), raw_sha256="x")])
    other = tmp_path / "other" / "a.tif"
    other.parent.mkdir()
    other.write_text("other")
    assert image_names.Names(study).take(raw(mine), [""]) == "HEK/a"
    assert image_names.Names(study).take(raw(other), [""]) == "HEK/other_a"


def test_no_name_is_returned_if_all_are_taken(tmp_path):
    names = image_names.Names(Study.create(tmp_path / "s"))
    found = [names.take(raw("x/a.tif"), [""]) for _ in range(5)]
    assert found == ["HEK/a", "HEK/x_a", "HEK/a_tif", "HEK/x_a_tif", None]


def test_long_names_stay_different_when_shortened(tmp_path):
    study = Study.create(tmp_path / "s")
    paths = [f"x/{'n' * 120}{number}.ome.tif" for number in range(6)]
    names = image_names.Names(study)
    found = [names.take(raw(path), [""]) for path in paths]
    assert len({name.casefold() for name in found}) == 6
    assert all(len(name) == len("HEK/") + 100 for name in found)
    # The names do not depend on the order of the files.
    names = image_names.Names(study)
    assert [names.take(raw(path), [""]) for path in paths[::-1]] == found[::-1]


def test_a_long_name_of_an_earlier_version_is_kept(tmp_path):
    study = Study.create(tmp_path / "s")
    other, mine = (tmp_path / f"{'n' * 120}{number}.ome.tif" for number in (0, 1))
    for path in (other, mine):
        path.write_text(path.name)
    image = f"HEK/{'n' * 100}.png"
    study.update([ImageRow(image, "HEK", raw_file=str(mine), raw_sha256="x")])
    names = image_names.Names(study)
    assert names.take(raw(other), [""]) != f"HEK/{'n' * 100}"
    assert names.take(raw(mine), [""]) == f"HEK/{'n' * 100}"


def test_names_that_differ_only_in_case_get_different_stems(tmp_path):
    study = Study.create(tmp_path / "s")
    study.update([ImageRow("HEK/B.png", "HEK", raw_file="z/B.tif", raw_sha256="x")])
    names = image_names.Names(study)
    paths = (
        "x/Dish.tif",
        "x/dish.tif",
        "y/b.tif",
        "z/B.tif",
        "x/ü.tif",
        "x/Ü.tif",
    )
    assert [names.take(raw(path), [""]) for path in paths] == [
        "HEK/Dish",
        "HEK/x_dish",
        "HEK/y_b",
        "HEK/B",
        "HEK/ü",
        "HEK/x_Ü",
    ]
