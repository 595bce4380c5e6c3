"""Tests of cellclass_tf.batch.beam; see also engines_test."""

import sys

import pytest

from cellclass_tf import batch, errors
from cellclass_tf.batch import beam


def double(number):
    """Twice a number; 13 is bad luck."""
    if number == 13:
        raise ValueError("13 is bad luck")
    return 2 * number


def execute(numbers, options=()):
    jobs = [batch.Job(str(n), n) for n in numbers]
    found = beam.execute(double, jobs, options, None)
    return sorted((job.name, result, error) for job, result, error in found)


def test_every_job_gives_its_result_or_its_reason():
    assert execute([1, 13, 20]) == [
        ("1", 2, None),
        ("13", None, "13 is bad luck"),
        ("20", 40, None),
    ]


def test_options_reach_the_runner():
    options = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    assert execute(range(4), options)[3] == ("3", 6, None)


def test_a_runner_that_is_not_there_is_one_clear_error():
    with pytest.raises(errors.InputError, match="--runner=NoSuch: Apache Beam"):
        execute([1], ["--runner=NoSuch"])


def test_without_beam_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(errors.InputError, match=r"pip install 'cellclass_tf\[beam\]'"):
        execute([1])


def test_results_leave_nothing_behind(tmp_path):
    jobs = [batch.Job("1", 1)]
    list(beam.execute(double, jobs, (), tmp_path / "journal.jsonl"))
    assert not list(tmp_path.iterdir())
