"""Tests of cellclass_tf.workflows.restore."""

import pytest

import cellclass_tf as cc
from cellclass_tf.cli import main
from cellclass_tf.storage import trash


def test_files_are_listed_and_restored_with_their_tables(tmp_path, capsys):
    study = cc.Study.create(tmp_path / "study")
    labels = study.root / "cells" / "mixed" / "a.tif"
    table = labels.with_suffix(".csv")
    labels.parent.mkdir(parents=True)
    labels.write_text("old")
    table.write_text("old types")
    trash.set_aside(study.root, [labels, table])
    labels.write_text("new")
    names = cc.restore(study.root)
    assert [name.partition("/")[2] for name in names] == [
        "cells/mixed/a.csv",
        "cells/mixed/a.tif",
    ]
    assert main.run(["restore", f"--folder={study.root}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        *names,
        "2 files are set aside. `--file` brings one of them back.",
    ]
    arguments = ["restore", f"--folder={study.root}", "--file=cells/mixed/a.tif"]
    assert main.run(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(labels),
        str(table),
        "2 files were brought back.",
    ]
    assert (labels.read_text(), table.read_text()) == ("old", "old types")


def test_missing_folders_and_files_are_refused(tmp_path, capsys):
    assert main.run(["restore", f"--folder={tmp_path / 'none'}"]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert cc.restore(tmp_path) == []
    with pytest.raises(cc.InputError, match=r"has no 'a.tif'; it has nothing"):
        cc.restore(tmp_path, "a.tif")
