"""Lists the files of a folder of images: those to read, and why others are not."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from cellclass_tf.core.study import Study
from cellclass_tf.errors import InputError, one_line
from cellclass_tf.microscopy.formats import jpeg
from cellclass_tf.storage.paths import check_is_file, check_name

_FOLDER_SUFFIX = ".zarr"
_METAXPRESS_THUMBNAIL = re.compile(r"_w\d_thumb", re.IGNORECASE)
_PICTURES = (
    ".jp2",
    ".jpf",
    ".jpx",
    ".bmp",
    ".gif",
    ".webp",
    ".heic",
    ".avi",
    ".mp4",
    ".mov",
)
_VENDORS = (
    *(".oir", ".vsi", ".ims", ".zvi", ".mvd2", ".ics", ".ids", ".lei", ".scn", ".svs"),
    *(".ndpi", ".qptiff", ".mrxs", ".bif", ".dcm", ".flex", ".sld", ".sldy", ".obf"),
    *(".msr", ".ipw", ".pcoraw", ".btf", ".c01", ".dib", ".nrrd", ".nii", ".mrc"),
)
# Endings of images that are not read, and advice.
FOREIGN = (
    dict.fromkeys(
        jpeg.FORMAT.suffixes, "JPEG compression changes pixels. Take the original files"
    )
    | dict.fromkeys(_PICTURES, "Export them as TIFF or PNG, without loss")
    | dict.fromkeys(_VENDORS, "Export them as OME-TIFF from the microscope's software")
)
# Endings of the images that other programs store next to their cells.
BESIDE_CELLS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Inventory:
    """The files of a folder.

    Attributes:
      images: the files to read, sorted.
      failures: reasons why images are not read: one for each ending that is not
        supported, and one for each file with another fault.
      notes: a line for each kind of file that is read or left out.
      apart: files that were asked for apart from the images, sorted; in no note.
    """

    images: tuple[pathlib.Path, ...]
    failures: dict[str, str]
    notes: tuple[str, ...]
    apart: tuple[pathlib.Path, ...] = ()


def take(
    source: pathlib.Path,
    suffixes: Collection[str],
    folders: bool = True,
    advice: Mapping[str, str] | None = None,
    apart: str = "",
) -> Inventory:
    """Lists the files below a folder, also in linked folders.

    Args:
      source: the folder, or a file, which is listed without any check.
      suffixes: endings of images, in lower case.
      folders: whether images may be folders (OME-Zarr).
      advice: additional advice for images that are not read, by ending.
      apart: ending of files to list in `Inventory.apart`, in lower case; '' for none.
    """
    if not source.is_dir() or (folders and source.suffix.lower() == _FOLDER_SUFFIX):
        return Inventory((source,), {}, ())
    images: list[pathlib.Path] = []
    others: list[pathlib.Path] = []
    failures: dict[str, str] = {}
    left_out: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
    foreign: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
    endings = {*suffixes, *FOREIGN} - (set() if folders else {_FOLDER_SUFFIX})
    for path in _walk(source, left_out, endings):
        suffix = path.suffix.lower()
        if suffix in FOREIGN and suffix not in suffixes:
            foreign[suffix].append(path)
        elif apart and suffix == apart and not path.name.startswith("."):
            others.append(path)
        elif suffix not in suffixes:
            left_out["of other kinds"].append(path)
        elif path.name.startswith("."):
            left_out["hidden"].append(path)
        elif _METAXPRESS_THUMBNAIL.search(path.name):
            left_out["thumbnails"].append(path)
        else:
            try:
                check_name(path)
                if not (folders and suffix == _FOLDER_SUFFIX and path.is_dir()):
                    _check_file(path)
                images.append(path)
            except InputError as error:
                failures[one_line(str(path))] = str(error)
    for suffix, paths in sorted(foreign.items()):
        failures[one_line(f"{source}: *{suffix}")] = (
            f"{source}: {len(paths)} files ending in {suffix} are not read "
            f"({named(paths)}). {FOREIGN[suffix]}{(advice or {}).get(suffix, '')}."
        )
    failures |= _empty_folders(source, images, foreign)
    counts = collections.Counter(path.suffix.lower() for path in images)
    told = ", ".join(f"{n} {suffix}" for suffix, n in sorted(counts.items()))
    notes = [f"read: {told}"] if told else []
    for kind, paths in sorted(left_out.items()):
        notes += note("left out", paths, kind)
    return Inventory(
        tuple(sorted(images)), failures, tuple(notes), tuple(sorted(others))
    )


def files_below(source: pathlib.Path) -> list[pathlib.Path]:
    """Returns all files below a folder, sorted, also in linked folders.

    Hidden files, hidden folders and studies in the folder are left out.
    """
    found = _walk(source, collections.defaultdict(list), ())
    return sorted(path for path in found if not path.name.startswith("."))


def note(word: str, paths: Collection[pathlib.Path], what: str) -> tuple[str, ...]:
    """Returns a line on some files for `Inventory.notes`; nothing without files."""
    return (f"{word}: {len(paths)} {what} ({named(paths)})",) if paths else ()


def _walk(
    source: pathlib.Path,
    left_out: dict[str, list[pathlib.Path]],
    endings: Collection[str],
) -> Iterator[pathlib.Path]:
    """Yields files, and folders with an image's ending; linked folders only once."""
    seen: set[str] = set()
    for name, folders, files in os.walk(source, followlinks=True):
        folder = pathlib.Path(name)
        real = os.path.realpath(folder)
        if real in seen:
            left_out["folders that a link leads to again"].append(folder)
            folders.clear()
            continue
        seen.add(real)
        for inner in sorted(folders):
            path = folder / inner
            suffix = path.suffix.lower()
            # An OIF file keeps its planes in a folder beside it.
            if inner.startswith(".") or suffix == ".files":
                folders.remove(inner)
            elif Study.exists(path):
                left_out["studies"].append(path)
                folders.remove(inner)
            elif suffix in endings:
                folders.remove(inner)
                yield path
        yield from (folder / name for name in sorted(files))


def _check_file(path: pathlib.Path) -> None:
    if path.is_dir():
        raise InputError(
            f"{path}: a folder whose name ends like that of a file. Rename it, or move the "
            "files in it to another folder."
        )
    check_is_file(path)


def _empty_folders(
    source: pathlib.Path,
    images: Iterable[pathlib.Path],
    foreign: Mapping[str, list[pathlib.Path]],
) -> dict[str, str]:
    """Reports sub-folders of the source (cell types) of which no file is read."""
    skipped = [path for paths in foreign.values() for path in paths]
    read = {path.relative_to(source).parts[0] for path in images}
    empty = {p.relative_to(source).parts[0] for p in skipped if p.parent != source}
    return {
        one_line(f"{source / name}"): (
            f"{source / name}: none of its files is read, so there is no image of {name}."
        )
        for name in sorted(empty - read)
    }


def named(paths: Collection[pathlib.Path]) -> str:
    """Lists the names of the first few files, for notes."""
    shown = [one_line(path.name) for path in sorted(paths)[:_SHOWN]]
    return ", ".join([*shown, "…"] if len(paths) > _SHOWN else shown)
