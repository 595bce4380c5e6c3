"""One function over many files: progress, resume, and failures that harm nobody else."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from absl import logging

from cellclass_tf import errors
from cellclass_tf.batch.jobs import Attempt, Job, attempt
from cellclass_tf.batch.local import Workers
from cellclass_tf.errors import InputError
from cellclass_tf.storage import atomic

__all__ = ["Attempt", "Engine", "Job", "Outcome", "attempt", "run"]

_ENTRY_KEYS = {"name", "fingerprint", "result"}


@dataclasses.dataclass(frozen=True)
class Engine:
    """What runs the jobs.

    Attributes:
      name: 'local', or 'beam' for a runner of Apache Beam that shares its files with
        this machine (see docs/scaling.md).
      processes: of the local engine. With 1 the jobs run in this process: a crash takes
        it along, and no job has a time limit. On Beam the runner's options count.
      beam_options: Beam's flags, '--runner=FlinkRunner' and so on; or one string of
        them, parted by commas.
    """

    name: str = "local"
    processes: int = 1
    beam_options: str | Sequence[str] = ()

    def __post_init__(self):
        """Checks the settings.

        Raises:
          InputError: if they make no sense.
        """
        if isinstance(self.beam_options, str):
            # Values may hold commas too.
            flags = re.split(r",(?=--)", self.beam_options) if self.beam_options else ()
        else:
            flags = self.beam_options
        object.__setattr__(self, "beam_options", tuple(flags))
        if self.name not in _ENGINES:
            raise InputError(
                f"Unknown engine {self.name!r}; known are {', '.join(_ENGINES)}."
            )
        if self.processes < 1:
            raise InputError(f"Expected 1 process or more, got {self.processes}.")
        if self.beam_options and self.name != "beam":
            raise InputError(
                f"beam_options={','.join(self.beam_options)} mean nothing without "
                "engine=beam."
            )


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
    engine: Engine | None = None,
    skip_done: bool = True,
    must_record: bool = True,
) -> Outcome:
    """Calls `function(job.argument)` for every job that is not done yet.

    Args:
      function: returns a JSON-like value and writes its outputs atomically; what it
        raises becomes that job's failure and the rest goes on. Picklable, unless it
        stays in this process.
      jobs: in the order in which they are to run.
      description: the progress bar's caption.
      journal: file that remembers what is done, a line a job, so that a killed run
        goes on where it was; None to remember nothing.
      processes: short for `Engine(processes=processes)`.
      engine: what runs the jobs; what one has done, none does again.
      skip_done: whether jobs are skipped that the journal says are done; a caller that
        knows better what is done wants them all.
      must_record: whether a job that cannot be recorded has failed; without outputs it
        has only to be done again.

    Raises:
      ValueError: if two jobs have one name, since one would overwrite the other.
      InputError: if Apache Beam is not installed, or fails as a whole.
      RuntimeError: if worker processes cannot start.
    """
    _check_names(jobs)
    outcome = Outcome()
    known = _read_journal(journal) if skip_done else {}
    waiting = []
    for job in jobs:
        if _is_done(job, known.get(job.name)):
            outcome.skipped[job.name] = known[job.name]["result"]
        else:
            waiting.append(job)
    _remove_leftovers(waiting)
    engine = engine or Engine(processes=processes)
    attempts = _attempts(function, waiting, engine, journal)
    # What Ctrl-C or an error leaves at work has to end now.
    with contextlib.closing(attempts):
        for job, result, error in _progress(attempts, len(waiting), description):
            unrecorded = None if error else _append(journal, job, result)
            if unrecorded and not must_record:
                logging.log_first_n(logging.WARNING, "%s", 1, unrecorded)
            elif unrecorded:
                error = unrecorded
            if error:
                outcome.failures[job.name] = error
                logging.info("%s failed: %s", errors.one_line(job.name), error)
            else:
                outcome.done[job.name] = result
    # Those of worker processes that were killed.
    _remove_leftovers(job for job in waiting if job.name in outcome.failures)
    return outcome


def results(journal: str | os.PathLike) -> dict[str, Any]:
    """Returns the last result of every job that a journal knows, by name."""
    return {name: entry["result"] for name, entry in _read_journal(journal).items()}


def remember(journal: str | os.PathLike, results: dict[str, Any]) -> None:
    """Puts results into a journal, in place of those that it has by these names.

    Raises:
      InputError: if it cannot be written.
    """
    for name, result in results.items():
        if error := _append(journal, Job(name, None), result):
            raise InputError(error)


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


def _attempts(
    function: Callable, jobs: Sequence[Job], engine: Engine, journal
) -> Iterator[Attempt]:
    if jobs:
        yield from _ENGINES[engine.name](function, jobs, engine, journal)


def _local(function, jobs, engine: Engine, journal) -> Iterator[Attempt]:
    if engine.processes == 1:
        for job in jobs:
            yield job, *attempt(function, job.argument)
        return
    with contextlib.closing(Workers(function, engine.processes)) as workers:
        yield from workers.execute(jobs)


def _beam(function, jobs, engine: Engine, journal) -> Iterator[Attempt]:
    from cellclass_tf.batch import beam

    beside = None if journal is None else pathlib.Path(journal)
    yield from beam.execute(function, jobs, engine.beam_options, beside)


_ENGINES = {"local": _local, "beam": _beam}


def _progress(items: Iterator, total: int, description: str) -> Iterator:
    import tqdm

    return tqdm.tqdm(items, description, total, disable=total == 0, dynamic_ncols=True)


def _read_journal(journal: str | os.PathLike | None) -> dict[str, dict]:
    if journal is None or not pathlib.Path(journal).exists():
        return {}
    entries = {}
    text = pathlib.Path(journal).read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            # A killed run can leave its last line torn; that job is done again.
            continue
        if isinstance(entry, dict) and entry.keys() >= _ENTRY_KEYS:
            entries[entry["name"]] = entry
    return entries


def _append(journal: str | os.PathLike | None, job: Job, result: Any) -> str | None:
    """Writes that a job is done; returns why that failed, or None."""
    if journal is None:
        return None
    path = pathlib.Path(journal)
    entry = {"name": job.name, "fingerprint": job.fingerprint, "result": result}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            # A leading line break ends a torn line of a killed run.
            file.write("\n" + json.dumps(entry))
    except OSError as error:
        return errors.one_line(
            f"{job.name}: done, but that cannot be recorded ({error}); the next run "
            "does it again. Make room on the disk, or see to its permissions."
        )
    return None
