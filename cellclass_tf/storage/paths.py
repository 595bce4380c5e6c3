"""Paths that are recorded in files, and checks of paths from files."""

from __future__ import annotations

import os
import pathlib

from cellclass_tf.errors import InputError, one_line


def recorded_path(path: str | os.PathLike) -> str:
    """Returns a path in the form for records: absolute, or the address of a bucket."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)


def places_of(
    recorded: str, folder: str | os.PathLike, folder_then: str = ""
) -> list[pathlib.Path]:
    """Returns where a recorded file may be now, the most likely path first.

    Args:
      recorded: the recorded path, see `recorded_path`; '' if there is none. Relative paths
        are from older versions, which did not record the folder that they start from.
      folder: present folder of the record.
      folder_then: path of that folder when the record was written; '' if unknown. With
        it, files that were moved together with the record are found.
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
    """Returns a path if it is below a folder after symbolic links are resolved.

    Raises:
      InputError: if a link leads out of the folder.
    """
    folder = pathlib.Path(os.path.realpath(path.parent))
    if not folder.is_relative_to(os.path.realpath(root)):
        raise InputError(
            f"{path.parent} leads out of {root} to {folder} by a symbolic link. Replace "
            f"the link by a folder; only {root} itself may be a link."
        )
    return path


def check_name(name: str | os.PathLike) -> None:
    """Raises InputError if a name cannot be recorded because it is not in UTF-8."""
    text = os.fspath(name)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{one_line(text)}: the name is not in UTF-8, and cannot be recorded. Rename "
            "it. If the name is correct, set the locale to UTF-8: export LC_ALL=C.UTF-8"
        ) from error


def check_is_file(path: str | os.PathLike) -> None:
    """Raises InputError unless a path is a file; reading a pipe could wait for ever."""
    if os.path.isfile(path):
        return
    if os.path.isdir(path):
        found = "a folder"
    elif os.path.exists(path):
        found = "a pipe or a device"
    elif os.path.islink(path):
        found = f"a broken link to {pathlib.Path(path).readlink()}"
    else:
        found = "nothing"
    raise InputError(f"{path}: expected a file, found {found}.")


def inside(name: str, source: str | os.PathLike) -> pathlib.PurePosixPath:
    """Returns a relative path from a file if it does not lead out of its folder.

    Args:
      name: the path.
      source: the file that contains it, for messages.

    Raises:
      InputError: if the path is absolute or leads out of the folder.
    """
    path = pathlib.PurePosixPath(name)
    if not path.name or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise InputError(
            f"{source} contains {name!r}, a path that leads out of its folder."
        )
    return path
