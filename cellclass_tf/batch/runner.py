"""One function over many files: progress, resume, and failures that harm nobody else."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cellclass_tf import errors
from cellclass_tf.batch.engine import IN_THIS_PROCESS, Engine
from cellclass_tf.batch.jobs import Job
from cellclass_tf.batch.journal import Journal
from cellclass_tf.messages import logger, progress_bar
from cellclass_tf.storage import atomic


@dataclasses.dataclass
class Outcome:
    """What became of the jobs: results by name, and reasons of those that failed.

    `notes` say, a line each, what else there was.
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
      function: returns a JSON-like value and writes its outputs atomically; what it
        raises becomes that job's failure and the rest goes on. Picklable, unless it
        stays in this process.
      jobs: in the order in which they are to run.
      description: the progress bar's caption.
      unit: what a job is, in the progress bar.
      journal: remembers what is done, so that a killed run goes on where it was; None
        to remember nothing.
      engine: what runs the jobs; what one has done, none does again.

    Raises:
      ValueError: if two jobs have one name, since one would overwrite the other.
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
    # Of all jobs: one may have been killed that is done since an earlier run.
    _remove_leftovers(jobs)
    beside = None if journal is None else pathlib.Path(journal.path)
    attempts = engine.execute(function, waiting, beside)
    # What Ctrl-C or an error leaves at work has to end now.
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
    # Those of workers that were killed; an engine may have done their jobs once more.
    _remove_leftovers(waiting)
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


def _remove_leftovers(jobs: Iterable[Job]) -> None:
    for folder in {path.parent for job in jobs for path in job.outputs}:
        atomic.remove_leftovers(folder)
