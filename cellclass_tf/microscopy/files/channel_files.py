"""Sets of files that hold one channel each, such as MetaXpress writes them."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import pathlib
import re
from collections.abc import Iterator, Sequence

import numpy as np

from cellclass_tf.core.micrograph import Micrograph
from cellclass_tf.errors import InputError
from cellclass_tf.microscopy import readers

# Plate_B02_s1_w1.TIF, with or without the identifier that the software puts behind w1.
METAXPRESS = (
    r"_(?P<channel>w\d)"
    r"([0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12})?(?=\.tiff?$)"
)
# What joins the parts of a set in the manifest's columns raw_file and raw_sha256.
SEPARATOR = "|"

_MOST_CHANNELS = 16


@dataclasses.dataclass(frozen=True)
class FileSet:
    """The files of one field, or of one file with all its channels.

    Attributes:
      paths: one a channel; a single one if the file holds all channels.
      channels: what the names call the channels; empty for a single file.
      name: the file's name without the channel's part.
    """

    paths: tuple[pathlib.Path, ...]
    channels: tuple[str, ...]
    name: str


def group(
    paths: Sequence[pathlib.Path], pattern: str | None
) -> tuple[list[FileSet], dict[str, str]]:
    """Puts files together that are the channels of one field.

    Args:
      paths: of all files, sorted.
      pattern: regular expression with a group `channel`, searched in the file's name:
        names that are alike without what it matches are one field. None knows
        MetaXpress's names and leaves every other file alone.

    Returns:
      The sets in the order of their first files, and by path why a file belongs to none.

    Raises:
      InputError: if the pattern is no regular expression or has no group `channel`.
    """
    expression = _compile(pattern)
    sets = collections.defaultdict(dict)
    failures = {}
    for path in paths:
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
                f"{path}: channel {channel!r} of this field is in {of_set[channel].name} "
                "already. Keep one of the two."
            )
            continue
        of_set[channel] = path
    return [_file_set(name, found) for (_, name), found in sets.items()], failures


def read(
    paths: Sequence[pathlib.Path],
    channels: Sequence[str],
    *,
    projection: str,
    hashed: bool = True,
) -> Iterator[Micrograph]:
    """Yields the fields of view of a set, with one channel a file.

    `projection` and `hashed` are those of `readers.read_micrographs`. Channels are named
    by the files' names and what the files call them ('w1 DAPI').

    Raises:
      InputError: as `readers.read_micrographs`, and if a file has more than one channel
        or the files differ in size or in number of fields.
    """
    if len(paths) == 1:
        yield from readers.read_micrographs(
            paths[0], projection=projection, hashed=hashed
        )
        return
    streams = [
        readers.read_micrographs(path, projection=projection, hashed=hashed)
        for path in paths
    ]
    for fields in itertools.zip_longest(*streams):
        yield _join_channels(fields, paths, channels)


def _join_channels(fields, paths, channels) -> Micrograph:
    for field, path in zip(fields, paths, strict=True):
        shape = None if field is None else field.pixels.shape
        expected = (1, *fields[0].size_yx) if fields[0] is not None else None
        if shape is None or shape != expected:
            raise InputError(
                f"{path}: expected one channel of {expected and expected[1:]} px like "
                f"{paths[0].name}, got (channels, height, width) {shape}. The files of "
                "a set must be fields of one size, one channel each."
            )
    names = (
        " ".join(filter(None, (channel, field.channel_names[0])))
        for channel, field in zip(channels, fields, strict=True)
    )
    return dataclasses.replace(
        fields[0],
        pixels=np.concatenate([field.pixels for field in fields]),
        channel_names=tuple(names),
        emissions_nm=tuple((field.emissions_nm or (None,))[0] for field in fields),
        file=SEPARATOR.join(field.file for field in fields),
        sha256=SEPARATOR.join(field.sha256 for field in fields),
    )


def _compile(pattern: str | None) -> re.Pattern:
    try:
        expression = re.compile(pattern or METAXPRESS, re.IGNORECASE)
    except re.error as error:
        raise InputError(
            f"--channel_files={pattern}: no regular expression ({error})."
        ) from error
    if "channel" not in expression.groupindex:
        raise InputError(
            f"--channel_files={pattern}: expected a group (?P<channel>...) that names "
            r"the channel, for example _(?P<channel>c\d)\."
        )
    return expression


def _file_set(name: str, found: dict[str, pathlib.Path]) -> FileSet:
    if len(found) == 1:
        # The file may hold all channels, whatever its name.
        (path,) = found.values()
        return FileSet((path,), (), path.name)
    channels = sorted(found)[:_MOST_CHANNELS]
    return FileSet(tuple(found[c] for c in channels), tuple(channels), name)
