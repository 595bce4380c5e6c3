"""Tests of importing the installed cellpose, and of its versions."""

import importlib.metadata
import subprocess
import sys

import pytest

from cellclass_tf.annotation.annotators import cellpose_library
from cellclass_tf.errors import InputError


def test_other_major_versions_are_refused(monkeypatch):
    for version in ("2.3.2", "5.0"):
        monkeypatch.setattr(importlib.metadata, "version", lambda _, v=version: v)
        with pytest.raises(InputError, match=f"cellpose {version} is installed; exp"):
            cellpose_library.installed_version()
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "4.0.9")
    assert cellpose_library.installed_version() == "4.0.9"


def test_without_cellpose_the_error_gives_alternatives(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(InputError, match=r"'cellpose>=3.1.1.2,<4'.*=watershed"):
        cellpose_library.installed_version()


def test_error_says_why_cellpose_cannot_be_imported(monkeypatch):
    import cellpose

    monkeypatch.delattr(cellpose, "models", raising=False)
    monkeypatch.setitem(sys.modules, "cellpose.models", None)
    with pytest.raises(InputError, match=r"cannot be loaded .*cellpose.models.*fits"):
        cellpose_library.load_models()


def test_importing_is_silent_and_leaves_the_precision_of_float32():
    code = (
        "import torch; from cellclass_tf.annotation.annotators import cellpose_library; "
        "cellpose_library.load_models(); print(torch.get_float32_matmul_precision())"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "highest\n"
    assert "WARNING" not in done.stderr
    assert "CPDINO" not in done.stderr
