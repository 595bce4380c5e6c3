"""Tests of cellclass_tf.batch.local, including workers that crash or hang."""

import os
import pathlib
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from cellclass_tf.batch.jobs import Job
from cellclass_tf.batch.local import Workers

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def make_workers():
    """Makes workers that are closed when the test ends."""
    made = []

    def make(function, processes=2):
        made.append(Workers(function, processes))
        return made[-1]

    yield make
    for workers in made:
        workers.close()


def outcomes(workers, jobs):
    return {job.name: (result, error) for job, result, error in workers.execute(jobs)}


def crash_at_thirds(number):
    """Crashes at every third number, in different ways."""
    if number % 3 == 0:
        os.kill(os.getpid(), signal.SIGSEGV if number % 2 else signal.SIGKILL)
    return number


def test_each_of_many_crashes_fails_only_its_own_job(make_workers):
    found = outcomes(
        make_workers(crash_at_thirds), [Job(str(n), n) for n in range(1, 41)]
    )
    assert len(found) == 40
    for number in range(1, 41):
        result, error = found[str(number)]
        if number % 3:
            assert (result, error) == (number, None)
        else:
            name = "SIGSEGV" if number % 2 else "SIGKILL"
            assert error.startswith(f"{number}: its process died ({name})")


def die_once(path):
    """Dies by SIGKILL, as when memory runs out, but only at the first attempt."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def test_a_job_whose_process_is_killed_is_repeated_once(make_workers, tmp_path):
    workers = make_workers(die_once)
    jobs = [Job(name, tmp_path / name) for name in "abc"]
    assert outcomes(workers, jobs) == {name: (name, None) for name in "abc"}


def own_pid(argument):
    return os.getpid()


def test_a_worker_that_dies_between_two_jobs_is_replaced(make_workers):
    workers = make_workers(own_pid, processes=1)
    first, _ = outcomes(workers, [Job("a", None)])["a"]
    assert first != os.getpid()
    os.kill(first, signal.SIGKILL)
    second, error = outcomes(workers, [Job("b", None)])["b"]
    assert error is None
    assert second not in (first, os.getpid())


def hang_at_zero(number):
    while number == 0:
        time.sleep(1)
    return number


def test_a_job_beyond_its_limit_is_killed_and_named_in_one_line(make_workers):
    jobs = [Job("dish\n1.tif", 0, limit_s=0.5), Job("a", 1, limit_s=60), Job("b", 2)]
    found = outcomes(make_workers(hang_at_zero), jobs)
    assert found["a"] == (1, None)
    assert found["b"] == (2, None)
    assert found["dish\n1.tif"][1].startswith(r"dish\n1.tif: stopped after 0.5 s, its")


class Unreadable:
    """An argument that cannot be unpickled."""

    def __reduce__(self):
        return (int, ("no number",))


@pytest.mark.parametrize("bad", [lambda: None, Unreadable()], ids=["sent", "read"])
def test_an_argument_that_cannot_be_sent_or_read_fails_alone(make_workers, bad):
    workers = make_workers(hang_at_zero, processes=1)
    found = outcomes(workers, [Job("a", 1), Job("bad", bad)])
    assert found["a"] == (1, None)
    assert found["bad"][1]
    # The worker can still be used, even if no argument can be sent.
    assert list(outcomes(workers, [Job("bad", bad)])) == ["bad"]


def leave(argument):
    sys.exit("a library that knows best")


def test_a_library_that_exits_fails_its_job(make_workers):
    found = outcomes(make_workers(leave, processes=1), [Job("a", None)])
    assert found == {"a": (None, "a library that knows best")}


class CountsLoads:
    """Writes a file each time that it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __setstate__(self, state):
        self.__dict__ = state
        (self.folder / str(os.getpid())).open("a").write("x")

    def __call__(self, argument):
        return os.getpid()


def test_a_process_gets_the_function_once(make_workers, tmp_path):
    found = outcomes(
        make_workers(CountsLoads(tmp_path), processes=1),
        [Job(str(n), n) for n in range(5)],
    )
    (pid,) = {result for result, _ in found.values()}
    assert (tmp_path / str(pid)).read_text() == "x"


class CannotStart:
    """A function that no worker can unpickle."""

    def __call__(self, argument):
        return argument

    def __reduce__(self):
        return (int, ("no number",))


def test_workers_that_cannot_start_raise_one_error(make_workers):
    with pytest.raises(RuntimeError, match="__main__"):
        outcomes(make_workers(CannotStart(), processes=1), [Job("a", 1), Job("b", 1)])


def test_a_function_that_cannot_be_pickled_is_rejected_at_once():
    with pytest.raises((pickle.PicklingError, AttributeError)):
        Workers(lambda argument: argument, 2)


def threads(argument):
    return os.environ.get("OMP_NUM_THREADS")


def test_several_workers_share_the_cores_and_one_has_them_all(
    make_workers, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    jobs = [Job("a", None)]
    assert outcomes(make_workers(threads, cores + 1), jobs) == {"a": ("1", None)}
    assert outcomes(make_workers(threads, 1), jobs) == {"a": (None, None)}
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert outcomes(make_workers(threads, 2), jobs) == {"a": ("7", None)}


SCRIPT = """
    import os, pathlib, signal, time
    from cellclass_tf import batch

    def stay(path):
        path.write_text(str(os.getpid()))
        time.sleep(600)

    if __name__ == "__main__":
        # A shell ignores it for processes in the background of a script.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        jobs = [batch.Job(str(n), pathlib.Path(f"pid{n}")) for n in range(2)]
        batch.run(stay, jobs, description="stay", engine=batch.Engine(processes=2))
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_workers_in_a_long_job_end_with_the_process_that_started_them(tmp_path, signum):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    caller = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    pids = [wait_for(read_pid, tmp_path / f"pid{n}") for n in range(2)]
    os.kill(caller.pid, signum)
    assert caller.wait(30) != 0
    for pid in pids:
        wait_for(is_gone, pid)


def wait_for(function, argument):
    """Calls a function until it returns something true, and returns that."""
    for _ in range(600):
        if found := function(argument):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{function.__name__}({argument}) never came true")


def read_pid(path):
    return int(path.read_text() or 0) if path.exists() else None


def is_gone(pid):
    """Returns whether a process has ended; zombies count as ended."""
    status = pathlib.Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
