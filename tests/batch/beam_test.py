"""Tests of cellclass_tf.batch.beam; see also engines_test."""

import json
import os
import pickle
import signal
import sys

import pytest

from cellclass_tf import batch, errors
from cellclass_tf.batch import beam
from cellclass_tf.storage import atomic


def double(number):
    """Returns twice a number; fails for 13."""
    if number == 13:
        raise ValueError("13 is bad luck")
    return 2 * number


def execute(numbers, options=()):
    jobs = [batch.Job(str(n), n) for n in numbers]
    found = beam.execute(double, jobs, options, None)
    return sorted((job.name, result, error) for job, result, error in found)


def test_every_job_returns_a_result_or_an_error():
    assert execute([1, 13, 20]) == [
        ("1", 2, None),
        ("13", None, "13 is bad luck"),
        ("20", 40, None),
    ]


def test_options_reach_the_runner():
    options = ["--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    assert execute(range(4), options)[3] == ("3", 6, None)


def test_a_missing_runner_is_reported_in_one_error():
    with pytest.raises(errors.InputError, match="--runner=NoSuch: Apache Beam"):
        execute([1], ["--runner=NoSuch"])


def test_without_beam_the_error_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(errors.InputError, match=r"pip install 'cellclass_tf\[beam\]'"):
        execute([1])


def test_the_files_of_results_are_removed(tmp_path):
    jobs = [batch.Job("1", 1)]
    list(beam.execute(double, jobs, (), tmp_path / "journal.jsonl"))
    assert not list(tmp_path.iterdir())


def test_an_argument_that_begins_with_a_function_is_passed_on():
    jobs = [batch.Job("a", (double, 4))]
    assert [r for _, r, _ in beam.execute(call_first, jobs, (), None)] == [8]


def call_first(argument):
    function, number = argument
    return function(number)


def test_completed_jobs_of_a_lost_worker_are_not_repeated(tmp_path):
    (tmp_path / "0").write_text('["kept", null]')
    beam._attempt_and_write(("0", pickle.dumps(1)), double, str(tmp_path))
    beam._attempt_and_write(("1", pickle.dumps(1)), double, str(tmp_path))
    assert (tmp_path / "0").read_text() == '["kept", null]'
    assert json.loads((tmp_path / "1").read_text()) == [2, None]


def write_and_die_once(argument):
    """Leaves a half-written file and dies, but only at the first attempt."""
    function, number, path = argument
    with atomic.atomic_path(path) as temporary:
        temporary.write_text(str(function(number)))
        tried = path.with_suffix(".tried")
        if number == 1 and not tried.exists():
            tried.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_dask_repeats_the_job_of_a_lost_worker_without_leftovers(tmp_path):
    distributed = pytest.importorskip("distributed")
    paths = [tmp_path / f"{number}.txt" for number in range(4)]
    jobs = [batch.Job(p.name, (double, i, p), "", (p,)) for i, p in enumerate(paths)]
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        address = f"--dask_client_address={cluster.scheduler_address}"
        engine = batch.Engine("beam", beam_options=("--runner=DaskRunner", address))
        outcome = batch.run(write_and_die_once, jobs, description="a", engine=engine)
        # The client is closed.
        assert len(cluster.scheduler.clients) <= 1
    assert not outcome.failures
    assert os.getpid() not in outcome.done.values()
    assert [path.read_text() for path in paths] == ["0", "2", "4", "6"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0.txt",
        "1.tried",
        "1.txt",
        "2.txt",
        "3.txt",
    ]
