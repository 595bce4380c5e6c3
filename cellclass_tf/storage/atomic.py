"""Files and folders that appear whole or not at all."""

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

# What a half-written file's name begins with, and a folder's that is being replaced.
PART_PREFIX = ".part-"
_OLD_PREFIX = ".old-"

# Of another machine; and of a process that lives, which may have the number of one that
# is gone.
ABANDONED_AFTER_S, _ABANDONED_BY_LIVING_AFTER_S = 3600, 24 * 3600


_Around = Callable[[pathlib.Path], contextlib.AbstractContextManager]


@contextlib.contextmanager
def atomic_path(
    path: str | os.PathLike, around: _Around | None = None
) -> Iterator[pathlib.Path]:
    """Yields a temporary sibling of `path` that replaces it when the block succeeds.

    A block that raises, or a process that is killed, leaves `path` as it was.

    Args:
      path: of the file.
      around: gets the whole temporary file, and returns a context in which it is put in
        the place of `path`; None for none.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, since image writers choose the format by it.
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

    Should the process be killed while the two change places, `recover_folder` brings the
    old one back.

    Args:
      path: of the folder.
      around: as in `atomic_path`.
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
    """Brings back a folder that a killed process was about to replace."""
    old = path.with_name(f"{_OLD_PREFIX}{path.name}")
    with contextlib.suppress(OSError):
        if old.is_dir() and path.exists():
            shutil.rmtree(old)
        elif old.is_dir():
            old.replace(path)


def recover_folders(parent: pathlib.Path) -> None:
    """Recovers every folder in `parent`; nobody else may be replacing one there."""
    for old in parent.glob(f"{_OLD_PREFIX}*"):
        recover_folder(old.with_name(old.name.removeprefix(_OLD_PREFIX)))


@contextlib.contextmanager
def temporary_folder(parent: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a new folder that is removed in the end, unless it was moved away."""
    parent.mkdir(parents=True, exist_ok=True)
    temporary = _new_part(parent, "", pathlib.Path.mkdir)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes half-written files and folders of processes that are gone.

    Those of another machine, which may share the folder, go after an hour.
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
    """Makes a file or folder of which the user's umask says who may read it."""
    name = f"{PART_PREFIX}{_writer(os.getpid())}-{uuid.uuid4().hex[:12]}{suffix}"
    create(parent / name)
    return parent / name


def _create_file(path: pathlib.Path) -> None:
    with open(path, "xb"):
        pass


def _writer(pid: int) -> str:
    """What tells a process in the name of its half-written files."""
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
