"""Tests of cellclass_tf.workflows.run_steps; tests/workflows/run_test.py runs all steps."""

import pathlib

import pytest

from cellclass_tf import batch
from cellclass_tf.workflows import run_steps
from cellclass_tf.workflows.run_settings import RunSettings


def test_stages_are_numbered_and_timed(capsys):
    stages = run_steps.Stages({"draw": "draw fields", "train": "train a network"})
    with stages("train"):
        assert "[2/2] train a network" in capsys.readouterr().err
    assert list(stages.seconds) == ["train"]
    assert stages.seconds["train"] >= 0


def test_a_stage_that_failed_has_no_time():
    stages = run_steps.Stages({"draw": "draw fields"})
    with pytest.raises(ValueError, match="no"), stages("draw"):
        raise ValueError("no")
    assert stages.seconds == {}


@pytest.mark.parametrize("corrections", [None, ""])
def test_without_a_folder_of_corrections_nothing_is_read(corrections):
    settings = RunSettings(input="raw", study="study", corrections=corrections)
    stages = run_steps.Stages({})
    steps = run_steps.Steps(settings, pathlib.Path("out"), stages)
    assert steps.correct() == batch.Outcome()


def test_the_first_of_many_failures_are_named_and_the_others_counted():
    failures = {f"{number}.tif": "broken" for number in range(8)}
    lines = run_steps.failure_lines(failures)
    assert lines[0] == "failed: 0.tif: broken"
    assert len(lines) == 6
    assert lines[-1] == "and 3 more that failed"
    assert run_steps.failure_lines({}) == []
