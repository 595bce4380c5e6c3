"""Writes the messages of libraries to a log file instead of the terminal."""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import TextIO

# Number of log files that are kept; older ones are removed.
_KEPT = 20
FOLDER_VARIABLE = "CELLCLASS_LOG_FOLDER"


def folder() -> pathlib.Path:
    """Returns the folder of the log files: $CELLCLASS_LOG_FOLDER, or the user's cache."""
    named = os.getenv(FOLDER_VARIABLE)
    if named:
        return pathlib.Path(named)
    cache = os.getenv("LOCALAPPDATA") or os.getenv("XDG_CACHE_HOME")
    return (
        pathlib.Path(cache or pathlib.Path.home() / ".cache") / "cellclass_tf" / "logs"
    )


@contextlib.contextmanager
def catches_messages(command: str) -> Iterator[TextIO]:
    """Redirects what libraries write to the standard error stream to a log file.

    TensorFlow and worker processes write to the file descriptor 2 of the process. The
    package's own messages and progress bars belong on the stream that is yielded. If
    anything was logged, the name of the file is printed at the end.

    Args:
      command: name of the command, which becomes part of the file's name.

    Yields:
      A stream that still writes to the terminal.
    """
    sys.stderr.flush()
    path, log = _new_file(command)
    terminal = os.fdopen(
        os.dup(2), "w", encoding=sys.stderr.encoding, errors="backslashreplace"
    )
    os.dup2(log, 2)
    os.close(log)
    try:
        yield terminal
    finally:
        sys.stderr.flush()
        terminal.flush()
        os.dup2(terminal.fileno(), 2)
        if path.stat().st_size:
            print(f"Messages of libraries are in {path}", file=terminal, flush=True)
        else:
            path.unlink()


def _new_file(command: str) -> tuple[pathlib.Path, int]:
    """Opens a new log file, in a temporary folder if the usual one is not writable."""
    stamp = datetime.datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    # The user may have typed something else, with characters unfit for a file name.
    command = "".join(c for c in command if c.isalnum() or c == "-")[:40]
    name = f"{stamp}_{command}_{os.getpid()}.log"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with contextlib.suppress(OSError):
        path = folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in sorted(path.parent.glob("*.log"), reverse=True)[_KEPT - 1 :]:
            old.unlink(missing_ok=True)
        return path, os.open(path, flags, 0o600)
    path = pathlib.Path(tempfile.mkdtemp(prefix="cellclass_")) / name
    return path, os.open(path, flags, 0o600)
