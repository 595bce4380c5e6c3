"""Watches and interrupts access of the process to files."""

import contextlib
import os
import sys

_watchers = []


def _hook(event, args):
    # Audit hooks cannot be removed, so that this one calls those who watch at present.
    for watch in tuple(_watchers):
        watch(event, args)


@contextlib.contextmanager
def watching(watch):
    """Calls `watch(event, arguments)` for every audit event of Python in the block."""
    if not _hook_is_there:
        sys.addaudithook(_hook)
        _hook_is_there.append(True)
    _watchers.append(watch)
    try:
        yield
    finally:
        _watchers.remove(watch)


_hook_is_there = []


@contextlib.contextmanager
def unreadable(path):
    """Makes a file unreadable within the block, as its permissions would for all but root."""
    path = os.fspath(path)

    def refuse(event, args):
        names_a_file = event == "open" and isinstance(args[0], str | os.PathLike)
        if names_a_file and os.path.abspath(args[0]) == path:
            raise PermissionError(13, "Permission denied", path)

    with watching(refuse):
        yield
