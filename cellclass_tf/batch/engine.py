"""What runs the jobs: this process, worker processes, or a runner of Apache Beam."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import pathlib
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Literal

from cellclass_tf.batch.jobs import Attempt, Job, attempt
from cellclass_tf.batch.local import Workers
from cellclass_tf.errors import InputError


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

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
          InputError: if they make no sense.
        """
        flags: Sequence[str]
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

    def execute(
        self, function: Callable, jobs: Sequence[Job], beside: pathlib.Path | None
    ) -> Generator[Attempt, None, None]:
        """Yields each job with what `attempt` returned, in the order of completion.

        Args:
          function: picklable, unless it stays in this process.
          jobs: in the order in which they are to run.
          beside: a file in a folder that workers on other machines share; None takes
            the folder of the first output.
        """
        if jobs:
            yield from _ENGINES[self.name](self, function, jobs, beside)

    def _local(
        self, function: Callable, jobs: Sequence[Job], beside: pathlib.Path | None
    ) -> Iterator[Attempt]:
        if self.processes == 1:
            for job in jobs:
                yield job, *attempt(function, job.argument)
            return
        with contextlib.closing(Workers(function, self.processes)) as workers:
            yield from workers.execute(jobs)

    def _beam(
        self, function: Callable, jobs: Sequence[Job], beside: pathlib.Path | None
    ) -> Iterator[Attempt]:
        from cellclass_tf.batch import beam

        yield from beam.execute(function, jobs, self.beam_options, beside)


_ENGINES = {"local": Engine._local, "beam": Engine._beam}
IN_THIS_PROCESS = Engine()


def takes_engine(function: Callable) -> Callable:
    """Lets a stage be called with `processes`, `engine` and `beam_options`.

    The stage itself gets an `Engine`. Callers give the engine's name and settings, or an
    `Engine` as `engine`.
    """

    def call(
        *args: Any,
        processes: int = 1,
        engine: Literal["local", "beam"] | Engine = "local",
        beam_options: str | Sequence[str] = (),
        **options: Any,
    ) -> Any:
        if not isinstance(engine, Engine):
            engine = Engine(engine, processes, beam_options)
        return function(*args, engine=engine, **options)

    # What `help` and command lines show.
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.name != "engine"]
    added = inspect.signature(call).parameters
    own += [added[name] for name in ("processes", "engine", "beam_options")]
    wrapped: Any = functools.wraps(function)(call)
    wrapped.__signature__ = signature.replace(parameters=own)
    return wrapped
