"""Worker processes: if one crashes or hangs, only its present job fails.

Each worker has its own pipe and one job at a time. Pools whose workers share a queue and
its locks can lose jobs, or stop, if a worker is killed at the wrong moment.
"""

from __future__ import annotations

import collections
import functools
import math
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cellclass_tf import errors, process_state
from cellclass_tf.batch.jobs import Attempt, Job, attempt

_END_S = 5
_MAX_FALSE_STARTS = 3
# Numbers of threads, which OpenMP (for PyTorch and BLAS) and TensorFlow read when imported.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


class Workers:
    """Worker processes that call one function, and stay between calls of `execute`.

    They start when they are first needed, unpickle the function once, and end with `close`
    or with this process. Several workers divide the cores between them, unless
    OMP_NUM_THREADS or TF_NUM_INTRAOP_THREADS is set.
    """

    def __init__(self, function: Callable[[Any], Any], processes: int) -> None:
        """Pickles the function; the processes start later.

        Raises:
          pickle.PicklingError, AttributeError or TypeError: if it cannot be pickled.
        """
        self._function = pickle.dumps(function)
        self._processes = processes
        self._threads = (
            max(1, process_state.processors() // processes) if processes > 1 else None
        )
        self._workers: list[_Worker] = []
        self._false_starts = 0
        self._killed: set[str] = set()

    def close(self) -> None:
        """Ends the processes, even while they run jobs."""
        while self._workers:
            self._workers.pop().end(at_once=True)

    def execute(self, jobs: Sequence[Job]) -> Iterator[Attempt]:
        """Yields each job with what `attempt` returned, in the order of completion.

        If a worker is killed with SIGKILL, by a person or by the system when memory runs
        out, its job is repeated once after the others.

        Raises:
          RuntimeError: if the processes end before they are ready for jobs.
        """
        waiting = collections.deque(jobs)
        self._killed.clear()
        while waiting or self._busy():
            for _ in range(len(self._workers), self._wanted(len(waiting))):
                self._workers.append(_Worker(self._function, self._threads))
            yield from self._assign(waiting)
            # The last worker may have ended, or the last job may be done.
            if self._workers and (waiting or self._busy()):
                yield from self._collect(waiting)

    def _busy(self) -> int:
        return sum(worker.job is not None for worker in self._workers)

    def _wanted(self, waiting: int) -> int:
        return min(self._processes, waiting + self._busy())

    def _assign(self, waiting: collections.deque[Job]) -> Iterator[Attempt]:
        for worker in list(self._workers):
            while waiting and worker.is_idle:
                job = waiting.popleft()
                try:
                    worker.begin(job)
                except OSError:
                    # The worker died after its last job, which this job did not cause.
                    waiting.appendleft(job)
                    self._count_false_start(self._end(worker))
                    break
                except (pickle.PicklingError, AttributeError, TypeError) as error:
                    yield job, None, errors.one_line(f"{job.name}: {error}")

    def _collect(self, waiting: collections.deque[Job]) -> Iterator[Attempt]:
        """Waits for messages or time limits, and yields jobs that are done or failed."""
        deadline = min(worker.deadline for worker in self._workers)
        timeout = None if deadline == math.inf else max(0, deadline - time.monotonic())
        pipes = [worker.pipe for worker in self._workers]
        ready = multiprocessing.connection.wait(pipes, timeout)
        for worker in list(self._workers):
            if worker.pipe in ready:
                yield from self._hear(worker, waiting)
            elif worker.job is not None and worker.deadline <= time.monotonic():
                job = worker.job
                self._end(worker, at_once=True)
                yield job, None, _too_long(job)

    def _hear(
        self, worker: _Worker, waiting: collections.deque[Job]
    ) -> Iterator[Attempt]:
        job = worker.job
        try:
            found = worker.hear()
        except (EOFError, OSError):
            how = self._end(worker)
            if job is not None and worker.has_begun:
                if how == "SIGKILL" and job.name not in self._killed:
                    # The first time, the file need not be the reason.
                    self._killed.add(job.name)
                    waiting.append(job)
                else:
                    yield job, None, _crash_message(job, how)
            elif job is not None or not worker.is_ready:
                if job is not None:
                    waiting.appendleft(job)
                self._count_false_start(how)
            return
        if job is not None and found is not None:
            self._false_starts = 0
            yield job, *found

    def _end(self, worker: _Worker, *, at_once: bool = False) -> str:
        self._workers.remove(worker)
        return worker.end(at_once=at_once)

    def _count_false_start(self, how: str) -> None:
        self._false_starts += 1
        if self._false_starts >= _MAX_FALSE_STARTS:
            raise RuntimeError(
                f"Worker processes end before they are ready ({how}); see their messages "
                "above. A script needs `if __name__ == '__main__':` around the call that "
                "starts them."
            )


class _Worker:
    """One worker process, as seen by the process that started it."""

    def __init__(self, function: bytes, threads: int | None) -> None:
        # Threads of TensorFlow or OpenMP do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, function, threads), daemon=True
        )
        self._process.start()
        # Our copy of its end would keep the pipe open after the process has ended.
        theirs.close()
        self.is_ready = self.has_begun = False
        self.job: Job | None = None
        self.deadline = math.inf

    @property
    def is_idle(self) -> bool:
        return self.is_ready and self.job is None

    def begin(self, job: Job) -> None:
        self.pipe.send_bytes(pickle.dumps(job.argument))
        self.job = job
        limit_s = math.inf if job.limit_s is None else job.limit_s
        self.deadline = time.monotonic() + limit_s

    def hear(self) -> tuple[Any, str | None] | None:
        """Receives a message: None if the worker is ready or has begun, or its outcome.

        Raises:
          EOFError or OSError: if the process has ended.
        """
        found = self.pipe.recv()
        if found is None:
            self.is_ready, self.has_begun = True, self.job is not None
        else:
            self.job, self.has_begun, self.deadline = None, False, math.inf
        return found

    def end(self, *, at_once: bool) -> str:
        """Ends the process and returns how it ended."""
        self.pipe.close()
        if not at_once:
            self._process.join(_END_S)
        self._process.kill()
        self._process.join(_END_S)
        code = self._process.exitcode
        if code is not None and code < 0:
            return signal.Signals(-code).name
        return f"exit code {code}"


def _work(
    pipe: multiprocessing.connection.Connection, function: bytes, threads: int | None
) -> None:
    """Runs jobs in a worker process until its pipe closes."""
    # Ctrl-C reaches all processes of a terminal; the main process ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for variable in _THREAD_VARIABLES if threads else ():
        os.environ.setdefault(variable, str(threads))
    call = functools.partial(_call, pickle.loads(function))
    pipe.send(None)
    while True:
        try:
            argument = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send(None)
        pipe.send(attempt(call, argument))


def _call(function: Callable[[Any], Any], argument: bytes) -> Any:
    return function(pickle.loads(argument))


def _end_with_parent() -> None:
    """Ends this worker when its parent ends, which cannot do so itself if it is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _too_long(job: Job) -> str:
    return errors.one_line(
        f"{job.name}: stopped after {job.limit_s:g} s, its time limit. Is the file "
        "damaged? If it is only large, increase the limit (limit_s)."
    )


def _crash_message(job: Job, how: str) -> str:
    return errors.one_line(
        f"{job.name}: its process died ({how}). Did memory run out? Run again with fewer "
        "processes. If it fails with one process too, the file may be damaged."
    )
