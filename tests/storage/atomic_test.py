"""Tests of cellclass_tf.storage.atomic."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from cellclass_tf.storage import atomic


def test_a_block_that_raises_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail_half_way():
        with atomic.atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_half_written_files_of_ended_processes_are_removed(tmp_path):
    code = (
        "import os, sys; from cellclass_tf.storage import atomic\n"
        "with atomic.atomic_path(sys.argv[1]) as part:\n"
        "    part.write_text('half'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.txt"], check=False)
    (dead,) = tmp_path.glob(f"{atomic.PART_PREFIX}*")
    with atomic.atomic_path(tmp_path / "b.txt") as at_work:
        elsewhere = tmp_path / f"{atomic.PART_PREFIX}otherhost-1-x.txt"
        elsewhere.write_text("half")
        atomic.remove_leftovers(tmp_path)
        assert not dead.exists()
        assert at_work.exists()
        assert elsewhere.exists()
        os.utime(elsewhere, (0, 0))
        atomic.remove_leftovers(tmp_path)
        assert at_work.exists()
        assert not elsewhere.exists()


def test_folders_of_ended_processes_are_removed_too(tmp_path):
    code = (
        "import os, sys, pathlib; from cellclass_tf.storage import atomic\n"
        "with atomic.temporary_folder(pathlib.Path(sys.argv[1])) as part:\n"
        "    (part / 'half').touch(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert list(tmp_path.glob(f"{atomic.PART_PREFIX}*/half"))
    with atomic.temporary_folder(tmp_path) as at_work:
        atomic.remove_leftovers(tmp_path)
        assert list(tmp_path.iterdir()) == [at_work]
    assert not list(tmp_path.iterdir())


def fill(folder, text):
    (folder / f"{text}.txt").write_text(text)


def test_a_new_folder_replaces_the_old_one(tmp_path):
    for text in ("old", "new"):
        with atomic.atomic_folder(tmp_path / "model") as folder:
            fill(folder, text)

    def fail_half_way():
        with atomic.atomic_folder(tmp_path / "model") as folder:
            fill(folder, "half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new.txt"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_folder_survives_a_kill_while_it_is_replaced(tmp_path, monkeypatch, number):
    model, calls = tmp_path / "model", []
    with atomic.atomic_folder(model) as folder:
        fill(folder, "old")

    def killed(function):
        def call(*args, **options):
            calls.append(function)
            if len(calls) > number:
                # From here on nothing is done, as after SIGKILL.
                raise KeyboardInterrupt
            return function(*args, **options)

        return call

    def replace_model():
        with atomic.atomic_folder(model) as folder:
            fill(folder, "new")

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "replace", killed(pathlib.Path.replace))
        patch.setattr(shutil, "rmtree", killed(shutil.rmtree))
        with pytest.raises(KeyboardInterrupt):
            replace_model()
    atomic.recover_folder(model)
    (content,) = model.iterdir()
    assert content.name == ("new.txt" if number == 2 else "old.txt")
    with atomic.atomic_folder(model) as folder:
        fill(folder, "newer")
    assert [path.name for path in model.iterdir()] == ["newer.txt"]
    assert not list(tmp_path.glob(".old-*"))


@pytest.mark.parametrize("umask", [0o077, 0o002, 0o027])
def test_the_umask_determines_the_permissions(tmp_path, umask):
    before = os.umask(umask)
    try:
        atomic.write_text(tmp_path / "a.txt", "a")
        with atomic.atomic_folder(tmp_path / "model"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o777 & ~umask
