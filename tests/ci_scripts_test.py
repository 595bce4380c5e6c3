"""Tests of the scripts in .ci/ that write files of the project."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def merge_lock():
    spec = importlib.util.spec_from_file_location("m", ROOT / ".ci" / "merge_lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOCK = [
    "# What was tested.",
    "absl-py==1.4.0",
    'colorama==0.4.6; platform_system == "Windows"',
    "torch==2.13.0",
]


def test_versions_are_renewed_and_comments_and_markers_stay(merge_lock):
    freeze = ["absl_py==2.0", "colorama==0.5", "numpy==2.1", "torch==2.14.0+cpu"]
    assert merge_lock.merged(LOCK, freeze) == [
        "# What was tested.",
        "absl-py==2.0",
        'colorama==0.5; platform_system == "Windows"',
        "numpy==2.1",
        "torch==2.14.0",
    ]


def test_packages_of_every_environment_are_renewed_but_not_added(merge_lock):
    freeze = ["pip==26.0", "setuptools==80.1", "wheel==0.45"]
    assert merge_lock.merged(["setuptools==80.0"], freeze) == ["setuptools==80.1"]
    assert merge_lock.merged(["# None."], freeze) == ["# None."]


def test_tensorboard_of_the_lock_starts():
    """It needs pkg_resources, which setuptools had before version 81."""
    command = [sys.executable, "-W", "ignore", "-c", "import tensorboard.default"]
    subprocess.run(command, check=True)


def test_packages_that_are_gone_are_removed(merge_lock):
    assert merge_lock.merged(LOCK, ["torch==2.14.0"]) == [LOCK[0], "torch==2.14.0"]


def test_a_smaller_lock_takes_versions_alone(merge_lock):
    freeze = ["absl-py==2.0", "colorama==0.4.6", "numpy==2.1", "torch==2.14.0"]
    found = merge_lock.merged(LOCK, freeze, only_known=True)
    assert [line.split("==")[0] for line in found] == [
        line.split("==")[0] for line in LOCK
    ]
    with pytest.raises(KeyError, match=r"torch==2\.13\.0 is not in the list"):
        merge_lock.merged(LOCK, freeze[:-1], only_known=True)


def pins(name):
    lines = (ROOT / ".ci" / name).read_text(encoding="utf-8").splitlines()
    return dict(
        re.split("==|;", line)[:2] for line in lines if not line.startswith("#")
    )


def test_the_smaller_lock_has_the_versions_of_the_large_one():
    large = pins("requirements.lock")
    for name, version in pins("requirements-predict.lock").items():
        assert large[name] == version, name


def test_the_page_of_licences_lists_every_package_of_the_lock():
    page = (ROOT / "docs" / "dependency_licences.md").read_text(encoding="utf-8")
    for name, version in pins("requirements.lock").items():
        assert f"| {name} {version} |" in page, name
