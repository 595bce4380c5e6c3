"""Compares the images of a study with the raw files of a conversion."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence

from cellclass_tf.core.manifest import REJECTED
from cellclass_tf.core.micrograph import FILE_SEPARATOR
from cellclass_tf.core.study import ImageRow, Study
from cellclass_tf.errors import first_names
from cellclass_tf.microscopy.files.raw_files import RawFile
from cellclass_tf.splits import groups

_LISTED = 3


def notes_of_vanished(
    study: Study, source: pathlib.Path, made: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Returns notes of images that stay in the study although their raw data are gone.

    That is the case if a raw file was deleted, renamed or moved to the folder of another
    type, and for scenes and time points that a changed file does not have any more.

    Args:
      study: the study.
      source: the input, as an absolute path.
      made: names of the images that were converted, by raw file.
    """
    rows = [row for row in study.rows() if row.verdict != REJECTED]
    gone = [
        row
        for row in rows
        if _has_left(row, source)
        or (row.raw_file in made and row.image not in made[row.raw_file])
    ]
    if not gone:
        return ()
    names = first_names([row.image for row in gone], _LISTED)
    told = (
        f"{len(gone)} images stay in the study although their raw file, or their scene in "
        f"it, is no longer in {source}: {names}. To leave them out, write rejected into "
        f"their column verdict in {study.manifest_path.name}"
    )
    return (told, *_notes_of_corrected(study, rows, gone))


def _notes_of_corrected(
    study: Study, rows: Sequence[ImageRow], gone: Sequence[ImageRow]
) -> tuple[str, ...]:
    """Returns a note of corrected cells whose field is now another image of the study."""
    left = {row.image for row in gone}
    now = {row.source: row for row in rows if row.source and row.image not in left}
    moved = [
        f"{study.cells_path(row)} to {study.cells_path(now[row.source])}"
        for row in gone
        if row.corrected and row.source in now and not now[row.source].corrected
    ]
    if not moved:
        return ()
    told = (
        f"{len(moved)} of them have corrected cells, and the same raw data are in the study "
        f"under another name. To keep the corrections, copy {first_names(moved, _LISTED)}"
    )
    return (told,)


def notes_of_deleted_rows(
    study: Study, made: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Returns a note if rows that a person deleted from images.csv are added again.

    Args:
      study: the study before the rows are written.
      made: names of the images that were converted, by raw file.
    """
    again = study.lost_rows(image for images in made.values() for image in images)
    if not again:
        return ()
    name = study.manifest_path.name
    told = (
        f"{len(again)} images whose rows were deleted from {name} are in it again, since "
        f"their raw files are there: {first_names(again, _LISTED)}. To leave images out, "
        "keep their rows, and write rejected into their column verdict"
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
        f"contrast and one split: {first_names(shared, _LISTED)}. If these are different "
        "dishes, rename the folders, and convert into a new study"
    )
    return (told,)


def _is_below(row: ImageRow, source: pathlib.Path) -> bool:
    first = row.raw_file.split(FILE_SEPARATOR)[0]
    return pathlib.Path(first).is_relative_to(source)


def _has_left(row: ImageRow, source: pathlib.Path) -> bool:
    if not row.raw_file or os.path.lexists(row.raw_file):
        return False
    names = row.raw_file.split(FILE_SEPARATOR)
    return _is_below(row, source) and not all(map(os.path.lexists, names))
