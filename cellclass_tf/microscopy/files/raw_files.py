"""Finds raw files, and says of each its cell type and acquisition group."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re

from absl import logging

from cellclass_tf.core.manifest import image_name
from cellclass_tf.errors import InputError, one_line
from cellclass_tf.microscopy import readers
from cellclass_tf.microscopy.files import channel_files
from cellclass_tf.splits import groups
from cellclass_tf.storage.paths import check_is_file, check_name

_FOLDER_SUFFIX = ".zarr"
_METAXPRESS_THUMBNAIL = re.compile(r"_w\d_thumb", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class RawFile:
    """One raw file, or a set of files with one channel each.

    Attributes:
      files: the file or files.
      cell_type: its type, or `mixed`.
      group: name of the dish, well or slide.
      grouped: whether a pattern gave the group; otherwise each file is its own.
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
        return channel_files.SEPARATOR.join(map(str, self.files.paths))

    @property
    def stem(self) -> str:
        """The file's name without its ending, fit for an image's name."""
        return stem_of(self.files.name)


def find(
    source: pathlib.Path,
    cell_type: str | None,
    group: str | None,
    channel_pattern: str | None = None,
) -> tuple[list[RawFile], dict[str, str]]:
    """Finds the raw files in a folder, or takes one file.

    Args:
      source: a file, or a folder whose sub-folders are named after cell types.
      cell_type: the type of all files; None to take it from the sub-folders.
      group: regular expression; what it matches last in the path from `source` on names
        the group (its first group, if it has one). None makes each file a group.
      channel_pattern: see `channel_files.group`.

    Returns:
      The files, sorted, and by path the reason why a file cannot be taken.

    Raises:
      InputError: if nothing is left, or an expression is none.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist.")
    paths, failures = _paths_below(source)
    if not paths and not failures:
        raise InputError(
            f"{source}: found no image to convert; expected files ending in "
            f"{', '.join(readers.SUFFIXES)}, or sub-folders of them."
        )
    pattern = groups.pattern_of(group)
    sets, alone = channel_files.group(paths, channel_pattern)
    failures |= alone
    found = []
    for file_set in sets:
        path = file_set.paths[0]
        try:
            name = cell_type or _type_from_folder(path, source)
            group_name = _group_of(file_set, source, name, pattern)
            found.append(RawFile(file_set, name, group_name, bool(pattern)))
        except InputError as error:
            failures[str(path)] = str(error)
    if not found:
        raise InputError(next(iter(failures.values())))
    return found, failures


def stem_of(name: str) -> str:
    """A file's name without an image's ending; see `manifest.image_name`."""
    return image_name(name, readers.SUFFIXES)


def _paths_below(source: pathlib.Path) -> tuple[list[pathlib.Path], dict[str, str]]:
    """Finds the images in a folder; other folders with an image's ending are failures."""
    if source.is_file() or source.suffix.lower() == _FOLDER_SUFFIX:
        return [source], {}
    paths, failures, others = [], {}, 0
    for folder, folders, names in os.walk(source):
        folder = pathlib.Path(folder)
        for name in list(folders):
            suffix = pathlib.Path(name).suffix.lower()
            if suffix == _FOLDER_SUFFIX:
                paths.append(folder / name)
            elif suffix in readers.SUFFIXES:
                failures[str(folder / name)] = (
                    f"{folder / name}: a folder, but its name ends like a file's. "
                    "Rename it, or give the files in it another place."
                )
            # An OIF file keeps its planes in a folder beside it.
            elif suffix != ".files" and not name.startswith("."):
                continue
            folders.remove(name)
        shown = [folder / name for name in names if not name.startswith(".")]
        images = [path for path in shown if _is_image(path)]
        for path in images:
            try:
                check_name(path)
                check_is_file(path)
                paths.append(path)
            except InputError as error:
                failures[one_line(str(path))] = str(error)
        others += len(shown) - len(images)
    if others:
        logging.info("%s: %d files that are no images are left out.", source, others)
    return sorted(paths), failures


def _is_image(path: pathlib.Path) -> bool:
    """Whether a file ends like an image."""
    is_thumbnail = _METAXPRESS_THUMBNAIL.search(path.name)
    return path.suffix.lower() in readers.SUFFIXES and not is_thumbnail


def _type_from_folder(path: pathlib.Path, source: pathlib.Path) -> str:
    parts = path.relative_to(source).parts if source.is_dir() else (path.name,)
    if len(parts) < 2:
        raise InputError(
            f"{path}: of which cell type? Say --cell_type=NAME, or put the files into "
            "sub-folders named after their types."
        )
    return parts[0]


def _group_of(
    file_set, source, cell_type: str, pattern: groups.GroupPattern | None
) -> str:
    path = file_set.paths[0]
    if pattern is None:
        return f"{cell_type}/{stem_of(file_set.name)}"
    # Folders above the source, and the last match, so that nothing above misleads.
    return pattern.group_in(path.relative_to(source.parent).as_posix(), str(path))
