"""Messages of libraries go to a file, so that the terminal shows what matters."""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import TextIO

# Older files are removed.
_KEPT = 20
FOLDER_VARIABLE = "CELLCLASS_LOG_FOLDER"


def folder() -> pathlib.Path:
    """Where log files are kept: $CELLCLASS_LOG_FOLDER, or the user's cache folder."""
    named = os.getenv(FOLDER_VARIABLE)
    if named:
        return pathlib.Path(named)
    cache = os.getenv("LOCALAPPDATA") or os.getenv("XDG_CACHE_HOME")
    return (
        pathlib.Path(cache or pathlib.Path.home() / ".cache") / "cellclass_tf" / "logs"
    )


@contextlib.contextmanager
def catches_messages(command: str) -> Iterator[TextIO]:
    """Sends what libraries write to the standard error output to a log file.

    TensorFlow writes to the process's file descriptor 2, and so do worker processes; the
    package's own messages and progress bars go to the stream that is returned. If something
    was logged, the name of the file is printed at the end.

    Args:
      command: part of the file's name.

    Yields:
      The terminal.
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
    """Opens a new log file, in the temporary folder if no other can be written to."""
    stamp = datetime.datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")
    # What was typed may be no command, and hold what a file name must not.
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
