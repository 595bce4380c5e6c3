"""Tests of cellclass_tf.batch."""

import dataclasses
import os
import pathlib
import time

import pytest

from cellclass_tf import batch, errors
from cellclass_tf.storage import atomic


def write_double(argument):
    """Writes twice a number; fails for 13."""
    number, path = argument
    if number == 13:
        raise ValueError("13 is bad luck")
    atomic.write_text(path, str(2 * number))
    return {"double": 2 * number}


def jobs(folder: pathlib.Path, numbers, fingerprint="a"):
    return [
        batch.Job(str(n), (n, folder / f"{n}.txt"), fingerprint, (folder / f"{n}.txt",))
        for n in numbers
    ]


def run(folder, numbers, fingerprint="a", engine=batch.IN_THIS_PROCESS):
    return batch.run(
        write_double,
        jobs(folder, numbers, fingerprint),
        description="double",
        journal=batch.Journal(folder / "journal.jsonl"),
        engine=engine,
    )


ENGINES = (batch.Engine(), batch.Engine(processes=2), batch.Engine("beam"))


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_a_failing_job_is_named_and_the_others_continue(tmp_path, engine):
    outcome = run(tmp_path, [1, 13, 2], engine=engine)
    assert outcome.failures == {"13": "13 is bad luck"}
    assert outcome.results == {"1": {"double": 2}, "2": {"double": 4}}
    assert (tmp_path / "2.txt").read_text() == "4"


def test_completed_jobs_are_not_repeated(tmp_path):
    run(tmp_path, [1, 2])
    outcome = run(tmp_path, [1, 2, 3])
    assert sorted(outcome.skipped) == ["1", "2"]
    assert sorted(outcome.done) == ["3"]
    assert sorted(outcome.results) == ["1", "2", "3"]


def test_jobs_with_other_parameters_or_lost_outputs_are_repeated(tmp_path):
    run(tmp_path, [1, 2])
    (tmp_path / "2.txt").unlink()
    assert sorted(run(tmp_path, [1, 2]).done) == ["2"]
    assert sorted(run(tmp_path, [1, 2], fingerprint="b").done) == ["1", "2"]


def write_and_fail(argument):
    """Writes one of two files, and fails."""
    text, folder = argument
    atomic.write_text(folder / "first.txt", text)
    if text == "fails":
        raise ValueError("stopped halfway")
    atomic.write_text(folder / "second.txt", text)


def test_a_job_that_stopped_halfway_is_repeated_with_its_former_settings(tmp_path):
    outputs = (tmp_path / "first.txt", tmp_path / "second.txt")

    def run_with(text):
        return batch.run(
            write_and_fail,
            [batch.Job("x", (text, tmp_path), text, outputs)],
            description="write",
            journal=batch.Journal(tmp_path / "journal.jsonl"),
        )

    run_with("a")
    assert run_with("fails").failures
    # All outputs exist, but one of them was written with the other settings.
    assert run_with("a").done.keys() == {"x"}
    assert [path.read_text() for path in outputs] == ["a", "a"]
    assert run_with("a").skipped.keys() == {"x"}


def test_a_failed_job_is_tried_again(tmp_path):
    run(tmp_path, [13])
    assert run(tmp_path, [13]).failures


def test_an_incomplete_last_line_of_a_killed_run_affects_only_its_job(tmp_path):
    run(tmp_path, [1, 2])
    journal = tmp_path / "journal.jsonl"
    journal.write_text(journal.read_text()[:-5])
    assert sorted(run(tmp_path, [1, 2]).done) == ["2"]
    assert sorted(run(tmp_path, [1, 2]).skipped) == ["1", "2"]


def test_half_written_files_of_a_killed_run_are_removed(tmp_path):
    old = tmp_path / f"{atomic.PART_PREFIX}old"
    old.write_text("half")
    os.utime(old, (0, 0))
    run(tmp_path, [1])
    assert not old.exists()


def misbehave(argument):
    """Writes half a file and dies, or hangs, or does its work, depending on the argument."""
    number, path = argument
    if number % 3:
        return write_double(argument)
    with atomic.atomic_path(path) as temporary:
        temporary.write_text("half")
        if number % 2:
            time.sleep(60)
        # As the system does when memory runs out.
        os.kill(os.getpid(), 9)
    return None


def test_a_worker_that_dies_or_hangs_fails_only_its_own_job(tmp_path):
    some = [dataclasses.replace(job, limit_s=3) for job in jobs(tmp_path, range(1, 13))]
    engine = batch.Engine(processes=2)
    outcome = batch.run(misbehave, some, description="misbehave", engine=engine)
    assert sorted(outcome.failures) == ["12", "3", "6", "9"]
    assert "stopped after 3 s" in outcome.failures["3"]
    assert "its process died" in outcome.failures["6"]
    assert len(list(tmp_path.iterdir())) == len(outcome.done) == 8


def shout(argument):
    """Raises an exception whose message has two lines."""
    raise ValueError("one\ntwo\x07")


def test_the_message_of_a_failure_is_one_line():
    outcome = batch.run(shout, [batch.Job("a", None)], description="shout")
    assert outcome.failures == {"a": r"one\ntwo\x07"}


def test_a_job_that_cannot_be_recorded_fails_and_the_others_continue(tmp_path):
    # A folder in the place of the journal cannot be written to.
    (tmp_path / "journal.jsonl").mkdir()
    some = jobs(tmp_path, [1, 2])
    journal = tmp_path / "journal.jsonl" / "x" / ".."
    outcome = batch.run(
        write_double, some, description="double", journal=batch.Journal(journal)
    )
    assert sorted(outcome.failures) == ["1", "2"]
    assert all("cannot be recorded" in reason for reason in outcome.failures.values())


def test_an_engine_continues_where_another_stopped(tmp_path):
    run(tmp_path, [1], engine=ENGINES[0])
    assert sorted(run(tmp_path, [1, 2], engine=ENGINES[2]).done) == ["2"]
    assert sorted(run(tmp_path, [1, 2, 3], engine=ENGINES[1]).done) == ["3"]


def test_an_unknown_engine_and_options_without_effect_are_rejected():
    with pytest.raises(errors.InputError, match="'spark'; known are local, beam"):
        batch.Engine("spark")
    with pytest.raises(errors.InputError, match="without engine=beam"):
        batch.Engine(beam_options="--runner=FlinkRunner")


def test_two_jobs_with_one_name_are_rejected(tmp_path):
    with pytest.raises(ValueError, match="'1'"):
        run(tmp_path, [1, 1])


def test_leftovers_of_completed_jobs_are_removed_too(tmp_path):
    run(tmp_path, [1])
    # A run was killed while it repeated the job; no process has this number.
    left = tmp_path / f".part-{atomic._writer(2**22 + 1)}-1.txt"
    left.touch()
    assert run(tmp_path, [1]).skipped
    assert not left.exists()
