"""Tests of cellclass_tf.batch."""

import os
import pathlib

import pytest

from cellclass_tf import batch, files


def write_double(argument):
    """Writes twice a number; 13 is bad luck."""
    number, path = argument
    if number == 13:
        raise ValueError("13 is bad luck")
    files.write_text(path, str(2 * number))
    return {"double": 2 * number}


def jobs(folder: pathlib.Path, numbers, fingerprint="a"):
    return [
        batch.Job(str(n), (n, folder / f"{n}.txt"), fingerprint, (folder / f"{n}.txt",))
        for n in numbers
    ]


def run(folder, numbers, fingerprint="a", processes=1):
    return batch.run(
        write_double,
        jobs(folder, numbers, fingerprint),
        description="double",
        journal=folder / "journal.jsonl",
        processes=processes,
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_a_file_that_fails_is_named_and_the_rest_goes_on(tmp_path, processes):
    outcome = run(tmp_path, [1, 13, 2], processes=processes)
    assert outcome.failures == {"13": "13 is bad luck"}
    assert outcome.results == {"1": {"double": 2}, "2": {"double": 4}}
    assert (tmp_path / "2.txt").read_text() == "4"


def test_what_is_done_is_not_done_again(tmp_path):
    run(tmp_path, [1, 2])
    outcome = run(tmp_path, [1, 2, 3])
    assert sorted(outcome.skipped) == ["1", "2"]
    assert sorted(outcome.done) == ["3"]
    assert sorted(outcome.results) == ["1", "2", "3"]


def test_other_parameters_and_lost_outputs_are_done_again(tmp_path):
    run(tmp_path, [1, 2])
    (tmp_path / "2.txt").unlink()
    assert sorted(run(tmp_path, [1, 2]).done) == ["2"]
    assert sorted(run(tmp_path, [1, 2], fingerprint="b").done) == ["1", "2"]


def test_a_failure_is_tried_again(tmp_path):
    run(tmp_path, [13])
    assert run(tmp_path, [13]).failures


def test_a_torn_last_line_of_a_killed_run_costs_only_that_job(tmp_path):
    run(tmp_path, [1, 2])
    journal = tmp_path / "journal.jsonl"
    journal.write_text(journal.read_text()[:-5])
    assert sorted(run(tmp_path, [1, 2]).done) == ["2"]
    assert sorted(run(tmp_path, [1, 2]).skipped) == ["1", "2"]


def test_half_written_files_of_a_killed_run_are_removed(tmp_path):
    old, young = (tmp_path / f"{files.PART_PREFIX}{name}" for name in ("old", "young"))
    old.write_text("half")
    young.write_text("at work")
    os.utime(old, (0, 0))
    run(tmp_path, [1])
    assert young.exists() and not old.exists()


def die(argument):
    """Kills its process, as the system does when memory is out."""
    os.kill(os.getpid(), 9)


def test_a_worker_that_dies_is_a_failure_and_not_the_end():
    outcome = batch.run(
        die, jobs(pathlib.Path(), [1, 2]), description="die", processes=2
    )
    assert sorted(outcome.failures) == ["1", "2"]


def test_two_jobs_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'1'"):
        run(tmp_path, [1, 1])
