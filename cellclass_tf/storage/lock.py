"""One writer at a time: a lock on a folder, and who holds it."""

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
# A command that is just ending is waited for.
_GRACE_S = 2.0


@contextlib.contextmanager
def one_writer(folder: pathlib.Path, what: str) -> Iterator[None]:
    """Keeps every other process from writing to a folder, on all machines that share it.

    Whoever holds the lock may take it again. It ends with its process, however that ends;
    what that left half-written, the next holder removes.

    Args:
      folder: that is there.
      what: is done, such as the name of a command.

    Raises:
      InputError: if another process, or thread, writes to it: it says which, and since
        when; or if the folder cannot be written to, or its path cannot be recorded.
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
    """Decorates a function that writes to the folder that one of its arguments names.

    Without that argument the function takes no lock.

    Args:
      argument: its name; a path, or an object with the path `root` or `folder`.
      creates: whether the function makes a folder that is not there. Otherwise such a
        folder is left to the function, to complain of.
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
    """Removes a folder in which there is nothing but a lock."""
    own = folder / ".journal"
    with contextlib.suppress(OSError):
        if {*folder.iterdir()} <= {own} and {*own.iterdir()} <= {own / LOCK_FILE}:
            (own / LOCK_FILE).unlink(missing_ok=True)
            own.rmdir()
            folder.rmdir()


def _holder(path: pathlib.Path) -> str:
    """Who holds a lock, in words."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(path.with_name(_HOLDER_FILE).read_text(encoding="utf-8"))
        return (
            f"`{told['what']}` (process {told['process']} on {told['host']}, since "
            f"{told['since']})"
        )
    return "another command"
