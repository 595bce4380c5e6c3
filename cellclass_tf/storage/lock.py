"""Locks a folder, so that one process at a time writes to it."""

from __future__ import annotations

import contextlib
import datetime
import functools
import inspect
import json
import os
import pathlib
import platform
from collections.abc import Callable, Iterator
from typing import Any

from cellclass_tf.errors import InputError
from cellclass_tf.storage import csv_json, ledger, paths

LOCK_FILE, _HOLDER_FILE = "lock", "lock.json"
# How long to wait for the lock, since another command may just be ending.
_GRACE_S = 2.0


@contextlib.contextmanager
def one_writer(folder: pathlib.Path, what: str) -> Iterator[None]:
    """Locks a folder for writing, on all machines that share it.

    The thread that holds the lock may take it again. The lock ends with its process, even
    if the process is killed; the next holder removes half-written files.

    Args:
      folder: path of an existing folder.
      what: description of the work, such as the name of a command.

    Raises:
      InputError: if another process or thread is writing to the folder (the message says
        which one, and since when), if the folder cannot be written to, or if its path
        cannot be recorded.
    """
    import filelock

    paths.check_name(folder.absolute())
    path = folder / ".journal" / LOCK_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path, is_singleton=True)
        lock.acquire(timeout=_GRACE_S)
    except filelock.Timeout as error:
        raise InputError(
            f"{folder} is being written to by {_holder(path)}. Run this again when it "
            "has ended."
        ) from error
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written to ({error}). Correct its permissions, or work "
            "on a copy."
        ) from error
    holder = path.with_name(_HOLDER_FILE)
    is_first = lock.lock_counter == 1
    try:
        if is_first:
            now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
            told = {"what": what, "process": os.getpid(), "host": platform.node()}
            csv_json.write_json(holder, told | {"since": now})
            ledger.remove_leftovers(folder)
        yield
    finally:
        if is_first:
            holder.unlink(missing_ok=True)
        lock.release()


def writes(argument: str, *, creates: bool = False) -> Callable[[Callable], Callable]:
    """Decorates a function that writes to a folder which is one of its arguments.

    If the argument is not given, no lock is taken.

    Args:
      argument: name of the argument, whose value is a path, or an object with the path
        `root` or `folder`.
      creates: whether to create a folder that does not exist. Otherwise no lock is taken
        for such a folder, and the function itself reports the error.
    """

    def decorate(function: Callable) -> Callable:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            given = signature.bind(*args, **options).arguments.get(argument)
            if given is None:
                return function(*args, **options)
            if not isinstance(given, str | os.PathLike):
                given = given.root if hasattr(given, "root") else given.folder
            folder = pathlib.Path(given)
            is_new = not folder.exists()
            if not (folder.is_dir() or (is_new and creates)):
                return function(*args, **options)
            if is_new:
                folder.mkdir(parents=True)
            try:
                with one_writer(folder, function.__name__):
                    return function(*args, **options)
            finally:
                if is_new:
                    _remove_if_empty(folder)

        return call

    return decorate


def _remove_if_empty(folder: pathlib.Path) -> None:
    """Removes a folder that contains nothing but a lock."""
    own = folder / ".journal"
    with contextlib.suppress(OSError):
        if {*folder.iterdir()} <= {own} and {*own.iterdir()} <= {own / LOCK_FILE}:
            (own / LOCK_FILE).unlink(missing_ok=True)
            own.rmdir()
            folder.rmdir()


def _holder(path: pathlib.Path) -> str:
    """Returns a description of the holder of a lock."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(path.with_name(_HOLDER_FILE).read_text(encoding="utf-8"))
        return (
            f"`{told['what']}` (process {told['process']} on {told['host']}, since "
            f"{told['since']})"
        )
    return "another command"
