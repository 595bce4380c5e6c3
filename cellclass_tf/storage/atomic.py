"""Atomic writing: a file or folder appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import pathlib
import platform
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator

# Prefixes of the names of half-written files, and of folders that are being replaced.
PART_PREFIX = ".part-"
_OLD_PREFIX = ".old-"

# Age from which on a half-written file of another machine counts as abandoned, and age for
# files of a process id that is in use, perhaps by another process than before.
ABANDONED_AFTER_S, _ABANDONED_BY_LIVING_AFTER_S = 3600, 24 * 3600


_Around = Callable[[pathlib.Path], contextlib.AbstractContextManager]


@contextlib.contextmanager
def atomic_path(
    path: str | os.PathLike, around: _Around | None = None
) -> Iterator[pathlib.Path]:
    """Yields a temporary file beside `path` that replaces it when the block succeeds.

    If the block raises an exception or the process is killed, `path` does not change.

    Args:
      path: path of the file.
      around: function that takes the path of the complete temporary file and returns a
        context manager, within which the file replaces `path`; None for no context.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept, since image writers choose the format by it.
    temporary = _new_part(path.parent, "".join(path.suffixes[-2:]), _create_file)
    try:
        yield temporary
        with around(temporary) if around else contextlib.nullcontext():
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(
    path: str | os.PathLike, around: _Around | None = None
) -> Iterator[pathlib.Path]:
    """Yields a new folder beside `path` that replaces it when the block succeeds.

    If the process is killed during the replacement, `recover_folder` restores the old
    folder.

    Args:
      path: path of the folder.
      around: see `atomic_path`.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(path)
    remove_leftovers(path.parent)
    old = path.with_name(f"{_OLD_PREFIX}{path.name}")
    with temporary_folder(path.parent) as new:
        yield new
        with around(new) if around else contextlib.nullcontext():
            if path.exists():
                path.replace(old)
            new.replace(path)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(path: pathlib.Path) -> None:
    """Restores a folder that a killed process was about to replace."""
    old = path.with_name(f"{_OLD_PREFIX}{path.name}")
    with contextlib.suppress(OSError):
        if old.is_dir() and path.exists():
            shutil.rmtree(old)
        elif old.is_dir():
            old.replace(path)


def recover_folders(parent: pathlib.Path) -> None:
    """Restores all folders in `parent`; no other process may be replacing one there."""
    for old in parent.glob(f"{_OLD_PREFIX}*"):
        recover_folder(old.with_name(old.name.removeprefix(_OLD_PREFIX)))


@contextlib.contextmanager
def temporary_folder(parent: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a new folder that is removed after the block, unless it was moved away."""
    parent.mkdir(parents=True, exist_ok=True)
    temporary = _new_part(parent, "", pathlib.Path.mkdir)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes half-written files and folders of processes that have ended.

    Those of another machine that shares the folder are removed after an hour.
    """
    for leftover in folder.glob(f"{PART_PREFIX}*"):
        with contextlib.suppress(OSError):
            if not _is_abandoned(leftover):
                continue
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()


def _new_part(
    parent: pathlib.Path, suffix: str, create: Callable[[pathlib.Path], object]
) -> pathlib.Path:
    """Creates a file or folder, with the permissions that the user's umask allows."""
    name = f"{PART_PREFIX}{_writer(os.getpid())}-{uuid.uuid4().hex[:12]}{suffix}"
    create(parent / name)
    return parent / name


def _create_file(path: pathlib.Path) -> None:
    with open(path, "xb"):
        pass


def _writer(pid: int) -> str:
    """Returns the part of the name of half-written files that identifies a process."""
    return f"{re.sub(r'[^A-Za-z0-9]', '', platform.node())[:30]}-{pid}"


def _is_abandoned(leftover: pathlib.Path) -> bool:
    age_s = time.time() - leftover.lstat().st_mtime
    host_and_pid = leftover.name.removeprefix(PART_PREFIX).split("-")[:2]
    if len(host_and_pid) == 2 and host_and_pid[1].isdecimal():
        pid = int(host_and_pid[1])
        if "-".join(host_and_pid) == _writer(pid):
            return not _is_alive(pid) or age_s > _ABANDONED_BY_LIVING_AFTER_S
    return age_s > ABANDONED_AFTER_S


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
