"""Compares the images of a study with the raw files of a conversion."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence

from cellclass_tf.core.manifest import REJECTED
from cellclass_tf.core.micrograph import FILE_SEPARATOR
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.microscopy.files.raw_files import RawFile
from cellclass_tf.splits import groups

_LISTED = 3


def notes_of_vanished(
    study: Study, source: pathlib.Path, made: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Returns a note if images stay in the study although their raw data are gone.

    That is the case if a raw file was deleted, renamed or moved to the folder of another
    type, and for scenes and time points that a changed file does not have any more.

    Args:
      study: the study.
      source: the input, as an absolute path.
      made: names of the images that were converted, by raw file.
    """
    rows = [row for row in study.rows() if row.verdict != REJECTED]
    gone = [
        row.image
        for row in rows
        if _has_left(row, source)
        or (row.raw_file in made and row.image not in made[row.raw_file])
    ]
    if not gone:
        return ()
    told = (
        f"{len(gone)} images stay in the study although their raw file, or their scene in "
        f"it, is no longer in {source}: {_listed(gone)}. To leave them out, write rejected "
        f"into their column verdict in {study.manifest_path.name}"
    )
    return (told,)


def notes_of_shared_dishes(
    study: Study, source: pathlib.Path, raws: Sequence[RawFile]
) -> tuple[str, ...]:
    """Returns a note if dishes of this input have the names of dishes of another one.

    Args:
      study: the study before the conversion.
      source: the input, as an absolute path.
      raws: the raw files of the input.
    """
    named = {raw.group for raw in raws if raw.grouped}
    shared = sorted(
        {
            row.group
            for row in study.rows()
            if groups.normalized(row.group) in named
            and row.raw_file
            and not _is_below(row, source)
        }
    )
    if not shared:
        return ()
    told = (
        f"{len(shared)} dishes have fields of other inputs, too, with which they share one "
        f"contrast and one split: {_listed(shared)}. If these are different dishes, rename "
        "the folders, and convert into a new study"
    )
    return (told,)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if names[_LISTED:] else "")


def _is_below(row: ImageRow, source: pathlib.Path) -> bool:
    first = row.raw_file.split(FILE_SEPARATOR)[0]
    return pathlib.Path(first).is_relative_to(source)


def _has_left(row: ImageRow, source: pathlib.Path) -> bool:
    if not row.raw_file or os.path.lexists(row.raw_file):
        return False
    names = row.raw_file.split(FILE_SEPARATOR)
    return _is_below(row, source) and not all(map(os.path.lexists, names))
