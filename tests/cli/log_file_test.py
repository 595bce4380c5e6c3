"""Tests of cellclass_tf.cli.log_file."""

import os
import subprocess
import sys

import pytest

from cellclass_tf.cli import log_file

PROGRAM = """
import os, sys, warnings
from cellclass_tf import messages
from cellclass_tf.cli import log_file
with log_file.catches_messages("predict") as terminal, messages.shown_on(terminal):
    messages.logger.warning("of the package")
    if sys.argv[1] != "quiet":
        os.write(2, b"of TensorFlow\\n")
        warnings.warn("of a library")
    print("result")
    if sys.argv[1] == "crash":
        raise ZeroDivisionError("nobody expected this")
"""


def run(tmp_path, how):
    environment = os.environ | {log_file.FOLDER_VARIABLE: str(tmp_path / "logs")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_lines_that_tfds_prints_while_it_prepares_a_dataset_are_logged(
    make_simulated_study, tmp_path
):
    root = make_simulated_study(tmp_path / "study", size=224)
    command = [sys.executable, "-m", "cellclass_tf.cli", "dataset", "--processes=1"]
    found = subprocess.run(
        [*command, f"--study={root}"],
        env=os.environ | {log_file.FOLDER_VARIABLE: str(tmp_path / "logs")},
        capture_output=True,
        text=True,
        check=True,
    )
    (path,) = (tmp_path / "logs").iterdir()
    for line in ("Downloading and preparing dataset", "downloaded and prepared to"):
        assert line in path.read_text()
        assert line not in found.stdout + found.stderr
    assert "cell_types/study/2.0.0" in found.stdout


@pytest.mark.parametrize("how", ["run", "quiet", "crash"])
def test_the_terminal_has_our_messages_and_the_file_those_of_libraries(tmp_path, how):
    found = run(tmp_path, how)
    assert found.stdout == "result\n"
    assert found.stderr.startswith("Warning: of the package\n")
    assert "TensorFlow" not in found.stderr
    assert "of a library" not in found.stderr
    logs = list((tmp_path / "logs").iterdir())
    if how == "quiet":
        assert not logs
        assert found.stderr.count("\n") == 1
        assert not found.returncode
        return
    (path,) = logs
    assert f"Messages of libraries are in {path}" in found.stderr
    text = path.read_text()
    assert "of TensorFlow" in text
    assert "of a library" in text
    assert "of the package" not in text
    # The traceback of an unexpected error is shown on the terminal.
    assert found.returncode == (how == "crash")
    assert ("ZeroDivisionError: nobody expected this" in found.stderr) == (
        how == "crash"
    )


def test_old_files_are_removed_and_a_folder_that_cannot_be_written_does_no_harm(
    tmp_path, monkeypatch
):
    monkeypatch.setenv(log_file.FOLDER_VARIABLE, str(tmp_path / "logs"))
    for _ in range(3):
        path, number = log_file._new_file("check")
        os.close(number)
    path, number = log_file._new_file("../no/command")
    os.close(number)
    assert path.parent == tmp_path / "logs"
    assert "nocommand" in path.name
    monkeypatch.setattr(log_file, "_KEPT", 1)
    (tmp_path / "logs" / "2020-01-01_check.log").write_text("")
    path, number = log_file._new_file("check")
    os.close(number)
    assert [*(tmp_path / "logs").iterdir()] == [path]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(log_file.FOLDER_VARIABLE, str(tmp_path / "file" / "logs"))
    path, number = log_file._new_file("check")
    os.close(number)
    assert path.exists()
    assert tmp_path not in path.parents
    monkeypatch.delenv(log_file.FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert log_file.folder() == tmp_path / "cache" / "cellclass_tf" / "logs"
