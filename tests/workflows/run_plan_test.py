"""Tests of cellclass_tf.workflows.run_plan."""

import numpy as np
import pytest
import tifffile

from cellclass_tf.workflows import run_plan
from cellclass_tf.workflows.run_settings import RunSettings


@pytest.fixture
def raw(tmp_path):
    """Makes two raw files of a type, and one of a mixed field."""
    for name in ("HEK/a.tif", "HEK/b.tif", "mixed/c.tif"):
        path = tmp_path / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.zeros((2, 64, 64), np.uint16))
    return tmp_path / "raw"


def settings(raw, **options):
    return RunSettings(input=str(raw), study="study", annotator="watershed", **options)


def test_steps_follow_from_the_settings(raw):
    plan = run_plan.plan_of(settings(raw))
    names = [step.name for step in plan.steps]
    assert names == [name for name in run_plan.STEPS if name != "corrections"]
    assert "3 raw files" in plan.steps[0].what
    plan = run_plan.plan_of(settings(raw, corrections="gui", minutes=4.0))
    steps = {step.name: step for step in plan.steps}
    assert "from gui" in steps["corrections"].what
    assert steps["train"].minutes == 4.0


def test_the_plan_names_minutes_and_disk_space(raw):
    plan = run_plan.plan_of(settings(raw, minutes=30.0))
    lines = str(plan).splitlines()
    assert lines[0].startswith("1. merge the channels")
    assert "(about 30 min)" in lines[3]
    assert "on two cores" in lines[-1]
    assert "0.2 GB of disk space" in lines[-1]


def test_the_bytes_of_a_folder_are_those_of_its_files(tmp_path):
    (tmp_path / "a.zarr" / "0").mkdir(parents=True)
    (tmp_path / "a.zarr" / "0" / "chunk").write_bytes(b"12345")
    (tmp_path / "a.zarr" / "meta").write_bytes(b"12")
    assert run_plan._bytes_of(tmp_path / "a.zarr") == 7
    assert run_plan._bytes_of(tmp_path / "none") == 0
