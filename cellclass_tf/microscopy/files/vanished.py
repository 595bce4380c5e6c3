"""Finds images of a study whose raw files have left the input."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence

from cellclass_tf.core.manifest import REJECTED
from cellclass_tf.core.micrograph import FILE_SEPARATOR
from cellclass_tf.core.study import ImageRow, Study

_LISTED = 3


def notes(
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
    listed = ", ".join(gone[:_LISTED]) + (", …" if gone[_LISTED:] else "")
    told = (
        f"{len(gone)} images stay in the study although their raw file, or their scene in "
        f"it, is no longer in {source}: {listed}. To leave them out, write rejected into "
        f"their column verdict in {study.manifest_path.name}"
    )
    return (told,)


def _has_left(row: ImageRow, source: pathlib.Path) -> bool:
    if not row.raw_file or os.path.lexists(row.raw_file):
        return False
    paths = list(map(pathlib.Path, row.raw_file.split(FILE_SEPARATOR)))
    return paths[0].is_relative_to(source) and not all(map(os.path.lexists, paths))
