"""Groups files that hold one field together, by their names or their OME metadata."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from cellclass_tf.core.micrograph import FILE_SEPARATOR, Micrograph
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers
from cellclass_tf.microscopy.formats import base

# Plate_B02_s1_w1.TIF, with or without the identifier that the software adds after w1.
METAXPRESS = (
    r"_(?P<channel>w\d)"
    r"([0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12})?(?=\.tiff?$)"
)

_MOST_CHANNELS = 16
# Pixel sizes of the channels of a field that differ by less are rounded.
_SAME_SIZE = 0.01


@dataclasses.dataclass(frozen=True)
class FileSet:
    """The files of one field, or one file that holds all channels of its fields.

    Attributes:
      paths: one file per channel; or a file with all channels, followed by the files that
        hold other parts of its images, see `readers.files_of`.
      channels: the channels' names in the file names; empty if a file has all channels.
      name: the file's name without the part that names the channel.
      in_folder: the channels of all sets of the folder, sorted. If a set lacks one of them,
        its indices are not those of the other sets.
    """

    paths: tuple[pathlib.Path, ...]
    channels: tuple[str, ...]
    name: str
    in_folder: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """The channels that other sets of the folder have, and this one has not."""
        return tuple(c for c in self.in_folder if c not in self.channels)


class Grouped(NamedTuple):
    """The sets that files belong to.

    Attributes:
      sets: the sets, in the order of their first files.
      failures: reasons by path of files that belong to no set.
      parts: files that are read with another file, as their metadata say.
    """

    sets: list[FileSet]
    failures: dict[str, str]
    parts: list[pathlib.Path]


def group(paths: Sequence[pathlib.Path], pattern: str | None) -> Grouped:
    """Groups the files that are parts of one field.

    The metadata of OME-TIFF files take precedence over file names.

    Args:
      paths: paths of all files, sorted.
      pattern: regular expression with a group `channel`, searched in file names. Files
        whose names are equal without the match are one field. None matches the names
        that MetaXpress writes; every other file is then a set of its own.

    Raises:
      InputError: if the pattern is not a valid regular expression or has no group
        `channel`.
    """
    expression = _compile(pattern)
    sets: dict[tuple[pathlib.Path, str], dict[str, pathlib.Path]]
    sets, whole = collections.defaultdict(dict), []
    failures, parts, known = {}, [], set(paths)
    for path in paths:
        try:
            files = readers.files_of(path)
        except base.PartOfAnother as error:
            if error.whole in known:
                parts.append(path)
            else:
                failures[str(path)] = str(error)
            continue
        # The error is reported when the file is read, and concerns no other file.
        except InputError:
            files = (path,)
        if len(files) > 1:
            whole.append(FileSet(files, (), path.name))
            continue
        match = expression.search(path.name)
        channel = match["channel"] if match else ""
        if pattern and not channel:
            failures[str(path)] = (
                f"{path}: --channel_files={pattern} matches nothing in its name."
            )
            continue
        name = path.name[: match.start()] + path.name[match.end() :] if match else ""
        of_set = sets[path.parent, name or path.name]
        if channel in of_set:
            failures[str(path)] = (
                f"{path}: channel {channel!r} of this field is also in "
                f"{of_set[channel].name}. Keep one of the two files."
            )
            continue
        of_set[channel] = path
    for (folder, name), of_set in list(sets.items()):
        if len(of_set) > _MOST_CHANNELS:
            del sets[folder, name]
            failures[str(folder / name)] = (
                f"{folder / name}: {len(of_set)} files are channels of this field "
                f"according to --channel_files={pattern}; expected at most "
                f"{_MOST_CHANNELS}. Let `channel` match the channel alone, and not "
                "positions or time points."
            )
    in_folder: dict[pathlib.Path, set[str]] = collections.defaultdict(set)
    for (folder, _), of_set in sets.items():
        if len(of_set) > 1:
            in_folder[folder].update(of_set)
    found = [
        _file_set(name, of_set, in_folder[folder])
        for (folder, name), of_set in sets.items()
    ]
    found = sorted([*found, *whole], key=lambda file_set: file_set.paths[0])
    return Grouped(found, failures, parts)


def read(
    paths: Sequence[pathlib.Path],
    channels: Sequence[str],
    *,
    projection: str,
    hashed: bool = True,
    allow_lossy: bool = False,
    judged: Callable[[Micrograph], Sequence[int]] | None = None,
) -> Iterator[Micrograph]:
    """Yields the fields of view of a set of files.

    The options are those of `readers.read_micrographs`. The name of a channel joins its
    name in the file name and its name in the file ('w1 DAPI').

    Raises:
      InputError: as `readers.read_micrographs`, and if a file has more than one channel
        or the files differ in size or in number of fields.
    """
    fields_of = functools.partial(
        readers.read_micrographs,
        projection=projection,
        hashed=hashed,
        allow_lossy=allow_lossy,
        judged=judged,
    )
    if not channels:
        yield from fields_of(paths[0])
        return
    for fields in itertools.zip_longest(*map(fields_of, paths)):
        yield _join_channels(fields, paths, channels)


def _join_channels(
    found: Sequence[Micrograph | None],
    paths: Sequence[pathlib.Path],
    channels: Sequence[str],
) -> Micrograph:
    grey = [field and _without_colour(field) for field in found]
    expected = None if grey[0] is None else (1, *grey[0].size_yx)
    fields: list[Micrograph] = []
    for field, path in zip(grey, paths, strict=True):
        if field is None or field.pixels.shape != expected:
            shape = None if field is None else field.pixels.shape
            raise InputError(
                f"{path}: expected one channel of {expected and expected[1:]} px like "
                f"{paths[0].name}, got (channels, height, width) {shape}. The files of "
                "a set must have one channel each, and the same size."
            )
        fields.append(field)
    names = (
        " ".join(filter(None, (channel, field.channel_names[0])))
        for channel, field in zip(channels, fields, strict=True)
    )
    size, problem = _pixel_size(fields)
    return dataclasses.replace(
        fields[0],
        pixels=np.concatenate([field.pixels for field in fields]),
        channel_names=tuple(names),
        pixel_size_um=size,
        pixel_size_problem=problem,
        scene_name=next((f.scene_name for f in fields if f.scene_name), ""),
        stage_um=next((f.stage_um for f in fields if f.stage_um), None),
        z=FILE_SEPARATOR.join(dict.fromkeys(f.z for f in fields if f.z)),
        emissions_nm=tuple((field.emissions_nm or (None,))[0] for field in fields),
        file=FILE_SEPARATOR.join(field.file for field in fields),
        sha256=FILE_SEPARATOR.join(field.sha256 for field in fields),
    )


def _pixel_size(fields: Sequence[Micrograph]) -> tuple[float | None, str]:
    """Returns the pixel size that files state, and why it is not used if they differ."""
    known = [f.pixel_size_um for f in fields if f.pixel_size_um]
    if not known:
        problems = (f.pixel_size_problem for f in fields if f.pixel_size_problem)
        return None, next(problems, "")
    if max(known) > min(known) * (1 + _SAME_SIZE):
        sizes = " and ".join(f"{size:g} µm" for size in dict.fromkeys(known))
        return None, f"the files of one field say {sizes}"
    return known[0], ""


def _without_colour(field: Micrograph) -> Micrograph:
    """Returns the one channel of a picture saved in grey colours, or a single colour."""
    if not field.is_rgb:
        return field
    pixels = field.pixels
    shown = [n for n, plane in enumerate(pixels) if plane.any()]
    if len(shown) > 1 and all((plane == pixels[0]).all() for plane in pixels[1:]):
        shown = shown[:1]
    if len(shown) > 1:
        colours = " and ".join(field.channel_names[n] for n in shown)
        raise InputError(
            f"{field.file}: expected one channel, but in this colour picture {colours} "
            "differ. Export the channels in grey."
        )
    place = shown[0] if shown else 0
    return dataclasses.replace(
        field,
        pixels=pixels[[place]],
        channel_names=("",),
        emissions_nm=(),
        is_rgb=False,
    )


def _compile(pattern: str | None) -> re.Pattern:
    try:
        expression = re.compile(pattern or METAXPRESS, re.IGNORECASE)
    except re.error as error:
        raise InputError(
            f"--channel_files={pattern}: not a valid regular expression ({error})."
        ) from error
    if "channel" not in expression.groupindex:
        raise InputError(
            f"--channel_files={pattern}: expected a group (?P<channel>...) that names "
            r"the channel, for example _(?P<channel>c\d)\."
        )
    return expression


def _file_set(
    name: str, found: dict[str, pathlib.Path], in_folder: Iterable[str]
) -> FileSet:
    if len(found) == 1:
        # A single file may hold all channels, whatever its name.
        (path,) = found.values()
        return FileSet((path,), (), path.name)
    channels = sorted(found)
    paths = tuple(found[c] for c in channels)
    return FileSet(paths, tuple(channels), name, tuple(sorted(in_folder)))
