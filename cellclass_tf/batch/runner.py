"""Runs one function over many files, with progress, resuming, and isolated failures."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cellclass_tf import errors
from cellclass_tf.batch.engine import IN_THIS_PROCESS, Engine
from cellclass_tf.batch.jobs import Job
from cellclass_tf.batch.journal import Journal
from cellclass_tf.messages import logger, progress_bar
from cellclass_tf.storage import atomic


@dataclasses.dataclass
class Outcome:
    """Results of jobs.

    Attributes:
      done: results of the jobs of this run, by name.
      skipped: results of jobs that an earlier run completed, by name.
      failures: reasons of the jobs that failed, by name.
      notes: further messages, one line each.
    """

    done: dict[str, Any] = dataclasses.field(default_factory=dict)
    skipped: dict[str, Any] = dataclasses.field(default_factory=dict)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def results(self) -> dict[str, Any]:
        """Results of this run and of earlier ones, sorted by name."""
        return dict(sorted((self.skipped | self.done).items()))

    def merge(self, other: Outcome) -> Outcome:
        """Returns the outcome of both runs together."""
        return Outcome(
            self.done | other.done,
            self.skipped | other.skipped,
            self.failures | other.failures,
            self.notes + other.notes,
        )


def run(
    function: Callable[[Any], Any],
    jobs: Sequence[Job],
    *,
    description: str,
    unit: str = "field",
    journal: Journal | None = None,
    engine: Engine = IN_THIS_PROCESS,
) -> Outcome:
    """Calls `function(job.argument)` for every job that is not done yet.

    Args:
      function: function that returns a JSON-like value and writes its outputs atomically.
        If it raises an exception, this job fails and the other jobs continue. It has to be
        picklable, unless the jobs run in this process.
      jobs: jobs in the order in which to run them.
      description: caption of the progress bar.
      unit: name of one job in the progress bar.
      journal: journal of completed jobs, with which a run resumes after it was killed;
        None for no journal.
      engine: engine that runs the jobs. All engines skip completed jobs.

    Raises:
      ValueError: if two jobs have the same name, since one would overwrite the other.
      InputError: if Apache Beam is not installed, or fails as a whole.
      RuntimeError: if worker processes cannot start.
    """
    _check_names(jobs)
    outcome = Outcome()
    known = journal.read() if journal and journal.skips_done else {}
    waiting = []
    for job in jobs:
        if _is_done(job, known.get(job.name)):
            outcome.skipped[job.name] = known[job.name]["result"]
        else:
            waiting.append(job)
    waiting = _forget(journal, known, waiting, outcome)
    # Leftovers of skipped jobs are removed too, since a later attempt may have been killed.
    _remove_leftovers(jobs)
    beside = None if journal is None else pathlib.Path(journal.path)
    attempts = engine.execute(function, waiting, beside)
    # After Ctrl-C or an error, the workers have to end at once.
    with contextlib.closing(attempts):
        bar = progress_bar(attempts, description, total=len(waiting), unit=unit)
        for job, result, error in bar:
            unrecorded = journal.append(job, result) if journal and not error else None
            if unrecorded and journal and not journal.must_record:
                if not outcome.notes:
                    logger.warning("%s", unrecorded)
                outcome.notes = (unrecorded,)
            elif unrecorded:
                error = unrecorded
            if error:
                outcome.failures[job.name] = error
                logger.debug("%s failed: %s", errors.one_line(job.name), error)
            else:
                outcome.done[job.name] = result
    # Killed workers leave half-written files, even if their jobs were repeated.
    _remove_leftovers(waiting)
    return outcome


def _forget(
    journal: Journal | None,
    known: Mapping[str, dict],
    waiting: Sequence[Job],
    outcome: Outcome,
) -> list[Job]:
    """Records that the outputs of jobs are about to change; returns the jobs to do.

    A job that is stopped halfway may have written some of them. Without this record it
    would count as done if it is asked for with its former settings again.
    """
    ready = []
    for job in waiting:
        entry = known.get(job.name)
        if journal and entry and entry["fingerprint"] and job.outputs:
            # The result stays, since it tells what is replaced.
            unrecorded = journal.append(Job(job.name, None), entry["result"])
            if unrecorded and journal.must_record:
                outcome.failures[job.name] = unrecorded
                continue
        ready.append(job)
    return ready


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


def _remove_leftovers(jobs: Iterable[Job]) -> None:
    for folder in {path.parent for job in jobs for path in job.outputs}:
        atomic.remove_leftovers(folder)
