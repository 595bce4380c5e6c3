"""Finds raw files, with their cell types and acquisition groups."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from cellclass_tf.core.manifest import image_name
from cellclass_tf.core.micrograph import FILE_SEPARATOR
from cellclass_tf.core.type_names import type_name
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers
from cellclass_tf.microscopy.files import channel_files, inventory
from cellclass_tf.splits import groups

_FOCAL_PLANE = re.compile(r"zstep[ _-]*\d+", re.IGNORECASE)
_OF_MICROSCOPES = re.compile(r"(timepoint|zstep)[ _-]*\d+", re.IGNORECASE)
# Such folders may also be dishes, such as treatments.
_PERHAPS_OF_MICROSCOPES = re.compile(r"[zt][ _-]*\d+", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class RawFile:
    """One raw file, or a set of files with one channel each.

    Attributes:
      files: the file or files.
      cell_type: its cell type, or `mixed`.
      group: name of the dish, well or slide.
      grouped: whether a pattern or a folder named the group; if not, the file is a group
        of its own, and so is each well of a plate.
    """

    files: channel_files.FileSet
    cell_type: str
    group: str
    grouped: bool

    @property
    def path(self) -> pathlib.Path:
        """The file, or the first of the set."""
        return self.files.paths[0]

    def group_of(self, well: str) -> str:
        """Returns the group of the fields of a well; '' stands for a file without wells."""
        return self.group if self.grouped or not well else f"{self.group}_{well}"

    @property
    def name(self) -> str:
        """The paths in the form of the manifest's column raw_file."""
        return FILE_SEPARATOR.join(map(str, self.files.paths))

    @property
    def stem(self) -> str:
        """The file's name without its ending, in the form of an image's name."""
        return stem_of(self.files.name)

    @property
    def stem_of_earlier_versions(self) -> str:
        """The same as earlier versions made it, which cut long names without a hash."""
        return image_name(self.files.name, readers.ALL_SUFFIXES, as_before=True)


class Found(NamedTuple):
    """The files to read, the reasons why others cannot be read, and notes for the user."""

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
      group: regular expression; its last match in the path from `source` on names the
        group (by its first capturing group, if it has one). If None, the folder DISH
        names the group of a file TYPE/DISH/FILE, and each other file is a group of its
        own (of a plate, each well; see `RawFile.group_of`).
      channel_pattern: see `channel_files.group`.
      allow_lossy: whether to read JPEG files, too.

    Returns:
      The files, sorted; the reasons why others cannot be read, by path or ending; and
      notes, see `inventory.Inventory`.

    Raises:
      InputError: if no file can be read, or a pattern is not a valid regular expression.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist.")
    suffixes = readers.ALL_SUFFIXES if allow_lossy else readers.SUFFIXES
    advice = dict.fromkeys(readers.LOSSY_SUFFIXES, ", or add --allow_lossy")
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
    depth = 0 if cell_type else 1
    no_dishes = _time_or_plane_folders(paths, source, depth)
    if no_dishes and not pattern:
        notes += (
            f"dishes: {len(no_dishes)} folders ({inventory.named(no_dishes)}) seem to be time "
            "points or focal planes, and name no dish: they hold files of the same names. If "
            "they are dishes, rename the folders",
        )
    sets, of_planes = _without_focal_planes(grouped.sets, source)
    failures |= of_planes
    for file_set in sets:
        path = file_set.paths[0]
        try:
            name = type_name(cell_type or _type_from_folder(path, source))
            folder = _dish_folder(path, source, depth, no_dishes)
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
            f"{path}: the cell type is not known. Set --cell_type=NAME, or put the files "
            "into sub-folders named after their types."
        )
    return parts[0]


def _dish_folder(
    path: pathlib.Path,
    source: pathlib.Path,
    depth: int,
    no_dishes: Collection[pathlib.Path],
) -> str:
    """Returns the folder below that of the type, which names the dish; '' without one.

    Folders into which microscopes sort one dish by time or plane do not name a dish.
    """
    folder = _folder_at(path, source, depth)
    if folder is None or folder in no_dishes or _OF_MICROSCOPES.fullmatch(folder.name):
        return ""
    return folder.name


def _time_or_plane_folders(
    paths: Iterable[pathlib.Path], source: pathlib.Path, depth: int
) -> set[pathlib.Path]:
    """Returns the folders T1, T2 … or Z1, Z2 … that hold one dish at other times or planes.

    That is the case if all folders beside them are called so, and hold files of the same
    names.
    """
    beside: dict[pathlib.Path, dict[pathlib.Path, set[pathlib.Path]]] = {}
    for path in paths:
        folder = _folder_at(path, source, depth)
        if folder:
            names = beside.setdefault(folder.parent, {}).setdefault(folder, set())
            names.add(path.relative_to(folder))
    found: set[pathlib.Path] = set()
    for folders in beside.values():
        first, *others = folders.values()
        named_so = (_PERHAPS_OF_MICROSCOPES.fullmatch(f.name) for f in folders)
        if all(named_so) and all(names == first for names in others):
            found.update(folders)
    return found


def _without_focal_planes(
    sets: Sequence[channel_files.FileSet], source: pathlib.Path
) -> tuple[list[channel_files.FileSet], dict[str, str]]:
    """Leaves out sets that are focal planes of one field, in folders ZStep_N.

    Returns:
      The other sets; and a reason by the folder in which the folders of planes lie.
    """
    planes: dict[tuple[pathlib.Path, str], list[channel_files.FileSet]] = {}
    for file_set in sets:
        folder = file_set.paths[0].parent
        if folder != source and _FOCAL_PLANE.fullmatch(folder.name):
            planes.setdefault((folder.parent, file_set.name), []).append(file_set)
    stacks = {key: found for key, found in planes.items() if len(found) > 1}
    left_out = {file_set for found in stacks.values() for file_set in found}
    failures = {}
    for parent in dict.fromkeys(parent for parent, _ in stacks):
        of_parent = [s.paths[0].parent for s in left_out]
        folders = {folder for folder in of_parent if folder.parent == parent}
        failures[str(parent)] = (
            f"{parent}: {len(folders)} folders ({inventory.named(folders)}) hold focal "
            "planes of the same fields, each of which would count as a field. Leave one "
            "of these folders in the input, such as that of the projection, or export "
            "each field as one file."
        )
    return [file_set for file_set in sets if file_set not in left_out], failures


def _folder_at(
    path: pathlib.Path, source: pathlib.Path, depth: int
) -> pathlib.Path | None:
    """Returns the folder of a file that lies `depth` folders below the source, if any."""
    parts = path.relative_to(source).parts[: depth + 1] if source.is_dir() else ()
    folder = source.joinpath(*parts)
    return folder if len(parts) > depth and folder != path else None


def _group_of(
    file_set: channel_files.FileSet,
    source: pathlib.Path,
    cell_type: str,
    pattern: groups.GroupPattern | None,
    folder: str,
) -> str:
    path = file_set.paths[0]
    if pattern is None:
        return groups.normalized(f"{cell_type}/{folder or stem_of(file_set.name)}")
    # The path starts with the source's own folder, so that folders above cannot match.
    return pattern.group_in(path.relative_to(source.parent).as_posix(), str(path))
