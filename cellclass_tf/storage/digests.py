"""Hashes of files and settings, by which changes are detected."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from typing import Any

from cellclass_tf.errors import InputError
from cellclass_tf.storage import paths


def sha256_of_file(path: str | os.PathLike) -> str:
    """Returns the hexadecimal SHA-256 of a file's bytes.

    Raises:
      InputError: if the path is not a file, or if the file cannot be read.
    """
    paths.check_is_file(path)
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}).") from error
    return digest.hexdigest()


def size_of_path(path: str | os.PathLike) -> int:
    """Returns the bytes of a file or folder, with everything that belongs to it.

    What belongs to a path is as in `sha256_of_path`.
    """
    path = pathlib.Path(path)
    own = 0 if path.is_dir() else path.stat().st_size
    return own + sum(file.stat().st_size for file in _files_of(path))


def _files_of(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files in a folder, or in the folder that belongs to a file, sorted."""
    folder = path if path.is_dir() else path.with_name(f"{path.name}.files")
    return sorted(inner for inner in folder.rglob("*") if inner.is_file())


def sha256_of_path(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file or folder, with everything that belongs to it.

    For a folder, such as OME-Zarr, see `sha256_of_tree`. An OIF file keeps its pixels in the
    folder PATH.files; the result is a hash of the SHA-256 of the file and that of the
    folder.

    Raises:
      InputError: if a file does not exist, or if it cannot be read.
    """
    if os.path.isdir(path):
        return sha256_of_tree(path)
    beside = f"{os.fspath(path)}.files"
    if not os.path.isdir(beside):
        return sha256_of_file(path)
    both = sha256_of_file(path) + sha256_of_tree(beside)
    return hashlib.sha256(both.encode()).hexdigest()


def sha256_of_tree(folder: str | os.PathLike) -> str:
    """Returns one SHA-256 over the names and bytes of all files below `folder`."""
    folder = pathlib.Path(folder)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(sha256_of_file(path).encode())
    return digest.hexdigest()


def fingerprint(*parts: Any) -> str:
    """Returns a short hash of JSON-like values; a path includes its size and mtime.

    If the path is a folder, or has one (see `sha256_of_path`), so do all files in it.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, pathlib.Path):
            inner = [[str(file), _status(file)] for file in _files_of(part)]
            # A folder's own size and mtime say nothing about its files.
            own = None if part.is_dir() else _status(part)
            part = [str(part), own, *inner]
        digest.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\0")
    return digest.hexdigest()[:16]


def _status(path: pathlib.Path) -> tuple[int, int] | None:
    """Returns size and mtime; None for a missing file, which is reported when it is opened."""
    if not path.exists():
        return None
    status = path.stat()
    return status.st_size, status.st_mtime_ns
