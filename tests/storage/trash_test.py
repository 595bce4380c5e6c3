"""Tests of cellclass_tf.storage.trash."""

import pathlib
import re

import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.storage import trash


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_is_restored_and_the_present_one_is_kept(tmp_path):
    path = tmp_path / "cells" / "HEK" / "a.tif"
    for number in range(12):
        trash.set_aside(tmp_path, [write(path, f"version {number}")])
    write(path, "now")
    names = trash.names(tmp_path)
    assert len(names) == 12
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\d(-\d+)?/cells/HEK/a.tif", n) for n in names
    )
    # PATH gives the latest copy, and DATE/PATH any copy.
    assert trash.bring_back(tmp_path, "cells/HEK/a.tif") == [path]
    assert path.read_text() == "version 11"
    trash.bring_back(tmp_path, names[0])
    assert path.read_text() == "version 0"
    trash.bring_back(tmp_path, "cells/HEK/a.tif")
    assert path.read_text() == "version 11"


def test_files_that_belong_together_are_restored_together(tmp_path):
    labels, table = tmp_path / "a.tif", tmp_path / "a.csv"
    trash.set_aside(tmp_path, [write(labels, "old"), write(table, "old types")])
    trash.set_aside(tmp_path, [write(labels, "new")])
    trash.bring_back(tmp_path, "a.tif", (".csv",))
    assert labels.read_text() == "new"
    assert not table.exists()
    write(table, "newer types")
    trash.bring_back(tmp_path, trash.names(tmp_path)[1], (".csv",))
    assert (labels.read_text(), table.read_text()) == ("old", "old types")
    trash.bring_back(tmp_path, "a.tif", (".csv",))
    assert (labels.read_text(), table.read_text()) == ("new", "newer types")


@pytest.mark.parametrize("name", ["b.tif", "../a.tif", "", "/etc/passwd"])
def test_a_file_that_is_not_in_the_trash_cannot_be_restored(tmp_path, name):
    trash.set_aside(tmp_path, [write(tmp_path / "a.tif", "old")])
    with pytest.raises(InputError, match=r"has no .*; it has 2\d{3}-.*/a.tif"):
        trash.bring_back(tmp_path, name)


def test_a_restoration_that_was_killed_is_completed(tmp_path, monkeypatch):
    labels, table = tmp_path / "a.tif", tmp_path / "a.csv"
    trash.set_aside(tmp_path, [write(labels, "old"), write(table, "old types")])
    write(labels, "new")
    (name,) = (name for name in trash.names(tmp_path) if name.endswith(".tif"))
    replace = pathlib.Path.replace

    def killed(path, target):
        if path.name == "a.csv":
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            trash.bring_back(tmp_path, name, (".csv",))
    assert labels.read_text() == "old"
    assert not table.exists()
    # The next call completes it; the same request does not restore anything else.
    assert trash.bring_back(tmp_path, "a.tif", (".csv",)) == [labels, table]
    assert (labels.read_text(), table.read_text()) == ("old", "old types")
    assert not trash.finish(tmp_path)
