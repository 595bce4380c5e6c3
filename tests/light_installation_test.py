"""Tests of prediction, reports and exports with the packages of the light installation."""

import importlib.util
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    # pytest requires it.
    import tomli as tomllib

from cellclass_tf import errors
from tests.fake_model import save_model

ROOT = pathlib.Path(__file__).parents[1]
# Required packages that .ci/requirements-predict.lock leaves out, and what they import.
LEFT_OUT = {
    "cellpose": "cellpose",
    "importlib_resources": "importlib_resources",
    "tensorflow-datasets": "tensorflow_datasets",
    "tf-models-official": "official",
    "tf_keras": "tf_keras",
    "torch": "torch",
}
# Not required by anything that is installed then, directly or not.
ALSO_MISSING = ("apache_beam", "orbit", "pandas", "tensorflow_hub", "tensorflow_text")

PROGRAM = """
    import sys

    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in BLOCKED:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    BLOCKED = set(sys.argv[1].split(","))
    sys.meta_path.insert(0, Refuse())

    from cellclass_tf.cli import main
    import cellclass_tf as cc

    def run(*arguments, status=main.DONE):
        assert main.run(arguments) == status, arguments

    cc.Study, cc.Predictor, cc.convert
    run("simulate", "--study=s", "--images_per_type=1", "--mixed=1", "--size=128",
        "--dishes=1", "--processes=1")
    run("predict", "--model=model", "--input=s/raw/mixed", "--output=p",
        "--pixel_size_um=0.325", "--min_probability=0.5")
    run("report", "--predictions=p")
    for form in ("imagej", "coco", "geojson", "ome", "zarr"):
        run("export", "--predictions=p", f"--format={form}", f"--output={form}")
    run("trace", "p/cells.csv", status=main.USAGE)
    run("convert", "--input=s/raw", "--study=s", "--processes=1")
    run("annotate", "--study=s", "--annotator=watershed")
    print("ANSWERS", file=sys.stderr)
    run("annotate", "--study=s", "--annotator=cellpose", "--change_settings",
        status=main.USAGE)
    run("dataset", "--study=s", status=main.USAGE)
    run("check", "--study=s", status=main.USAGE)
    run("train", "--study=s", "--output=t", status=main.USAGE)
    run("export-model", "--training=t", "--output=m", status=main.USAGE)
    run("demo", "--output=d", status=main.USAGE)
    run("run", "--input=s/raw", "--study=s", "--output=r", status=main.USAGE)
    assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
"""


def test_prediction_reports_and_exports_need_no_training_packages(tmp_path):
    save_model(tmp_path / "model")
    blocked = ",".join((*LEFT_OUT.values(), *ALSO_MISSING))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), blocked],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr[-3000:]
    assert (tmp_path / "p" / "report.html").exists()
    assert (tmp_path / "p" / "cells.csv").read_text().count("\n") > 1
    answers = [
        line
        for line in done.stderr.rpartition("ANSWERS")[2].splitlines()
        if line.startswith("cellclass: ")
    ]
    assert len(answers) == 7
    assert "cellpose cannot be loaded" in answers[0]
    for answer in answers[1:]:
        assert "tensorflow-datasets" in answer
        assert "pip install cellclass_tf" in answer
    for answer in answers[3:]:
        assert "tf-models-official" in answer
    # Nothing was started that could not be finished.
    assert not [name for name in "tmdr" if (tmp_path / name).exists()]


def requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    formats = ("czi", "dv", "lif", "nd2", "oif", "zarr")
    extras = project["optional-dependencies"]
    return project["dependencies"] + [line for name in formats for line in extras[name]]


def name_of(requirement):
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def pins(file):
    lines = (ROOT / ".ci" / file).read_text(encoding="utf-8").splitlines()
    lines = [line.partition(";")[0].strip() for line in lines if line[:1] != "#"]
    return {name_of(line): line for line in lines if line}


def test_the_lock_has_all_requirements_except_those_left_out():
    light, full = pins("requirements-predict.lock"), pins("requirements.lock")
    left_out = {name_of(name) for name in LEFT_OUT}
    assert {name_of(r) for r in requirements()} - left_out <= set(light)
    assert not left_out & set(light)
    assert light.items() <= full.items()


def test_the_default_installation_is_complete_on_linux():
    for requirement in requirements():
        if name_of(requirement) in {name_of(name) for name in LEFT_OUT}:
            marker = requirement.partition(";")[2].strip()
            assert marker in ("", 'platform_system != "Windows"'), requirement


def test_on_windows_training_is_refused_and_says_where_it_works(monkeypatch):
    monkeypatch.setattr(errors.platform, "system", lambda: "Windows")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.InputError, match="train on Linux, macOS"):
        errors.require("cellclass train", *errors.FOR_TRAINING)
    with pytest.raises(errors.InputError, match="pip install cellclass_tf"):
        errors.require("cellclass dataset", "tensorflow_datasets")


def test_installed_packages_are_not_reported_as_missing():
    errors.require("cellclass train", *errors.FOR_TRAINING)
