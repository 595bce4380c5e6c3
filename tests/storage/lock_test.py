"""Tests of cellclass_tf.storage.lock."""

import os
import subprocess
import sys
import threading

import pytest

from cellclass_tf.errors import InputError
from cellclass_tf.storage import lock

HOLD = """
import pathlib, sys, time
from cellclass_tf.storage import lock
with lock.one_writer(pathlib.Path(sys.argv[1]), "convert"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Makes the lock fail at once if it is held."""
    monkeypatch.setattr(lock, "_GRACE_S", 0.1)


@pytest.fixture
def holder(tmp_path):
    """Starts another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_error_names_the_holder_of_the_lock_and_since_when(holder, tmp_path):
    with (
        pytest.raises(
            InputError,
            match=rf"written to by `convert` \(process {holder.pid} on .*, since 20",
        ),
        lock.one_writer(tmp_path, "annotate"),
    ):
        pass


def test_a_killed_process_releases_its_lock(holder, tmp_path):
    holder.kill()
    holder.wait()
    with lock.one_writer(tmp_path, "annotate"):
        told = (tmp_path / ".journal" / "lock.json").read_text()
        assert "annotate" in told
        assert str(os.getpid()) in told
    # A process that has ended is not named.
    assert not (tmp_path / ".journal" / "lock.json").exists()


def test_the_holder_may_take_the_lock_again_but_not_another_thread(tmp_path):
    failures = []

    def other():
        try:
            with lock.one_writer(tmp_path, "other"):
                pass
        except InputError as error:
            failures.append(str(error))

    with lock.one_writer(tmp_path, "outer"):
        with lock.one_writer(tmp_path, "inner"):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(failures) == 1
        assert "`outer`" in failures[0]
    other()
    assert len(failures) == 1


def test_a_function_that_writes_holds_the_lock_of_its_folder(tmp_path):
    @lock.writes("study")
    def import_things(source, study):
        return (tmp_path / ".journal" / "lock.json").exists()

    assert import_things("x", tmp_path)
    assert import_things("x", study=str(tmp_path))
    # A folder that does not exist is not locked.
    assert not import_things("x", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_new_folder_is_removed_if_the_function_fails(tmp_path):
    @lock.writes("study", creates=True)
    def convert(study, fails):
        if fails:
            raise InputError("nothing to convert")
        (study / "study.yaml").touch()
        return (study / ".journal" / "lock.json").exists()

    with pytest.raises(InputError, match="nothing to convert"):
        convert(tmp_path / "new", True)
    assert not (tmp_path / "new").exists()
    assert convert(tmp_path / "new", False)
    with pytest.raises(InputError, match="nothing to convert"):
        convert(tmp_path / "new", True)
    assert (tmp_path / "new" / "study.yaml").exists()
