"""One call of a function on one file, and what to say of it when it goes wrong."""

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
      name: what a person calls it; unique within a run.
      argument: what the function gets; picklable, unless it stays in this process.
      fingerprint: hash of all that the result depends on. A job done before with the
        same fingerprint is not done again, as long as its outputs are there.
      outputs: the files that the function writes, each whole or not at all.
      limit_s: seconds after which its worker process is killed and the job has failed;
        None to wait. Has no effect where there is one process only.
    """

    name: str
    argument: Any
    fingerprint: str = ""
    outputs: tuple[pathlib.Path, ...] = ()
    limit_s: float | None = None


# A job, its result, and why there is none.
Attempt = tuple[Job, Any, str | None]


def attempt(function: Callable[[Any], Any], argument: Any) -> tuple[Any, str | None]:
    """Returns the function's result and None, or None and why it failed, in one line.

    A result has to be JSON-like: it comes back the same from this process, from
    another, and from the journal of an earlier run.
    """
    try:
        return json.loads(json.dumps(function(argument))), None
    # Whatever goes wrong with one file is that file's failure and nobody else's.
    except (Exception, SystemExit) as error:
        return None, errors.one_line(str(error) or type(error).__name__)
