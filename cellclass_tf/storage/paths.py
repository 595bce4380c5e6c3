"""Paths in records, and paths that a file names."""

from __future__ import annotations

import os
import pathlib

from cellclass_tf.errors import InputError


def recorded_path(path: str | os.PathLike) -> str:
    """Returns a path as it is recorded: absolute, or the address of a bucket."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)


def places_of(
    recorded: str, folder: str | os.PathLike, folder_then: str = ""
) -> list[pathlib.Path]:
    """Returns the places where a recorded path may be now, the likeliest first.

    Args:
      recorded: as the record holds it, see `recorded_path`; '' if it holds none. A
        relative one, of an older version, does not say from which folder.
      folder: of the record.
      folder_then: where that folder was when the record was written, '' if unknown:
        what was moved together with it is found again.
    """
    path, folder = pathlib.Path(recorded), pathlib.Path(os.path.abspath(folder))
    if not recorded:
        return []
    if path.is_absolute() and folder_then:
        between = os.path.relpath(path, folder_then)
        moved = pathlib.Path(os.path.normpath(folder / between))
        return list(dict.fromkeys([path, moved]))
    if path.is_absolute() or ".." in path.parts:
        return [path]
    return [*(parent / path for parent in (folder, *folder.parents)), path]


def inside(name: str, source: str | os.PathLike) -> pathlib.PurePosixPath:
    """Returns a relative path that a file names, if it stays in the folder it is of.

    Raises:
      InputError: if it is absolute or leads out; `source` is the file that names it.
    """
    path = pathlib.PurePosixPath(name)
    if not path.name or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise InputError(f"{source} names {name!r}, a path out of its folder.")
    return path
