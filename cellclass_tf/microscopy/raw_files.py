"""Finds raw files, and says of each its cell type and acquisition group."""

from __future__ import annotations

import dataclasses
import pathlib
import re

from cellclass_tf.files import InputError
from cellclass_tf.microscopy import readers


@dataclasses.dataclass(frozen=True)
class RawFile:
    """One raw file.

    Attributes:
      path: of the file.
      cell_type: its type, or `mixed`.
      group: name of the dish, well or slide.
      grouped: whether a pattern gave the group; otherwise each file is its own.
    """

    path: pathlib.Path
    cell_type: str
    group: str
    grouped: bool

    @property
    def stem(self) -> str:
        """The file's name without its ending, fit for an image's name."""
        return stem_of(self.path)


def find(
    source: pathlib.Path, cell_type: str | None, group: str | None
) -> tuple[list[RawFile], dict[str, str]]:
    """Finds the raw files in a folder, or takes one file.

    Args:
      source: a file, or a folder whose sub-folders are named after cell types.
      cell_type: the type of all files; None to take it from the sub-folders.
      group: regular expression; what it matches last in the path from `source` on names
        the group (its first group, if it has one). None makes each file a group.

    Returns:
      The files, sorted, and by path the reason why a file cannot be taken.

    Raises:
      InputError: if nothing is left, or the expression is none.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist.")
    paths = [source] if source.is_file() else _files_below(source)
    if not paths:
        raise InputError(
            f"{source}: found no image to convert; expected files ending in "
            f"{', '.join(readers.SUFFIXES)}, or sub-folders of them."
        )
    pattern = _compiled(group)
    found, failures = [], {}
    for path in paths:
        try:
            name = cell_type or _type_from_folder(path, source)
            group_name = _group_of(path, source, name, pattern)
            found.append(RawFile(path, name, group_name, bool(pattern)))
        except InputError as error:
            failures[str(path)] = str(error)
    if not found:
        raise InputError(next(iter(failures.values())))
    return found, failures


def stem_of(path: pathlib.Path) -> str:
    """A path's last name without an image's ending; odd characters become '_'."""
    name = re.sub(r"(\.ome)?\.(tiff?|png)$", "", path.name, flags=re.IGNORECASE)
    return re.sub(r"[^\w.+-]+", "_", name)


def _files_below(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in readers.SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _type_from_folder(path: pathlib.Path, source: pathlib.Path) -> str:
    parts = path.relative_to(source).parts if source.is_dir() else (path.name,)
    if len(parts) < 2:
        raise InputError(
            f"{path}: of which cell type? Say --cell_type=NAME, or put the files into "
            "sub-folders named after their types."
        )
    return parts[0]


def _compiled(group: str | None) -> re.Pattern | None:
    try:
        return re.compile(group) if group else None
    except re.error as error:
        raise InputError(
            f"--group={group}: no regular expression ({error})."
        ) from error


def _group_of(path, source, cell_type: str, pattern: re.Pattern | None) -> str:
    if pattern is None:
        return f"{cell_type}/{stem_of(path)}"
    # Folders above the source, and the last match, so that nothing above misleads.
    matches = list(pattern.finditer(path.relative_to(source.parent).as_posix()))
    if not matches:
        raise InputError(f"{path}: --group={pattern.pattern} matches nothing in it.")
    return matches[-1].group(1) if pattern.groups else matches[-1].group(0)
