"""Engines, which run jobs in this process, in worker processes, or on Apache Beam."""

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
    """Settings of the engine that runs jobs.

    Attributes:
      name: 'local', or 'beam' for a runner of Apache Beam that shares its files with
        this machine (see docs/scaling.md).
      processes: number of processes of the local engine. With 1, the jobs run in this
        process: a crash ends it, and jobs have no time limit. On Beam, the runner's own
        options apply instead.
      beam_options: Beam's flags, such as '--runner=FlinkRunner'; or one string with commas
        between them.
    """

    name: str = "local"
    processes: int = 1
    beam_options: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
          InputError: if they are not valid.
        """
        flags: Sequence[str]
        if isinstance(self.beam_options, str):
            # Values may contain commas too.
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
                f"beam_options={','.join(self.beam_options)} have no effect without "
                "engine=beam."
            )

    def execute(
        self, function: Callable, jobs: Sequence[Job], beside: pathlib.Path | None
    ) -> Generator[Attempt, None, None]:
        """Yields each job with what `attempt` returned, in the order of completion.

        Args:
          function: function to call; picklable, unless the jobs run in this process.
          jobs: jobs in the order in which to run them.
          beside: path of a file in a folder that workers on other machines share; None for
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
    """Decorates a stage: adds the arguments `processes`, `engine` and `beam_options`.

    The stage itself receives an `Engine`. Callers pass the name of an engine and its
    settings, or an `Engine` as `engine`.
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

    # `help` and the command line show this signature.
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.name != "engine"]
    added = inspect.signature(call).parameters
    own += [added[name] for name in ("processes", "engine", "beam_options")]
    wrapped: Any = functools.wraps(function)(call)
    wrapped.__signature__ = signature.replace(parameters=own)
    return wrapped
