"""Paths in records, and paths that a file names."""

from __future__ import annotations

import os
import pathlib

from cellclass_tf.errors import InputError, one_line


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


def check_below(root: str | os.PathLike, path: pathlib.Path) -> pathlib.Path:
    """Returns a path below a folder, if no link on the way to it leads elsewhere.

    Raises:
      InputError: if one does.
    """
    folder = pathlib.Path(os.path.realpath(path.parent))
    if not folder.is_relative_to(os.path.realpath(root)):
        raise InputError(
            f"{path.parent} leads out of {root}, to {folder}, by a link. Put a folder in "
            f"its place; {root} as a whole may be a link."
        )
    return path


def check_name(name: str | os.PathLike) -> None:
    """Raises InputError if a name cannot be recorded, since it is not in UTF-8."""
    text = os.fspath(name)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{one_line(text)}: the name is not in UTF-8, and cannot be recorded. Rename "
            "it. If it is right, tell Python of UTF-8: export LC_ALL=C.UTF-8"
        ) from error


def check_is_file(path: str | os.PathLike) -> None:
    """Raises InputError unless a file lies there: a pipe would be waited for, for ever."""
    if os.path.isfile(path):
        return
    if os.path.isdir(path):
        found = "a folder"
    elif os.path.exists(path):
        found = "a pipe or a device"
    elif os.path.islink(path):
        found = f"a link to {pathlib.Path(path).readlink()}, where nothing is"
    else:
        found = "nothing"
    raise InputError(f"{path}: expected a file, found {found}.")


def inside(name: str, source: str | os.PathLike) -> pathlib.PurePosixPath:
    """Returns a relative path that a file names, if it stays in the folder it is of.

    Raises:
      InputError: if it is absolute or leads out; `source` is the file that names it.
    """
    path = pathlib.PurePosixPath(name)
    if not path.name or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise InputError(f"{source} names {name!r}, a path out of its folder.")
    return path
