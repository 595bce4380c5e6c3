"""Finds raw files, and says of each its cell type and acquisition group."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import NamedTuple

from cellclass_tf.core.manifest import image_name
from cellclass_tf.core.micrograph import FILE_SEPARATOR
from cellclass_tf.core.type_names import type_name
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers
from cellclass_tf.microscopy.files import channel_files, inventory
from cellclass_tf.splits import groups

_OF_MICROSCOPES = re.compile(r"(timepoint|zstep|z|t)[ _-]*\d+", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class RawFile:
    """One raw file, or a set of files with one channel each.

    Attributes:
      files: the file or files.
      cell_type: its type, or `mixed`.
      group: name of the dish, well or slide.
      grouped: whether a pattern or a folder gave the group; otherwise each file is its
        own.
    """

    files: channel_files.FileSet
    cell_type: str
    group: str
    grouped: bool

    @property
    def path(self) -> pathlib.Path:
        """The file, or the first of the set."""
        return self.files.paths[0]

    @property
    def name(self) -> str:
        """The paths, as the manifest's column raw_file has them."""
        return FILE_SEPARATOR.join(map(str, self.files.paths))

    @property
    def stem(self) -> str:
        """The file's name without its ending, fit for an image's name."""
        return stem_of(self.files.name)

    @property
    def stem_of_earlier_versions(self) -> str:
        """The same, as it was cut before names that are too long ended with a hash."""
        return image_name(self.files.name, readers.ALL_SUFFIXES, as_before=True)


class Found(NamedTuple):
    """The files to read, why others cannot be, and a line for each kind of files."""

    files: list[RawFile]
    failures: dict[str, str]
    notes: tuple[str, ...]


def find(
    source: pathlib.Path,
    cell_type: str | None,
    group: str | None,
    channel_pattern: str | None = None,
    *,
    allow_lossy: bool = False,
) -> Found:
    """Finds the raw files in a folder, or takes one file.

    Args:
      source: a file, or a folder whose sub-folders are named after cell types.
      cell_type: the type of all files; None to take it from the sub-folders.
      group: regular expression; what it matches last in the path from `source` on names
        the group (its first group, if it has one). None takes the sub-folder of the type
        in which a file lies, 'TYPE/DISH/FILE', and makes each file that lies in none a
        group.
      channel_pattern: see `channel_files.group`.
      allow_lossy: whether JPEG is taken, too.

    Returns:
      The files, sorted; by path or kind the reason why files cannot be taken; and notes,
      see `inventory.Inventory`.

    Raises:
      InputError: if nothing is left, or an expression is none.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist.")
    suffixes = readers.ALL_SUFFIXES if allow_lossy else readers.SUFFIXES
    advice = dict.fromkeys(readers.LOSSY_SUFFIXES, ", or say --allow_lossy")
    listed = inventory.take(source, suffixes, advice=advice)
    paths, failures = list(listed.images), dict(listed.failures)
    if not paths and not failures:
        raise InputError(
            f"{source}: found no image to convert; expected files ending in "
            f"{', '.join(readers.SUFFIXES)}, or sub-folders of them."
        )
    pattern = groups.pattern_of(group)
    grouped = channel_files.group(paths, channel_pattern)
    failures |= grouped.failures
    found, notes = [], listed.notes
    if grouped.parts:
        told = f"{len(grouped.parts)} ({inventory.named(grouped.parts)})"
        notes += (f"read with the file in which their image begins: {told}",)
    for file_set in grouped.sets:
        path = file_set.paths[0]
        try:
            name = type_name(cell_type or _type_from_folder(path, source))
            folder = _dish_folder(path, source, depth=0 if cell_type else 1)
            group_name = _group_of(file_set, source, name, pattern, folder)
            found.append(RawFile(file_set, name, group_name, bool(pattern or folder)))
        except InputError as error:
            failures[str(path)] = str(error)
    if not found:
        raise InputError(next(iter(failures.values())))
    return Found(found, failures, notes)


def stem_of(name: str) -> str:
    """A file's name without an image's ending; see `manifest.image_name`."""
    return image_name(name, readers.ALL_SUFFIXES)


def _type_from_folder(path: pathlib.Path, source: pathlib.Path) -> str:
    parts = path.relative_to(source).parts if source.is_dir() else (path.name,)
    if len(parts) < 2:
        raise InputError(
            f"{path}: of which cell type? Say --cell_type=NAME, or put the files into "
            "sub-folders named after their types."
        )
    return parts[0]


def _dish_folder(path: pathlib.Path, source: pathlib.Path, depth: int) -> str:
    """The folder below that of the type; '' if the file lies in none.

    Folders in which microscopes part one dish by time or plane name none.
    """
    parts = path.relative_to(source).parts[depth:-1] if source.is_dir() else ()
    return parts[0] if parts and not _OF_MICROSCOPES.fullmatch(parts[0]) else ""


def _group_of(
    file_set: channel_files.FileSet,
    source: pathlib.Path,
    cell_type: str,
    pattern: groups.GroupPattern | None,
    folder: str,
) -> str:
    path = file_set.paths[0]
    if pattern is None:
        return f"{cell_type}/{folder or stem_of(file_set.name)}"
    # Folders above the source, and the last match, so that nothing above misleads.
    return pattern.group_in(path.relative_to(source.parent).as_posix(), str(path))
