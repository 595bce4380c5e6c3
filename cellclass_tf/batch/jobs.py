"""Jobs: calls of a function, each of which returns a result or an error message."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

from cellclass_tf import errors


@dataclasses.dataclass(frozen=True)
class Job:
    """One call of the function.

    Attributes:
      name: name for messages; unique within a run.
      argument: argument of the function; picklable, unless the job runs in this process.
      fingerprint: hash of everything that the result depends on. A job that was completed
        with the same fingerprint is skipped, as long as its outputs exist.
      outputs: paths of the files that the function writes atomically.
      limit_s: time in seconds after which the worker process is killed and the job fails;
        None for no limit. Without worker processes there is no limit.
    """

    name: str
    argument: Any
    fingerprint: str = ""
    outputs: tuple[pathlib.Path, ...] = ()
    limit_s: float | None = None


# (job, result, error); error is None if the job succeeded.
Attempt = tuple[Job, Any, str | None]


def attempt(function: Callable[[Any], Any], argument: Any) -> tuple[Any, str | None]:
    """Calls a function; returns (result, None), or (None, error) with an error of one line.

    The result is converted to JSON and back, so that it is the same from this process, from
    another process, and from the journal of an earlier run.
    """
    try:
        return json.loads(json.dumps(function(argument))), None
    # An error of any kind with one file must not affect other files.
    except (Exception, SystemExit) as error:
        return None, errors.one_line(str(error) or type(error).__name__)
