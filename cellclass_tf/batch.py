"""One function over many files: progress, resume, and failures that harm nobody else."""

from __future__ import annotations

import concurrent.futures.process
import dataclasses
import json
import multiprocessing
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import logging

from cellclass_tf import files

_LEFTOVER_AFTER_S = 3600


@dataclasses.dataclass(frozen=True)
class Job:
    """One call of the function.

    Attributes:
      name: what a person calls it; unique within a run.
      argument: what the function gets; must be picklable if `processes` > 1.
      fingerprint: hash of all that the result depends on. A job done before with the
        same fingerprint is not done again, as long as its outputs are there.
      outputs: the files that the function writes, each whole or not at all.
    """

    name: str
    argument: Any
    fingerprint: str = ""
    outputs: tuple[pathlib.Path, ...] = ()


@dataclasses.dataclass
class Outcome:
    """What became of the jobs: results by name, and reasons of those that failed."""

    done: dict[str, Any] = dataclasses.field(default_factory=dict)
    skipped: dict[str, Any] = dataclasses.field(default_factory=dict)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def results(self) -> dict[str, Any]:
        """Results of this run and of earlier ones, sorted by name."""
        return dict(sorted((self.skipped | self.done).items()))

    def merged(self, other: Outcome) -> Outcome:
        """Returns the outcome of both runs together."""
        return Outcome(
            self.done | other.done,
            self.skipped | other.skipped,
            self.failures | other.failures,
        )


def run(
    function: Callable[[Any], Any],
    jobs: Sequence[Job],
    *,
    description: str,
    journal: str | os.PathLike | None = None,
    processes: int = 1,
) -> Outcome:
    """Calls `function(job.argument)` for every job that is not done yet.

    Args:
      function: returns a JSON-like value and writes its outputs atomically; what it
        raises becomes that job's failure and the rest goes on.
      jobs: in the order in which they are to run.
      description: the progress bar's caption.
      journal: file that remembers what is done, a line a job, so that a killed run
        goes on where it was; None to remember nothing.
      processes: worker processes; 1 runs in this one.

    Raises:
      ValueError: if two jobs have one name, since one would overwrite the other.
    """
    _check_names(jobs)
    outcome = Outcome()
    known = _read_journal(journal)
    waiting = []
    for job in jobs:
        if _is_done(job, known.get(job.name)):
            outcome.skipped[job.name] = known[job.name]["result"]
        else:
            waiting.append(job)
    _remove_leftovers(waiting)
    for job, result, error in _progress(
        _execute(function, waiting, processes), len(waiting), description
    ):
        if error is not None:
            outcome.failures[job.name] = error
            logging.info("%s failed: %s", job.name, error)
            continue
        outcome.done[job.name] = result
        _append(journal, job, result)
    return outcome


def _check_names(jobs: Sequence[Job]) -> None:
    seen = set()
    for job in jobs:
        if job.name in seen:
            raise ValueError(f"Two jobs are named {job.name!r}; names must be unique.")
        seen.add(job.name)


def _is_done(job: Job, entry: dict | None) -> bool:
    return (
        entry is not None
        and entry["fingerprint"] == job.fingerprint
        and all(path.exists() for path in job.outputs)
    )


def _remove_leftovers(jobs: Sequence[Job]) -> None:
    """Removes the half-written files of a run that was killed."""
    for folder in {path.parent for job in jobs for path in job.outputs}:
        for leftover in folder.glob(f"{files.PART_PREFIX}*"):
            # A young one may be another run's that is at work.
            old = time.time() - leftover.stat().st_mtime > _LEFTOVER_AFTER_S
            if old and leftover.is_file():
                leftover.unlink(missing_ok=True)


def _execute(
    function: Callable, jobs: Sequence[Job], processes: int
) -> Iterator[tuple[Job, Any, str | None]]:
    if processes <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, *_attempt(function, job.argument)
        return
    # Threads of TensorFlow or OpenMP do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
        futures = {pool.submit(_attempt, function, j.argument): j for j in jobs}
        for future in concurrent.futures.as_completed(futures):
            try:
                result, error = future.result()
            except concurrent.futures.process.BrokenProcessPool:
                # The next run does again what the pool took with it.
                result, error = None, "a worker process died; out of memory? Run again."
            yield futures[future], result, error


def _attempt(function: Callable, argument: Any) -> tuple[Any, str | None]:
    try:
        return function(argument), None
    # Whatever goes wrong with one file is that file's failure and nobody else's.
    except Exception as error:  # noqa: BLE001
        return None, str(error) or type(error).__name__


def _progress(items: Iterator, total: int, description: str) -> Iterator:
    import tqdm

    return tqdm.tqdm(items, description, total, disable=total == 0, dynamic_ncols=True)


def _read_journal(journal: str | os.PathLike | None) -> dict[str, dict]:
    if journal is None or not pathlib.Path(journal).exists():
        return {}
    entries = {}
    for line in pathlib.Path(journal).read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            # A killed run can leave its last line torn; that job is done again.
            continue
        if isinstance(entry, dict):
            entries[entry["name"]] = entry
    return entries


def _append(journal: str | os.PathLike | None, job: Job, result: Any) -> None:
    if journal is None:
        return
    path = pathlib.Path(journal)
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = {"name": job.name, "fingerprint": job.fingerprint, "result": result}
    with open(path, "a", encoding="utf-8") as file:
        # A leading line break ends a torn line of a killed run.
        file.write("\n" + json.dumps(entry))
