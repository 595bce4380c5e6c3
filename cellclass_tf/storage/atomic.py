"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import pathlib
import platform
import re
import tempfile
import time
from collections.abc import Iterator

# What a half-written file's name begins with.
PART_PREFIX = ".part-"

ABANDONED_AFTER_S = 3600


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a temporary sibling of `path` that replaces it when the block succeeds.

    A block that raises, or a process that is killed, leaves `path` as it was.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, since image writers choose the format by it.
    handle, name = tempfile.mkstemp(
        dir=path.parent,
        prefix=f"{PART_PREFIX}{_writer(os.getpid())}-",
        suffix="".join(path.suffixes[-2:]),
    )
    os.close(handle)
    temporary = pathlib.Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes half-written files of processes that are gone.

    Those of another machine, which may share the folder, go after an hour.
    """
    for leftover in folder.glob(f"{PART_PREFIX}*"):
        with contextlib.suppress(OSError):
            if leftover.is_file() and _is_abandoned(leftover):
                leftover.unlink()


def _writer(pid: int) -> str:
    """What tells a process in the name of its half-written files."""
    return f"{re.sub(r'[^A-Za-z0-9]', '', platform.node())[:30]}-{pid}"


def _is_abandoned(leftover: pathlib.Path) -> bool:
    host_and_pid = leftover.name.removeprefix(PART_PREFIX).split("-")[:2]
    if len(host_and_pid) == 2 and host_and_pid[1].isdecimal():
        pid = int(host_and_pid[1])
        if "-".join(host_and_pid) == _writer(pid):
            return not _is_alive(pid)
    return time.time() - leftover.stat().st_mtime > ABANDONED_AFTER_S


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes `content`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
